"""Blur kernels of a shaken camera, the family that USRNet (Zhang et al. 2020) trains with, as its authors published it in KAIR."""

from __future__ import annotations

from math import pi

import numpy as np

from srgui.degradations.steps import gaussian_blur, resize


def motion_kernel(size: int, rng: np.random.Generator) -> np.ndarray:
    """A path from 5 pixels wide up to ``size``, somewhat off centre; in one kernel of four, the middle of a path enlarged up to
    five times per axis.

    Returns:
        (size, size) float64, not negative, of sum 1, for an odd ``size``.
    """
    x, y = _shake(250, rng)
    width = min(int(5 + rng.exponential(1 / 0.15)) | 1, size)
    counts, _, _ = np.histogram2d(y, x, bins=width)
    # 0.75 is the spread of the 3 x 3 window, cut from a Gaussian of sigma 1, that is used there
    kernel = gaussian_blur(np.pad(counts / counts.sum(), (size - width) // 2), 0.75)
    if rng.random() < 0.25:
        height, width = (int(size * factor) for factor in rng.uniform(1, 5, 2))
        top, left = (height - size) // 2, (width - size) // 2
        middle = resize(kernel, height, width, "bilinear")[top : top + size, left : left + size]
        if middle.sum() > 0.1:  # the path may run around the middle
            kernel = middle
    return np.asarray(kernel / kernel.sum())


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
