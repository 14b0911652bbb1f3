"""Adapters layer by layer: what merging them gives, without a second copy of the weights."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import pytest
import torch
from torch import nn

from srgui.errors import AdapterError
from srgui.lora.adapter import Adapter, attach
from srgui.lora.live import attach_live

Make = Callable[..., Adapter]


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(4, 6, 3, padding=1),
        nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=3, padding_mode="circular"),
        nn.Conv2d(6, 8, 1, bias=False),
        nn.Flatten(2),
        nn.Linear(25, 7),
    ]
    return nn.Sequential(*layers).eval().requires_grad_(False)


X = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("spec", [{}, {"dora": True}, {"rslora": True, "alpha": 3.0}, {"rank": "50%"}])
def test_it_computes_what_merged_weights_do(net: nn.Module, adapter: Make, spec: dict[str, object]) -> None:
    parts = [(adapter(net, 1, **spec), 0.7), (adapter(net, 2), -1.3)]
    assert torch.allclose(attach_live(net, parts)(X), attach(net, parts)(X), atol=1e-5)
    for order in permutations(parts):
        assert torch.equal(attach_live(net, order)(X), attach_live(net, parts)(X))


def test_strength_0_is_the_base_bit_for_bit_and_nothing_is_written(net: nn.Module, adapter: Make) -> None:
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    expected = net(X)
    strong = attach_live(net, [(adapter(net, 1), 5.0)])
    assert torch.equal(attach_live(net, [(adapter(net, 1), 0.0)])(X), expected)
    assert not torch.equal(strong(X), expected)
    assert torch.equal(net(X), expected)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_it_shares_the_memory_of_every_parameter(net: nn.Module, adapter: Make) -> None:
    attached = attach_live(net, [(adapter(net, 1), 1.0)])
    assert {p.data_ptr() for p in attached.parameters()} == {p.data_ptr() for p in net.parameters()}


def test_what_cannot_be_adapted_is_refused(net: nn.Module, adapter: Make) -> None:
    with pytest.raises(AdapterError, match="strength 11"):
        attach_live(net, [(adapter(net, 1), 11.0)])
    transposed = nn.Sequential(nn.ConvTranspose2d(4, 4, 2, 2), nn.Conv2d(4, 4, 1))
    with pytest.raises(AdapterError, match="transposed"):
        attach_live(transposed, [(adapter(transposed, 1), 1.0)])
    with pytest.raises(AdapterError, match="does not fit"):
        attach_live(net, [(adapter(transposed, 1), 1.0)])


def test_half_precision_weights_take_whole_factors(net: nn.Module, adapter: Make) -> None:
    parts = [(adapter(net, 1), 1.0)]
    half = attach_live(net.bfloat16(), parts)(X.bfloat16())
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, attach(net, parts)(X.bfloat16()))
