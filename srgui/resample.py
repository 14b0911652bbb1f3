"""Bicubic resizing of image tensors, antialiased downwards, whole or one region at a time.

The kernel is Keys' cubic with a = -0.5, widened by the ratio when shrinking: what Pillow, MATLAB's imresize and
``torch.nn.functional.interpolate(antialias=True)`` compute. Those resize whole pictures only; here any region of the result
can be made from just the pixels it depends on, so a large picture never exists as floats.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, floor

import numpy as np
import torch
from torch import Tensor

from srgui.protocol import Box

_BLOCK = 128  # columns or rows of the result per matrix product: small, because the matrix is banded


def resize(image: Tensor, height: int, width: int) -> Tensor:
    """Resize ``image`` (N, C, H, W) to (N, C, height, width)."""
    size = image.shape[-2], image.shape[-1]
    whole = Box(0, 0, height, width)
    return resize_region(image, Box(0, 0, *size), size, (height, width), whole)


def needed(size: tuple[int, int], target: tuple[int, int], region: Box) -> Box:
    """The part of a picture of ``size`` (H, W) on which ``region`` of its ``target``-sized version depends."""
    top, bottom = _span(size[0], target[0], region.top, region.bottom)
    left, right = _span(size[1], target[1], region.left, region.right)
    return Box(top, left, bottom - top, right - left)


def resize_region(part: Tensor, at: Box, size: tuple[int, int], target: tuple[int, int], region: Box) -> Tensor:
    """Make ``region`` of the ``target``-sized version of a picture of ``size`` from ``part``, its pixels ``at``.

    Args:
        part: (N, C, at.height, at.width); ``at`` must contain :func:`needed`.

    Returns:
        (N, C, region.height, region.width)
    """
    rows = _axis(part.transpose(-1, -2), size[0], target[0], at.top, region.top, region.bottom)
    return _axis(rows.transpose(-1, -2), size[1], target[1], at.left, region.left, region.right)


def _axis(x: Tensor, n: int, m: int, offset: int, start: int, stop: int) -> Tensor:
    """Resample the last axis, of which ``x`` holds the samples from ``offset`` on, from ``n`` to ``m``; keep ``start:stop``."""
    if n == m:
        return x[..., start - offset : stop - offset]
    blocks = []
    for a in range(start, stop, _BLOCK):
        b = min(a + _BLOCK, stop)
        lo, hi = _span(n, m, a, b)
        matrix = _matrix(n, m, a, b).to(x.device, x.dtype)
        blocks.append(x[..., lo - offset : hi - offset] @ matrix)
    return torch.cat(blocks, dim=-1)


def _span(n: int, m: int, start: int, stop: int) -> tuple[int, int]:
    if n == m:
        return start, stop
    ratio = n / m
    support = 2 * max(1.0, ratio)
    lo = max(0, floor((start + 0.5) * ratio - support))
    hi = min(n, ceil((stop - 0.5) * ratio + support))
    return lo, hi


@lru_cache(maxsize=4096)
def _matrix(n: int, m: int, start: int, stop: int) -> Tensor:
    """(hi - lo, stop - start) float64 weights that sum to 1 for every output sample."""
    lo, hi = _span(n, m, start, stop)
    ratio = n / m
    centre = (np.arange(start, stop) + 0.5) * ratio - 0.5
    distance = np.abs(np.arange(lo, hi)[:, None] - centre[None, :]) / max(1.0, ratio)
    weight = _cubic(distance)
    return torch.from_numpy(weight / weight.sum(axis=0, keepdims=True))


def _cubic(t: np.ndarray, a: float = -0.5) -> np.ndarray:
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0.0))
