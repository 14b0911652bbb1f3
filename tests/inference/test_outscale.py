from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import interpolate

from srgui.errors import InputError
from srgui.inference.engine import Engine
from srgui.inference.outscale import Resized, check_outscale, prepare_at, size_at
from srgui.inference.pixel import BicubicRestorer, PixelRestorer
from srgui.models.network import Network
from srgui.protocol import Box, RestorerInfo, Run, Setting, Source
from srgui.resample import resize

INFO = RestorerInfo("test", "Test", "spandrel", 4, "none")


@pytest.fixture
def restorer(tiny: Network) -> PixelRestorer:
    return PixelRestorer(tiny, INFO, Engine(16))


@pytest.mark.parametrize("outscale", [0.1, 0.5, 1, 1.5, 2, 3.7, 4, 4.1, 8, 16])
@pytest.mark.parametrize("size", [(11, 14), (1, 9)])
def test_the_size_is_what_outscale_asks_for(
    restorer: PixelRestorer, picture: Callable[..., Tensor], outscale: float, size: tuple[int, int]
) -> None:
    prepared = prepare_at(restorer, Source(picture(*size)), outscale, Run())
    expected = tuple(max(1, round(side * outscale)) for side in size)
    assert prepared.size == expected == size_at(*size, outscale)
    assert prepared.render(Setting(), Run()).shape == (1, 3, *expected)


def test_downscaling_is_antialiased(restorer: PixelRestorer, tiny: Network, picture: Callable[..., Tensor]) -> None:
    lr = picture(20, 24)
    result = prepare_at(restorer, Source(lr), 1.5, Run()).render(Setting(), Run())
    expected = interpolate(tiny(lr), (30, 36), mode="bicubic", antialias=True)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)


def test_stripes_too_fine_for_the_result_turn_grey() -> None:
    """What an interpolation without antialiasing would turn into black, white or coarser stripes."""
    stripes = (torch.arange(64) % 2).float().expand(1, 3, 64, 64)
    half = prepare_at(BicubicRestorer(INFO), Source(stripes), 0.25, Run()).render(Setting(), Run())
    torch.testing.assert_close(half[..., 2:-2, 2:-2], torch.full((1, 3, 12, 12), 0.5), rtol=0, atol=0.02)


@pytest.mark.parametrize(("outscale", "passes"), [(1.5, 1), (2, 1), (2.5, 2), (4, 2)])
def test_a_second_pass_runs_only_above_the_scale(
    nearest: Callable[[int], nn.Module], picture: Callable[..., Tensor], outscale: float, passes: int
) -> None:
    module = nearest(2)
    restorer = PixelRestorer(Network(module, "Nearest", 2, radius=0), replace(INFO, scale=2), Engine(512))
    lr = picture(20, 30)
    result = prepare_at(restorer, Source(lr), outscale, Run()).render(Setting(), Run())
    assert module.sizes == [(20, 30), (40, 60)][:passes]
    if outscale == 4:
        assert torch.equal(result, lr.repeat_interleave(4, -1).repeat_interleave(4, -2))


def test_the_first_pass_runs_at_the_default_setting(restorer: PixelRestorer, tiny: Network, picture: Callable[..., Tensor]) -> None:
    lr = picture(9, 9)
    prepared = prepare_at(restorer, Source(lr), 16, Run())
    result = prepared.render(Setting({"pixel": 0.0}), Run())
    torch.testing.assert_close(result, resize(tiny(lr).clamp(0, 1), 144, 144), rtol=0, atol=1e-5)


@settings(max_examples=40)
@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_a_region_of_a_resized_picture_is_that_part_of_the_whole(height: int, width: int, data: st.DataObject) -> None:
    values = torch.rand(1, 3, 24, 20, generator=torch.Generator().manual_seed(3))
    inner = SimpleNamespace(size=(24, 20), render=lambda setting, run, box: values[(..., *box.slices)], close=lambda: None)
    resized = Resized(inner, (height, width))
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    box = Box(top, left, data.draw(st.integers(1, height - top)), data.draw(st.integers(1, width - left)))
    whole = resized.render(Setting(), Run())
    torch.testing.assert_close(resized.render(Setting(), Run(), box), whole[(..., *box.slices)], rtol=0, atol=1e-6)


@pytest.mark.parametrize("outscale", [0, -1, 4.5, 17, float("inf"), float("nan")])
def test_a_factor_out_of_reach_is_refused_with_what_can_be_reached(outscale: float) -> None:
    with pytest.raises(InputError, match=r"outscale \S+ is out of range; choose above 0 and up to 4 for a x2 model"):
        check_outscale(outscale, 2)


def test_sixteen_is_the_most() -> None:
    check_outscale(16, 8)
    with pytest.raises(InputError, match="up to 16"):
        check_outscale(17, 8)


def test_a_mask_is_stretched_over_what_is_resized(restorer: PixelRestorer, picture: Callable[..., Tensor]) -> None:
    prepared = prepare_at(restorer, Source(picture(8, 8)), 2, Run())
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1
    found = prepared.render(Setting(masked={"pixel": 0}, mask=mask), Run())
    outside, inside = (prepared.render(Setting({"pixel": value}), Run()) for value in (1, 0))
    torch.testing.assert_close(found[..., :3], inside[..., :3])
    torch.testing.assert_close(found[..., -3:], outside[..., -3:])
