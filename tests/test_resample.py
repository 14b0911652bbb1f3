from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import interpolate

from srgui.protocol import Box
from srgui.resample import needed, resize, resize_region

SIZES = [
    ((13, 17), (52, 68)),
    ((13, 17), (31, 18)),
    ((40, 52), (10, 13)),
    ((41, 53), (7, 20)),
    ((300, 9), (31, 9)),
    ((5, 300), (20, 1200)),
    ((9, 9), (9, 9)),
    ((16, 16), (5, 40)),
    ((30, 30), (1, 1)),
    ((1, 7), (4, 28)),
    ((1, 1), (5, 3)),
]


@st.composite
def regions(draw: st.DrawFn) -> tuple[tuple[int, int], tuple[int, int], Box]:
    """A size, another, and a region of the other."""
    side = st.integers(1, 60)
    size, target = (draw(side), draw(side)), (draw(side), draw(side))
    top, left = draw(st.integers(0, target[0] - 1)), draw(st.integers(0, target[1] - 1))
    height, width = draw(st.integers(1, target[0] - top)), draw(st.integers(1, target[1] - left))
    return size, target, Box(top, left, height, width)


@pytest.mark.parametrize(("size", "target"), SIZES)
def test_equals_torch(picture: Callable[..., Tensor], size: tuple[int, int], target: tuple[int, int]) -> None:
    image = picture(*size).double()
    expected = interpolate(image, target, mode="bicubic", antialias=True)
    torch.testing.assert_close(resize(image, *target), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(resize(image.float(), *target), expected.float(), rtol=0, atol=2e-6)


@settings(max_examples=60)
@given(regions())
def test_a_region_needs_no_more_than_it_says(case: tuple[tuple[int, int], tuple[int, int], Box]) -> None:
    size, target, region = case
    image = torch.rand(1, 2, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    at = needed(size, target, region)
    assert 0 <= at.top < at.bottom <= size[0]
    assert 0 <= at.left < at.right <= size[1]
    poisoned = torch.full_like(image, torch.nan)
    poisoned[(..., *at.slices)] = image[(..., *at.slices)]
    part = resize_region(image[(..., *at.slices)], at, size, target, region)
    whole = resize(image, *target)[(..., *region.slices)]
    torch.testing.assert_close(part, whole, rtol=0, atol=1e-12)
    among_poison = resize_region(poisoned, Box(0, 0, *size), size, target, region)
    torch.testing.assert_close(among_poison, whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("size", "target"), SIZES)
def test_a_constant_stays_constant(size: tuple[int, int], target: tuple[int, int]) -> None:
    result = resize(torch.full((1, 3, *size), 0.7), *target)
    assert result.shape == (1, 3, *target)
    torch.testing.assert_close(result, torch.full_like(result, 0.7), rtol=0, atol=1e-6)


def test_a_region_reads_only_a_few_pixels() -> None:
    """Otherwise a large picture would be held as floats after all."""
    at = needed((5000, 5000), (20_000, 20_000), Box(8000, 0, 64, 20_000))
    assert at.height <= 64 / 4 + 6
    assert needed((5000, 5000), (20_000, 20_000), Box(400, 400, 4, 4)).width <= 6
