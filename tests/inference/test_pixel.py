"""A network with adapters on it, and with a guided pair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from srgui.errors import AdapterError, InputError
from srgui.images import Layout, Picture
from srgui.inference.engine import Engine
from srgui.inference.guidance import PIXEL, SEMANTIC
from srgui.inference.picture import PreparedPicture
from srgui.inference.pixel import PixelRestorer
from srgui.lora.adapter import Adapter, attach
from srgui.lora.card import AdapterCard, Base, Role
from srgui.lora.trainable import LoraModel, LoraSpec
from srgui.models.network import Network
from srgui.protocol import RestorerInfo, Run, Setting, Source
from srgui.resample import resize

INFO = RestorerInfo("test", "Test", "spandrel", 4, "none")
Make = Callable[..., Adapter]


@pytest.fixture
def make(tiny: Network) -> Make:
    """An adapter of a role with random factors, or with a B of zeros."""

    def make(role: Role, seed: int = 0, spread: float = 0.1) -> Adapter:
        model = LoraModel(tiny.module, LoraSpec("2"), seed)
        generator = torch.Generator().manual_seed(seed + 1)
        with torch.no_grad():
            for factor in model.lora_B:
                factor.add_(torch.randn(factor.shape, generator=generator), alpha=spread)
        return Adapter(model.factors(), AdapterCard(role, role, Base("test", tiny.digest), 4, "2", "conv"))

    return make


def rendered(restorer: PixelRestorer, lr: Tensor, **values: float) -> Tensor:
    return restorer.prepare(Source(lr), Run()).render(Setting(values), Run())


def test_at_one_and_one_the_pair_is_the_network_with_both(tiny: Network, make: Make, picture: Callable[..., Tensor]) -> None:
    pixel, semantic, domain = make("pixel"), make("semantic", 1), make("domain", 2)
    restorer = PixelRestorer(tiny, INFO, Engine(None), [(semantic, 1.0), (domain, 0.5), (pixel, 1.0)])
    assert restorer.info.controls == (PIXEL, SEMANTIC)
    assert [(each.role, each.strength) for each in restorer.info.adapters] == [("semantic", 1), ("domain", 0.5), ("pixel", 1)]
    both = tiny.with_module(attach(tiny.module, [(domain, 0.5), (pixel, 1.0), (semantic, 1.0)]))
    lr = picture(12, 9)
    torch.testing.assert_close(rendered(restorer, lr), both(lr), rtol=0, atol=1e-5)


def test_at_one_and_zero_it_is_the_network_with_what_is_below_detail(
    tiny: Network, make: Make, picture: Callable[..., Tensor]
) -> None:
    pixel, semantic, domain = make("pixel"), make("semantic", 1), make("domain", 2)
    lr = picture(12, 9)
    restorer = PixelRestorer(tiny, INFO, Engine(None), [(pixel, 1.0), (semantic, 1.0), (domain, 0.5)])
    below = PixelRestorer(tiny, INFO, Engine(None), [(pixel, 1.0), (domain, 0.5)])
    assert torch.equal(rendered(restorer, lr, pixel=1, semantic=0), rendered(below, lr))
    alone = PixelRestorer(tiny, INFO, Engine(None), [(semantic, 1.0)])
    torch.testing.assert_close(rendered(alone, lr, semantic=0), tiny(lr), rtol=0, atol=1e-5)


def test_at_zero_and_zero_it_is_bicubic_bit_for_bit(tiny: Network, make: Make, picture: Callable[..., Tensor]) -> None:
    restorer = PixelRestorer(tiny, INFO, Engine(None), [(make("pixel"), 1.0), (make("semantic"), 1.0)])
    lr = picture(12, 9)
    assert torch.equal(rendered(restorer, lr, pixel=0, semantic=0), resize(lr, 48, 36))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(0, 1.5), st.floats(0, 1.5))
def test_the_result_is_pisas_equation(
    tiny: Network, make: Make, picture: Callable[..., Tensor], pixel: float, semantic: float
) -> None:
    restorer = PixelRestorer(tiny, INFO, Engine(None), [(make("pixel"), 1.0), (make("semantic", 1), 1.0)])
    lr = picture(8, 8)
    up, pix, full = (rendered(restorer, lr, pixel=p, semantic=s) for p, s in ((0, 0), (1, 0), (1, 1)))
    expected = up + pixel * (pix - up) + semantic * (full - pix)
    torch.testing.assert_close(rendered(restorer, lr, pixel=pixel, semantic=semantic), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("semantic", [0.0, 0.4, 1.0, 1.5])
def test_a_pair_of_zeros_is_the_base(tiny: Network, make: Make, picture: Callable[..., Tensor], semantic: float) -> None:
    zeros = [(make("pixel", spread=0), 1.0), (make("semantic", spread=0), 1.0)]
    lr = picture(12, 9)
    result = rendered(PixelRestorer(tiny, INFO, Engine(None), zeros), lr, semantic=semantic)
    torch.testing.assert_close(result, rendered(PixelRestorer(tiny, INFO, Engine(None)), lr), rtol=0, atol=1e-6)


def test_two_of_one_role_are_refused(tiny: Network, make: Make) -> None:
    with pytest.raises(AdapterError, match="both semantic adapters"):
        PixelRestorer(tiny, INFO, Engine(None), [(make("semantic"), 1.0), (make("semantic", 1), 1.0)])


def test_a_pixel_adapter_alone_has_no_detail_to_add(tiny: Network, make: Make, picture: Callable[..., Tensor]) -> None:
    restorer = PixelRestorer(tiny, INFO, Engine(None), [(make("pixel"), 1.0)])
    with pytest.raises(InputError, match="no 'semantic' scale"):
        rendered(restorer, picture(8, 8), semantic=1)


def test_an_adapter_of_other_weights_is_refused(tiny: Network, make: Make) -> None:
    adapter = make("pixel")
    other = Adapter(adapter.factors, replace(adapter.card, base=Base("other", "0" * 64)))
    with pytest.raises(AdapterError, match="is for other"):
        PixelRestorer(tiny, INFO, Engine(None), [(other, 1.0)])


def test_no_detail_is_invented_in_transparency(tiny: Network, make: Make) -> None:
    rng = np.random.default_rng(0)
    picture = Picture(rng.integers(0, 256, (12, 9, 3), dtype=np.uint8), rng.integers(0, 256, (12, 9), dtype=np.uint8))
    both, pixel = [(make("pixel"), 1.0), (make("semantic", 1), 1.0)], [(make("pixel"), 1.0)]
    layout = Layout(48, 36, 4, 8)
    found, faithful = (
        PreparedPicture(PixelRestorer(tiny, INFO, Engine(None), adapters), picture, 4, Run()).render(Setting(), Run(), layout)
        for adapters in (both, pixel)
    )
    assert np.array_equal(found[..., 3], faithful[..., 3])
    assert not np.array_equal(found[..., :3], faithful[..., :3])
