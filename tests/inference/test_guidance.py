from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from srgui.errors import InputError
from srgui.inference.guidance import PIXEL, SEMANTIC, Blend, base_weights, pair_weights, resolve
from srgui.protocol import Box, Run, Setting

SIZE = 6, 8
scales = st.floats(0, 1.5, allow_subnormal=False)


class Counted:
    """A plane of random values that counts its reads."""

    def __init__(self, seed: int) -> None:
        self.size = SIZE
        self.values = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(seed))
        self.reads = 0
        self.closed = False

    def read(self, box: Box, run: Run) -> Tensor:
        self.reads += 1
        return self.values[(..., *box.slices)]

    def close(self) -> None:
        self.closed = True


def base() -> tuple[Counted, Counted, Blend]:
    up, full = Counted(0), Counted(1)
    return up, full, Blend({"up": up, "full": full}, base_weights, (PIXEL,))


@given(scales)
def test_a_base_is_blended_by_the_formula(pixel: float) -> None:
    up, full, blend = base()
    expected = up.values + pixel * (full.values - up.values)
    torch.testing.assert_close(blend.render(Setting({"pixel": pixel}), Run()), expected, rtol=0, atol=1e-6)


@given(scales, scales)
def test_a_pair_is_blended_by_the_formula(pixel: float, semantic: float) -> None:
    up, pix, full = (Counted(i) for i in range(3))
    blend = Blend({"up": up, "pix": pix, "full": full}, pair_weights, (PIXEL, SEMANTIC))
    expected = up.values + pixel * (pix.values - up.values) + semantic * (full.values - pix.values)
    result = blend.render(Setting({"pixel": pixel, "semantic": semantic}), Run())
    torch.testing.assert_close(result, expected, rtol=0, atol=2e-6)


@settings(max_examples=30)
@given(scales, st.integers(0, 5), st.integers(0, 7), st.integers(1, 6), st.integers(1, 8))
def test_a_region_is_that_part_of_the_whole(pixel: float, top: int, left: int, height: int, width: int) -> None:
    _, _, blend = base()
    box = Box(top, left, min(height, 6 - top), min(width, 8 - left))
    setting = Setting({"pixel": pixel})
    assert torch.equal(blend.render(setting, Run(), box), blend.render(setting, Run())[(..., *box.slices)])


@pytest.mark.parametrize(("pixel", "reads"), [(None, (0, 1)), (1.0, (0, 1)), (0.0, (1, 0)), (0.5, (1, 1)), (1.5, (1, 1))])
def test_only_planes_of_non_zero_weight_are_read(pixel: float | None, reads: tuple[int, int]) -> None:
    up, full, blend = base()
    blend.render(Setting({} if pixel is None else {"pixel": pixel}), Run())
    assert (up.reads, full.reads) == reads


def test_one_gives_the_network_and_zero_bicubic_bit_for_bit() -> None:
    up, full, blend = base()
    assert torch.equal(blend.render(Setting({"pixel": 1.0}), Run()), full.values)
    assert torch.equal(blend.render(Setting({"pixel": 0.0}), Run()), up.values)


def test_a_mask_blends_two_settings() -> None:
    _, _, blend = base()
    mask = torch.rand(1, 1, *SIZE, generator=torch.Generator().manual_seed(9))
    mask[..., 0, 0], mask[..., 1, 1] = 0, 1
    setting = Setting({"pixel": 0.25}, masked={"pixel": 1.25}, mask=mask)
    outside, inside = (blend.render(Setting({"pixel": value}), Run()) for value in (0.25, 1.25))
    result = blend.render(setting, Run())
    torch.testing.assert_close(result, outside + mask * (inside - outside), rtol=0, atol=1e-6)
    assert torch.equal(result[..., 0, 0], outside[..., 0, 0])
    box = Box(2, 3, 3, 4)
    torch.testing.assert_close(blend.render(setting, Run(), box), result[(..., *box.slices)], rtol=0, atol=1e-7)


def test_masked_values_default_to_the_others() -> None:
    planes = {name: Counted(i) for i, name in enumerate(("up", "pix", "full"))}
    blend = Blend(planes, pair_weights, (PIXEL, SEMANTIC))
    values = {"pixel": 0.5, "semantic": 0.2}
    setting = Setting(values, masked={"semantic": 0.9}, mask=torch.ones(1, 1, *SIZE))
    expected = blend.render(Setting({**values, "semantic": 0.9}), Run())
    torch.testing.assert_close(blend.render(setting, Run()), expected, rtol=0, atol=1e-6)


def test_all_weights_zero_is_black() -> None:
    plane = Counted(0)
    blend = Blend({"a": plane}, lambda values: {"a": 0.0}, ())
    assert torch.equal(blend.render(Setting(), Run()), torch.zeros(1, 3, *SIZE))
    assert plane.reads == 0


@pytest.mark.parametrize("value", [-0.1, 1.6, float("inf"), float("nan")])
def test_a_value_out_of_range_is_refused(value: float) -> None:
    with pytest.raises(InputError, match=r"pixel \S+ is out of range; choose 0 to 1.5"):
        resolve({"pixel": value}, (PIXEL,))


def test_an_unknown_control_is_refused_and_the_known_named() -> None:
    with pytest.raises(InputError, match="no 'semantic' scale; it has pixel"):
        resolve({"semantic": 1.0}, (PIXEL,))
    with pytest.raises(InputError, match="it has none"):
        resolve({"pixel": 1.0}, ())


def test_defaults_fill_what_is_not_given() -> None:
    assert resolve({"semantic": 0.3}, (PIXEL, SEMANTIC)) == {"pixel": 1.0, "semantic": 0.3}


def test_closing_closes_every_plane() -> None:
    up, full, blend = base()
    blend.close()
    assert up.closed
    assert full.closed
