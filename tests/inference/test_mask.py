"""Masks: stretched over a result, the same from a file, from a browser and from the result that carries them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from srgui.errors import InputError
from srgui.inference.mask import LONGEST, decode_mask, encode_mask, read_mask, stretch
from srgui.protocol import Box


def random_mask(height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (1, 1, height, width), generator=torch.Generator().manual_seed(height)).div(255)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 30), st.integers(0, 40))
def test_stretching_is_bilinear_and_a_region_is_that_part_of_it(height: int, width: int, top: int, left: int) -> None:
    mask = random_mask(height, width)
    whole = stretch(mask, (37, 53), Box(0, 0, 37, 53))
    expected = torch.nn.functional.interpolate(mask, size=(37, 53), mode="bilinear", align_corners=False)
    torch.testing.assert_close(whole, expected, rtol=0, atol=1e-5)
    box = Box(top, left, 37 - top, 53 - left)
    assert torch.equal(stretch(mask, (37, 53), box), whole[(..., *box.slices)])


def test_of_the_results_size_it_is_itself() -> None:
    mask = random_mask(20, 30)
    assert torch.equal(stretch(mask, (20, 30), Box(2, 3, 5, 6)), mask[..., 2:7, 3:9])


@pytest.mark.parametrize("size", [(1, 1), (40, 30), (LONGEST, 3)])
def test_encoded_it_comes_back_the_same(size: tuple[int, int]) -> None:
    mask = random_mask(*size)
    assert torch.equal(decode_mask(encode_mask(mask)), mask)
    assert torch.equal(decode_mask("data:image/png;base64," + encode_mask(mask)), mask)


@pytest.mark.parametrize("text", ["", "???", "aGVsbG8=", "data:image/png;base64,aGVsbG8="])
def test_what_is_no_mask_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="mask"):
        decode_mask(text)


def test_a_picture_becomes_a_mask_of_its_luma(tmp_path: Path, save_png: Callable[..., Path]) -> None:
    colours = np.zeros((10, 20, 3), np.uint8)
    colours[:, 10:] = 255
    colours[0, 0] = (255, 0, 0)
    mask = read_mask(save_png(tmp_path / "m.png", colours))
    assert mask.shape == (1, 1, 10, 20)
    assert mask[0, 0, 5, 5] == 0
    assert mask[0, 0, 5, 15] == 1
    assert mask[0, 0, 0, 0] == pytest.approx(0.299, abs=0.002)


def test_a_large_one_is_reduced(tmp_path: Path, save_png: Callable[..., Path]) -> None:
    mask = read_mask(save_png(tmp_path / "m.png", np.full((100, 2000, 3), 255, np.uint8)))
    assert mask.shape == (1, 1, 26, LONGEST)
    assert bool((mask == 1).all())
