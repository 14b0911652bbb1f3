"""Latents of any size through a UNet that knows small ones: overlapping tiles, averaged with Gaussian weights.

Source: Mixture of Diffusers (arXiv 2302.02412), as PiSA-SR (arXiv 2412.03017) uses it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from srgui.errors import ModelError
from srgui.protocol import Box, Run

_VARIANCE = 0.01  # of the Gaussian, in units of the tile's side squared
Noise = Callable[[Tensor], Tensor]


def windows(height: int, width: int, tile: int, overlap: int) -> list[Box]:
    """Tiles that cover a latent, row by row: every ``tile - overlap``, the last of a row or column flush with the border.

    A latent of no more than ``tile * tile`` is one tile, whatever its shape. A side shorter than the tile is taken whole.
    """
    if height * width <= tile * tile:
        return [Box(0, 0, height, width)]
    rows, columns = _starts(height, tile, overlap), _starts(width, tile, overlap)
    return [Box(top, left, min(tile, height), min(tile, width)) for top in rows for left in columns]


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    if length <= tile:
        return [0]
    step = max(1, tile - overlap)
    return [*range(0, length - tile, step), length - tile]


@lru_cache(maxsize=8)
def gaussian(height: int, width: int) -> Tensor:
    """The weights of a tile, (height, width): ``exp(-(x - (w - 1) / 2)^2 / (2 * 0.01 * w^2))`` on both axes."""
    lines = []
    for side in (height, width):
        at = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
        lines.append(torch.exp(-at.square() / (2 * _VARIANCE * side**2)))
    return (lines[0][:, None] * lines[1][None, :]).float()


def tiled(predict: Noise, latent: Tensor, tile: int, overlap: int, run: Run, what: str = "tiles") -> Tensor:
    """Predict noise for ``latent`` (1, C, h, w) tile by tile.

    Args:
        predict: from a part of the latent to its noise, of the same shape.

    Returns:
        (1, C, h, w) float32 on the CPU.

    Raises:
        ModelError: the prediction has NaN. Cancelled: between two tiles.
    """
    height, width = latent.shape[-2:]
    boxes = windows(height, width, tile, overlap)
    run.progress(what, 0, len(boxes))
    total, weights = torch.zeros(latent.shape), torch.zeros(height, width)
    for done, box in enumerate(boxes, 1):
        noise = predict(latent[(..., *box.slices)]).float().cpu()
        if not bool(noise.isfinite().all()):
            raise ModelError("the UNet gave NaN; its weights or an adapter are broken, choose others, or use --device cpu")
        weight = gaussian(box.height, box.width) if len(boxes) > 1 else torch.ones(box.height, box.width)
        total[(..., *box.slices)] += noise * weight
        weights[box.slices] += weight
        run.progress(what, done, len(boxes))
    return total / weights
