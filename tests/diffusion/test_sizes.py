"""Sizes and resizing, beside Pillow, which the released code uses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from srgui.diffusion.sizes import lanczos, sizes_of, to_process


def pillow(samples: np.ndarray, scale: int, process: int) -> np.ndarray:
    """The released code's way to the picture that the VAE sees, on 8 bits."""
    image = Image.fromarray(samples)
    width, height = image.size
    if width < process // scale or height < process // scale:
        ratio = (process // scale) / min(width, height)
        image = image.resize((int(ratio * width), int(ratio * height)), Image.Resampling.BICUBIC)
    image = image.resize((image.width * scale, image.height * scale), Image.Resampling.BICUBIC)
    image = image.resize((image.width - image.width % 8, image.height - image.height % 8), Image.Resampling.LANCZOS)
    return np.asarray(image)


@pytest.mark.parametrize("size", [(45, 51), (64, 70), (20, 33), (8, 8)])
def test_resizing_is_the_releases_but_for_its_rounding(picture: Callable[..., Tensor], size: tuple[int, int]) -> None:
    # Without black and white: there Pillow cuts off what overshoots between its two passes.
    samples = (picture(*size)[0].permute(1, 2, 0) * 100 + 80).round().byte().numpy()
    expected = pillow(samples, 4, 128)
    lr = torch.from_numpy(samples).permute(2, 0, 1)[None] / 255
    sizes = sizes_of(*size, 4, 128, 8)
    ours = to_process(lr, sizes, 4)
    assert ours.shape[-2:] == expected.shape[:2]
    difference = np.abs(ours[0].permute(1, 2, 0).numpy() * 255 - expected)
    assert difference.max() < 3  # it rounds five times
    assert difference.mean() < 0.5
    assert sizes.result == (size[0] * 4, size[1] * 4)


def test_a_picture_of_a_good_size_is_enlarged_once_and_not_touched_again() -> None:
    assert sizes_of(128, 200, 4, 512, 8).process == (512, 800)
    assert sizes_of(128, 200, 4, 512, 8).enlarged == (128, 200)
    assert sizes_of(64, 100, 4, 512, 8).process == (512, 800)
    assert sizes_of(45, 51, 4, 128, 8).process == (176, 200)


@given(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from([1, 2, 4, 8]))
def test_every_size_can_be_processed_in_bounded_memory(height: int, width: int, scale: int) -> None:
    sizes = sizes_of(height, width, scale, 512, 8)
    for side, asked in zip(sizes.process, sizes.result, strict=True):
        assert side % 8 == 0
        assert side >= min(8, asked)
    most = max(16 * 512**2, (height * scale + 8) * (width * scale + 8))
    assert sizes.process[0] * sizes.process[1] <= most


def test_extreme_sizes() -> None:
    assert sizes_of(8, 8, 4, 512, 8).process == (512, 512)
    height, width = sizes_of(1, 4000, 4, 512, 8).process
    assert height == 32
    assert width * height <= 16 * 512**2


@pytest.mark.parametrize("target", [(24, 40), (19, 61), (50, 33)])
def test_lanczos_is_pillows(picture: Callable[..., Tensor], target: tuple[int, int]) -> None:
    x = picture(27, 45)
    ours = lanczos(x, *target)
    for channel in range(3):
        image = Image.fromarray(x[0, channel].numpy(), mode="F").resize(target[::-1], Image.Resampling.LANCZOS)
        assert np.abs(ours[0, channel].numpy() - np.asarray(image)).max() < 1e-5
