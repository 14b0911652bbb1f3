"""Blur kernels of blind super-resolution: (size, size) float64 arrays that sum to 1, for an odd ``size``.

Sources: anisotropic Gaussians, BSRGAN (Zhang et al. 2021, section 3.1); generalized Gaussian and plateau shapes, Liu et al.
2020 ("Estimating Generalized Gaussian Blur Kernels for Out-of-Focus Image Deblurring") as used by Real-ESRGAN (Wang et al. 2021,
section 3.1); sinc, Real-ESRGAN Eq. 3; motion, the shaken camera that USRNet (Zhang et al. 2020) trains with, as published in KAIR.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np


@dataclass(frozen=True)
class Ellipse:
    """Spread of a kernel: standard deviations in pixels along two axes, the first turned by ``angle`` radians."""

    sigma_x: float
    sigma_y: float
    angle: float = 0.0


def gaussian(size: int, ellipse: Ellipse) -> np.ndarray:
    """exp(-q / 2), where q = x' S^-1 x and S is the covariance of ``ellipse``."""
    return generalized_gaussian(size, ellipse, beta=1.0)


def generalized_gaussian(size: int, ellipse: Ellipse, beta: float) -> np.ndarray:
    """exp(-q^beta / 2): peaked for ``beta`` < 1, the Gaussian at 1, flat-topped above."""
    return _normalized(np.exp(-0.5 * _mahalanobis(size, ellipse) ** beta))


def plateau(size: int, ellipse: Ellipse, beta: float) -> np.ndarray:
    """1 / (1 + q^beta): a plateau with slow tails."""
    return _normalized(1.0 / (1.0 + _mahalanobis(size, ellipse) ** beta))


def sinc(size: int, cutoff: float) -> np.ndarray:
    """The circular ideal low-pass filter cutoff * J1(cutoff r) / (2 pi r), which rings as resampling and sharpening do.

    Args:
        cutoff: radians per pixel, in (0, pi].
    """
    from scipy.special import j1

    x, y = _grid(size)
    r = np.hypot(x, y)
    centre = size // 2
    r[centre, centre] = 1.0
    kernel = cutoff * j1(cutoff * r) / (2 * pi * r)
    kernel[centre, centre] = cutoff**2 / (4 * pi)
    return _normalized(kernel)


def motion(size: int, rng: np.random.Generator) -> np.ndarray:
    """The path of a shaken camera, 5 pixels wide and more up to ``size``, somewhat off centre; neither symmetric nor negative.

    One kernel in four is the middle of one enlarged up to five times per axis, which a path leaves on its way.
    """
    from srgui.degradations.steps import blur, resize

    x, y = _shake(250, rng)
    width = min(int(5 + rng.exponential(1 / 0.15)) | 1, size)
    counts, _, _ = np.histogram2d(y, x, bins=width)
    kernel = _normalized(blur(np.pad(counts, (size - width) // 2), gaussian(3, Ellipse(1, 1))))
    if rng.random() < 0.25:
        height, width = (int(size * factor) for factor in rng.uniform(1, 5, 2))
        top, left = (height - size) // 2, (width - size) // 2
        middle = resize(kernel, height, width, "bilinear")[top : top + size, left : left + size]
        if middle.sum() > 0.1:  # the path may run around the middle
            return _normalized(middle)
    return kernel


def _shake(steps: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """x and y of a point whose velocity and orientation in space are pushed at random, less and less."""
    fading = 1 / np.arange(2, steps + 1)[:, None]
    velocity = rng.standard_normal(3) + np.cumsum(rng.standard_normal((steps - 1, 3)) * fading, axis=0)
    # angle[t] = growth * angle[t - 1] + push[t], unrolled
    growth = (1 + 2 * pi / steps) ** np.arange(1, steps)[:, None]
    push = rng.standard_normal((steps - 1, 3)) * fading * (2 * pi / steps)
    (a, b, c), (u, v, w) = (growth * np.cumsum(push / growth, axis=0)).T, velocity.T
    v, w = np.cos(a) * v - np.sin(a) * w, np.sin(a) * v + np.cos(a) * w  # about x, then y, then z
    u = np.cos(b) * u + np.sin(b) * w
    u, v = np.cos(c) * u - np.sin(c) * v, np.sin(c) * u + np.cos(c) * v
    return np.cumsum(u), np.cumsum(v)


def _mahalanobis(size: int, ellipse: Ellipse) -> np.ndarray:
    x, y = _grid(size)
    c, s = cos(ellipse.angle), sin(ellipse.angle)
    q: np.ndarray = ((c * x + s * y) / ellipse.sigma_x) ** 2 + ((c * y - s * x) / ellipse.sigma_y) ** 2
    return q


def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    axis = np.arange(size, dtype=np.float64) - size // 2
    x, y = np.meshgrid(axis, axis)
    return x, y


def _normalized(kernel: np.ndarray) -> np.ndarray:
    return np.asarray(kernel / kernel.sum())
