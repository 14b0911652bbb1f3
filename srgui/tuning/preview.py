"""The small picture beside an adapter: what its base makes of a held-out picture, and what it makes with the adapter."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from srgui.images import Layout, to_samples, write_picture
from srgui.protocol import Box

FILE = "preview.webp"
SIDE = 320  # pixels of each half
_GAP = 4


def write_preview(folder: Path, base: Tensor, adapted: Tensor) -> None:
    """Write the part of ``base`` and ``adapted`` (1, 3, H, W) in [0, 1] where they differ most, side by side.

    Raises:
        OutputError: it cannot be written.
    """
    box = most_changed(base, adapted, SIDE)
    halves = [picture[(..., *box.slices)] for picture in (base, adapted)]
    whole = torch.cat([halves[0], torch.ones(1, 3, box.height, _GAP), halves[1]], dim=-1)
    samples = to_samples(whole.clamp(0, 1), 8)
    height, width, channels = samples.shape
    write_picture(folder / FILE, Layout(height, width, channels, 8), [samples], overwrite=True, quality=88)


def most_changed(base: Tensor, adapted: Tensor, side: int) -> Box:
    """Where two pictures (1, 3, H, W) differ most: a square of ``side`` pixels, or as much of it as there is."""
    height, width = (min(side, length) for length in base.shape[-2:])
    change = (adapted - base).abs().mean(dim=1, keepdim=True)
    sums = torch.nn.functional.avg_pool2d(change, (height, width), stride=16)
    top, left = (int(i) * 16 for i in divmod(int(sums.argmax()), sums.shape[-1]))
    return Box(top, left, height, width)
