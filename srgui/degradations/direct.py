"""Blur by a random kernel and direct downsampling: the family of the 12 kernels on which papers on non-blind SR compare.

Kernels as USRNet (Zhang et al. 2020, section 4.1) trains with: one half motion blur of 25 x 25, one half Gaussian with
eigen-variances U[0.6, 12], in HR pixels whatever the scale. Of each ``scale`` x ``scale`` block the upper-left sample is kept,
so LR sample (i, j) shows the place of HR pixel (scale i, scale j), (scale - 1) / 2 pixels above and left of where bicubic puts
it. That is the benchmark's operator without its circular border: here the border is mirrored, because the far side of a
photograph is not its neighbour. No noise.
"""

from __future__ import annotations

from math import ceil, pi, sqrt

import numpy as np

from srgui.degradations import kernels
from srgui.degradations.bicubic import checked
from srgui.degradations.motion import motion_kernel
from srgui.degradations.steps import blur, to_float, to_uint8

SIZE = 25
_VARIANCE = (0.6, 12.0)


def draw_kernel(rng: np.random.Generator) -> np.ndarray:
    """A (25, 25) motion or Gaussian kernel, each in half of the draws."""
    return motion_kernel(SIZE, rng) if rng.random() < 0.5 else draw_gaussian(rng)


def draw_gaussian(rng: np.random.Generator) -> np.ndarray:
    """A (25, 25) Gaussian kernel, its eigen-variances U[0.6, 12] and its angle drawn."""
    sigma_x, sigma_y = (sqrt(rng.uniform(*_VARIANCE)) for _ in range(2))
    return kernels.gaussian(SIZE, kernels.Ellipse(sigma_x, sigma_y, rng.uniform(0, pi)))


def direct_lr(hr: np.ndarray, scale: int, rng: np.random.Generator) -> np.ndarray:
    """Convolve with a drawn kernel and keep every ``scale``-th row and column from the first on.

    Args:
        hr: (H, W, 3) uint8.

    Returns:
        (H // scale, W // scale, 3) uint8.

    Raises:
        InputError: ``hr`` cannot be degraded by ``scale``.
    """
    image = to_float(checked(hr, scale))
    turned = draw_kernel(rng)[::-1, ::-1]  # blur() correlates; a convolution has the kernel the other way round
    return to_uint8(blur(image, turned)[::scale, ::scale])


def reach(scale: int) -> int:
    """LR pixels by which a kernel reaches beyond an LR pixel."""
    return ceil(SIZE // 2 / scale)
