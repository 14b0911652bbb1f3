"""Sizes: from an LR picture to what the VAE sees, and back to the size that was asked for.

Source: PiSA-SR's release (arXiv 2412.03017). A picture with a side below ``process / scale`` is enlarged first, then by the scale,
both bicubic; sides become multiples of the VAE's factor by a Lanczos resize, not by a crop. There pictures are rounded to 8 bits
after every step, which is left out here, and the result has the asked size only where the enlargement happened; here it always has.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, sqrt

import numpy as np
import torch
from torch import Tensor

from srgui.resample import resize

_LONGEST = 16  # a picture longer than so many times its width is enlarged less: there is no memory for the rest of the rule
_SUPPORT = 3


@dataclass(frozen=True)
class Sizes:
    """Heights and widths of a picture on its way. Each (H, W) in pixels.

    Attributes:
        lr: as it came.
        enlarged: before the scale; that of ``lr`` where it is large enough.
        process: what the VAE sees: multiples of its factor.
        result: what was asked for, ``lr`` times the scale.
    """

    lr: tuple[int, int]
    enlarged: tuple[int, int]
    process: tuple[int, int]
    result: tuple[int, int]


def sizes_of(height: int, width: int, scale: int, process: int, factor: int) -> Sizes:
    """The sizes of an LR picture of ``height`` x ``width``.

    Args:
        process: the least side of the picture that the VAE sees (512), as far as the other side stays below 16 times that.
        factor: pixels per latent.
    """
    least, short = process // scale, min(height, width)
    ratio = 1.0
    if short < least:
        most = sqrt(_LONGEST * least**2 / (height * width))
        ratio = max(1.0, min(least / short, most))
    enlarged = int(ratio * height), int(ratio * width)
    sides = tuple(max(factor, side * scale // factor * factor) for side in enlarged)
    return Sizes((height, width), enlarged, (sides[0], sides[1]), (height * scale, width * scale))


def to_process(lr: Tensor, sizes: Sizes, scale: int) -> Tensor:
    """The picture that the VAE sees: (1, 3, *sizes.process) in [0, 1], from ``lr`` (1, 3, H, W) in [0, 1]."""
    picture = lr
    if sizes.enlarged != sizes.lr:
        picture = resize(picture, *sizes.enlarged).clamp(0, 1)
    scaled = sizes.enlarged[0] * scale, sizes.enlarged[1] * scale
    if scaled != sizes.enlarged:
        picture = resize(picture, *scaled).clamp(0, 1)
    return picture if scaled == sizes.process else lanczos(picture, *sizes.process).clamp(0, 1)


def lanczos(image: Tensor, height: int, width: int) -> Tensor:
    """Resize ``image`` (N, C, H, W) to (N, C, height, width) with Lanczos' kernel of three lobes, widened when shrinking.

    What Pillow's ``LANCZOS`` computes, without its rounding.
    """
    rows = _axis(image.transpose(-1, -2), height).transpose(-1, -2)
    return _axis(rows, width)


def _axis(x: Tensor, length: int) -> Tensor:
    if x.shape[-1] == length:
        return x
    index, weight = _taps(x.shape[-1], length)
    total = torch.zeros(*x.shape[:-1], length)
    for tap in range(index.shape[0]):
        total += x[..., index[tap]] * weight[tap]
    return total


@lru_cache(maxsize=8)
def _taps(n: int, m: int) -> tuple[Tensor, Tensor]:
    """Indices and weights (taps, m) of the samples that each of ``m`` results is made of; what lies outside has no weight."""
    ratio = n / m
    stretch = max(1.0, ratio)
    centre = (np.arange(m) + 0.5) * ratio - 0.5
    first = np.floor(centre - _SUPPORT * stretch).astype(int)
    index = first[None, :] + np.arange(ceil(2 * _SUPPORT * stretch) + 2)[:, None]
    t = (index - centre[None, :]) / stretch
    weight = np.where((np.abs(t) < _SUPPORT) & (index >= 0) & (index < n), np.sinc(t) * np.sinc(t / _SUPPORT), 0.0)
    weight /= weight.sum(axis=0, keepdims=True)
    return torch.from_numpy(np.clip(index, 0, n - 1)), torch.from_numpy(weight).float()
