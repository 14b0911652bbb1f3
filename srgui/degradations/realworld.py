"""The second-order degradation of Real-ESRGAN (Wang et al. 2021, section 3), with the parameters that PiSA-SR trains with.

What PiSA-SR (arXiv 2412.03017) leaves unsaid is Real-ESRGAN's: the shape ranges of the generalized Gaussian (0.5 to 4) and
plateau (1 to 2) kernels, half of whose draws lie on either side of 1, and the cutoff ranges of the sinc kernels (pi/3 to pi;
pi/5 to pi in the stages from size 13 on). JPEG is real JPEG, not its differentiable stand-in. The HR is not sharpened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, pi
from typing import TypeVar

import numpy as np

from srgui.degradations import kernels, steps
from srgui.degradations.bicubic import checked

Range = tuple[float, float]
T = TypeVar("T")

_SIZES = range(7, 22, 2)
_MODES = ("area", "bilinear", "bicubic")
_SHAPES = ("iso", "aniso", "generalized iso", "generalized aniso", "plateau iso", "plateau aniso")
_SHAPE_P = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
_SINC_P = 0.1
_FINAL_SINC_P = 0.8
_GREY_P = 0.4
_BETA_GENERALIZED: Range = (0.5, 4.0)
_BETA_PLATEAU: Range = (1.0, 2.0)


@dataclass(frozen=True)
class Stage:
    """Ranges and probabilities of one of the two stages; sigmas of noise are on the 0..255 scale."""

    blur_p: float
    blur_sigma: Range
    resize_p: tuple[float, float, float]  # up, down, keep
    resize_range: Range
    gaussian_p: float  # otherwise the noise is Poisson
    gaussian_sigma: Range
    poisson_scale: Range
    jpeg_quality: tuple[int, int]


FIRST = Stage(1.0, (0.2, 3.0), (0.2, 0.7, 0.1), (0.3, 1.5), 0.5, (1, 15), (0.05, 2.0), (60, 95))
SECOND = Stage(0.5, (0.2, 1.5), (0.3, 0.4, 0.3), (0.6, 1.2), 0.5, (1, 12), (0.05, 1.0), (60, 100))


def realworld_lr(hr: np.ndarray, scale: int, rng: np.random.Generator) -> np.ndarray:
    """Two stages of blur, resize, noise and JPEG, then a sinc filter around the resize to the LR size.

    Args:
        hr: (H, W, 3) uint8.

    Returns:
        (H // scale, W // scale, 3) uint8.

    Raises:
        InputError: ``hr`` cannot be degraded by ``scale``.
    """
    hr = checked(hr, scale)
    height, width = hr.shape[0] // scale, hr.shape[1] // scale
    image = _blur_resize_noise(steps.to_float(hr), FIRST, hr.shape[:2], rng)
    image = _jpeg(image, FIRST, rng)
    image = _blur_resize_noise(image, SECOND, (height, width), rng)
    sinc_first = rng.random() < 0.5
    if not sinc_first:
        image = _jpeg(image, SECOND, rng)
    image = steps.resize(image, height, width, _choice(_MODES, rng))
    if rng.random() < _FINAL_SINC_P:
        image = steps.blur(image, kernels.sinc(_choice(_SIZES, rng), rng.uniform(pi / 3, pi)))
    if sinc_first:
        image = _jpeg(image, SECOND, rng)
    return steps.to_uint8(image)


def reach(scale: int) -> int:
    """LR pixels by which the filters of the chain reach at most beyond an LR pixel, each at the smallest size it may meet."""
    radius, support = max(_SIZES) // 2, 2  # of a kernel, and of bicubic interpolation
    small = FIRST.resize_range[0]
    in_hr = radius + support + (radius + support) / small
    return ceil(in_hr / scale + support / SECOND.resize_range[0]) + radius


def draw_kernel(sigma: Range, rng: np.random.Generator) -> np.ndarray:
    """A blur kernel of a random size from 7 to 21 and a random shape, its sigmas drawn from ``sigma`` in pixels."""
    size = _choice(_SIZES, rng)
    if rng.random() < _SINC_P:
        return kernels.sinc(size, rng.uniform(pi / 3 if size < 13 else pi / 5, pi))
    shape = _SHAPES[rng.choice(len(_SHAPES), p=_SHAPE_P)]
    sigma_x = rng.uniform(*sigma)
    if shape.endswith("aniso"):
        ellipse = kernels.Ellipse(sigma_x, rng.uniform(*sigma), rng.uniform(-pi, pi))
    else:
        ellipse = kernels.Ellipse(sigma_x, sigma_x)
    if shape.startswith("generalized"):
        return kernels.generalized_gaussian(size, ellipse, _draw_beta(_BETA_GENERALIZED, rng))
    if shape.startswith("plateau"):
        return kernels.plateau(size, ellipse, _draw_beta(_BETA_PLATEAU, rng))
    return kernels.gaussian(size, ellipse)


def _blur_resize_noise(image: np.ndarray, stage: Stage, base: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """The resize factor is relative to ``base`` (height, width): the HR size in the first stage, the LR size in the second."""
    if rng.random() < stage.blur_p:
        image = steps.blur(image, draw_kernel(stage.blur_sigma, rng))
    factor = _draw_factor(stage, rng)
    size = [max(1, int(side * factor)) for side in base]
    image = steps.resize(image, size[0], size[1], _choice(_MODES, rng))
    is_gaussian, grey = rng.random() < stage.gaussian_p, bool(rng.random() < _GREY_P)
    if is_gaussian:
        return steps.gaussian_noise(image, rng.uniform(*stage.gaussian_sigma), grey, rng)
    return steps.poisson_noise(image, rng.uniform(*stage.poisson_scale), grey, rng)


def _draw_factor(stage: Stage, rng: np.random.Generator) -> float:
    direction = rng.choice(3, p=stage.resize_p)
    low, high = stage.resize_range
    return (rng.uniform(1, high), rng.uniform(low, 1), 1.0)[direction]


def _draw_beta(bounds: Range, rng: np.random.Generator) -> float:
    return rng.uniform(bounds[0], 1) if rng.random() < 0.5 else rng.uniform(1, bounds[1])


def _jpeg(image: np.ndarray, stage: Stage, rng: np.random.Generator) -> np.ndarray:
    return steps.jpeg(image, int(rng.integers(stage.jpeg_quality[0], stage.jpeg_quality[1] + 1)))


def _choice(items: Sequence[T], rng: np.random.Generator) -> T:
    return items[int(rng.integers(len(items)))]
