from __future__ import annotations

from typing import Any

import pytest
import torch

from srgui.errors import ModelError
from srgui.models.build import build


@pytest.mark.parametrize(
    "shape",
    [
        {"kind": "compact", "features": 6, "convs": 1, "scale": 2},
        {"kind": "srcnn", "scale": 3},
        {"kind": "rrdb", "features": 8, "blocks": 1},
        {"kind": "rrdb", "features": 8, "blocks": 1, "scale": 2},
    ],
)
def test_a_network_has_the_scale_of_its_shape_and_the_weights_of_its_seed(shape: dict[str, Any]) -> None:
    network, again, other = build(shape, 1), build(shape, 1), build(shape, 2)
    with torch.inference_mode():
        sr = network(torch.rand(2, 3, 8, 10))
    assert sr.shape == (2, 3, 8 * network.scale, 10 * network.scale)
    assert network.scale == shape.get("scale", 4)
    pairs = list(zip(network.module.parameters(), again.module.parameters(), other.module.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not all(torch.equal(a, c) for a, _, c in pairs)
    assert not any(p.requires_grad for p in network.module.parameters())
    assert not network.module.training


def test_building_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    build({"kind": "srcnn"})
    assert torch.equal(torch.rand(1), expected)


def test_rrdb_has_the_published_size() -> None:
    with torch.device("meta"):
        assert build({"kind": "rrdb"}).parameters == 16_697_987


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"kind": "rrbd"}, "there is no network 'rrbd' to build. Did you mean rrdb"),
        ({}, "there is no network 'None'"),
        ({"kind": "srcnn", "features": 3}, "a srcnn network has no features; it has scale"),
    ],
)
def test_an_unknown_shape_is_refused(shape: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError) as caught:
        build(shape)
    assert message in str(caught.value)
