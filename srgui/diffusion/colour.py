"""Colour fixes: the tones of the upscaled picture for the details of the generated one.

Source: StableSR (arXiv 2305.07015), section 3.4, as PiSA-SR's release uses them; here on floats instead of 8-bit pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from srgui.errors import InputError

Fix = Literal["adain", "wavelet", "none"]
_EPS = 1e-5
_LEVELS = 5


def colour_fix(kind: Fix, picture: Tensor, source: Tensor) -> Tensor:
    """Give ``picture`` the tones of ``source``.

    Args:
        kind: ``adain``, ``wavelet``, or ``none``, which returns ``picture``.
        picture, source: (1, 3, H, W) in [0, 1], of one size.

    Returns:
        (1, 3, H, W), not clipped.

    Raises:
        InputError: there is no such fix.
    """
    if kind not in get_args(Fix):
        raise InputError(f"there is no colour fix {kind!r}; use {', '.join(get_args(Fix))}")
    return _FIXES[kind](picture, source)


def adain(picture: Tensor, source: Tensor) -> Tensor:
    """Mean and standard deviation of each channel as in ``source`` (AdaIN, Huang and Belongie 2017, Eq. 8).

    The variance is unbiased, and 1e-5 is added to it.
    """
    mean, std = _moments(picture)
    mean_of_source, std_of_source = _moments(source)
    return (picture - mean) / std * std_of_source + mean_of_source


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(x, dim=(-2, -1), keepdim=True, correction=1 if x[0, 0].numel() > 1 else 0)
    return mean, (variance + _EPS).sqrt()


def wavelet(picture: Tensor, source: Tensor) -> Tensor:
    """High frequencies of ``picture`` over the low ones of ``source``, split by five levels of a dilated 3 x 3 blur."""
    # Channel by channel: of a large picture the levels of one are large enough.
    pairs = zip(picture.chunk(3, dim=1), source.chunk(3, dim=1), strict=True)
    return torch.cat([ours - _low(ours) + _low(theirs) for ours, theirs in pairs], dim=1)


def _low(x: Tensor) -> Tensor:
    """What five blurs leave of (1, 1, H, W). The sum of the high bands is the rest, as they telescope."""
    line = torch.tensor([1.0, 2.0, 1.0], dtype=x.dtype, device=x.device) / 4
    for level in range(_LEVELS):
        step = 2**level
        x = F.conv2d(F.pad(x, (step, step, 0, 0), "replicate"), line.view(1, 1, 1, 3), dilation=(1, step))
        x = F.conv2d(F.pad(x, (0, 0, step, step), "replicate"), line.view(1, 1, 3, 1), dilation=(step, 1))
    return x


_FIXES: Mapping[Fix, Callable[[Tensor, Tensor], Tensor]] = {"adain": adain, "wavelet": wavelet, "none": lambda picture, _: picture}
