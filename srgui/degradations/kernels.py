"""Blur kernels of blind super-resolution: (size, size) float64 arrays that sum to 1, for an odd ``size``.

Sources: anisotropic Gaussians, BSRGAN (Zhang et al. 2021, section 3.1); generalized Gaussian and plateau shapes, Liu et al.
2020 ("Estimating Generalized Gaussian Blur Kernels for Out-of-Focus Image Deblurring") as used by Real-ESRGAN (Wang et al. 2021,
section 3.1); sinc, Real-ESRGAN Eq. 3.
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
