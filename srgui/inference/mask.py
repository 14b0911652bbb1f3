"""Masks: where in a picture other values of the scales hold.

A mask is a small grey picture that is stretched over the result, whatever its size: so it fits into the file of the result,
its edges are soft, and the browser draws the same one.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from srgui.errors import InputError
from srgui.images import Picture, decode_picture, encode_png, read_picture
from srgui.protocol import Box
from srgui.resample import resize

LONGEST = 512  # of its sides, in samples
_PREFIX = "data:image/png;base64,"
_LUMA = (0.299, 0.587, 0.114)


def stretch(mask: Tensor, size: tuple[int, int], box: Box) -> Tensor:
    """Region ``box`` of ``mask`` (1, 1, h, w) enlarged bilinearly to ``size``: (1, 1, box.height, box.width)."""
    if mask.shape[-2:] == size:
        return mask[(..., *box.slices)]
    rows = _between(mask.transpose(-1, -2), size[0], box.top, box.bottom).transpose(-1, -2)
    return _between(rows, size[1], box.left, box.right)


def _between(x: Tensor, length: int, start: int, stop: int) -> Tensor:
    """Samples ``start:stop`` of the last axis of ``x`` stretched to ``length``; beyond the outermost centres it is constant."""
    count = x.shape[-1]
    at = ((torch.arange(start, stop) + 0.5) * (count / length) - 0.5).clamp(0, count - 1)
    low = at.long().clamp(max=max(0, count - 2))
    return torch.lerp(x[..., low], x[..., (low + 1).clamp(max=count - 1)], (at - low).to(x.dtype))


def read_mask(path: Path) -> Tensor:
    """A mask from any picture: (1, 1, h, w) in [0, 1], white where other values shall hold, reduced to 512 samples a side.

    Raises:
        InputError: the file is no picture that can be read.
    """
    return _reduced(read_picture(path))


def encode_mask(mask: Tensor) -> str:
    """As a PNG in base64; a mask that was read or decoded comes back the same."""
    grid = mask[0, 0].mul(255).round().clamp(0, 255).to(torch.uint8)
    return base64.b64encode(encode_png(np.ascontiguousarray(grid.numpy()[..., None]))).decode("ascii")


def decode_mask(text: str) -> Tensor:
    """The mask of :func:`encode_mask`, or of a browser's data URL.

    Raises:
        InputError: it is something else.
    """
    try:
        data = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError("the mask is not a PNG in base64; paint it again") from error
    return _reduced(decode_picture(data, "mask"))


def _reduced(picture: Picture) -> Tensor:
    luma = (picture.tensor() * torch.tensor(_LUMA).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    height, width = picture.size
    ratio = LONGEST / max(height, width)
    if ratio < 1:
        luma = resize(luma, max(1, round(height * ratio)), max(1, round(width * ratio)))
    return luma.mul(255).round().clamp(0, 255).div(255)
