"""Strips of held-out pictures, one method beside the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from srgui.evaluation import restore
from srgui.images import Layout, to_samples, write_picture
from srgui.protocol import Restorer, Run, Setting
from srgui.resample import resize
from srgui.training.pairs import Pair
from srgui.training.validation import middle
from srgui.tuning.preview import most_changed

SIDE = 192  # pixels of each crop, at HR size
SHOWN = 4
_GAP = 4


def write_strips(
    folder: Path, pairs: Sequence[Pair], methods: Mapping[str, Restorer], before: str, after: str, run: Run
) -> list[Path]:
    """Write, for up to four pictures, LR (enlarged by repetition), bicubic, all ``methods`` and HR side by side as PNG.

    The crop is where ``after`` differs most from ``before``, in the middle of the picture.

    Raises:
        OutputError: they cannot be written.
        Cancelled: the run was.
    """
    paths = []
    for number, pair in enumerate(pairs[:SHOWN]):
        scale = pair.hr.shape[0] // pair.lr.shape[0]
        watched = middle(pair, scale)
        quiet = run.child(lambda _: None)
        made = {method: restore(restorer, watched.lr, Setting(), quiet) for method, restorer in methods.items()}
        pixels = F.interpolate(watched.lr, scale_factor=scale, mode="nearest")
        bicubic = resize(watched.lr, *watched.hr.shape[-2:]).clamp(0, 1)
        box = most_changed(made[before], made[after], SIDE)
        crops = [picture[(..., *box.slices)] for picture in (pixels, bicubic, *made.values(), watched.hr)]
        paths.append(_write(folder / f"{number}.png", crops))
    return paths


def _write(path: Path, crops: Sequence[Tensor]) -> Path:
    gap = torch.ones(1, 3, crops[0].shape[-2], _GAP)
    parts = [part for crop in crops for part in (crop, gap)][:-1]
    samples = to_samples(torch.cat(parts, dim=-1), 8)
    height, width, channels = samples.shape
    write_picture(path, Layout(height, width, channels, 8), [samples], overwrite=True)
    return path
