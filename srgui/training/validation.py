"""Held-out pictures, measured again and again while a network learns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from srgui.device import autocast
from srgui.images import to_tensor
from srgui.metrics import Lpips, Scores, psnr, round_to_8bit, score
from srgui.models.network import Network
from srgui.training.pairs import Pair

WATCHED = 8  # held-out pictures that are measured during training; all of them are at its end
SIDE = 160  # LR pixels of their middle


@dataclass(frozen=True)
class Watched:
    """The middle of one held-out picture: ``lr`` (1, 3, h, w) and ``hr`` (1, 3, h * s, w * s) in [0, 1]."""

    name: str
    lr: Tensor
    hr: Tensor


class Validation:
    """Measures networks on held-out pairs: PSNR and SSIM on Y with a border of the scale cropped, and LPIPS where it is to be had.

    ``psnr``, which a recipe may choose as its metric, is over RGB with the same border.

    Args:
        lpips: None leaves it out.
    """

    def __init__(self, pairs: Sequence[Pair], scale: int, lpips: Lpips | None) -> None:
        self.scale, self.lpips = scale, lpips
        self._pairs = pairs[:WATCHED]

    @cached_property
    def pictures(self) -> list[Watched]:
        return [middle(pair, self.scale) for pair in self._pairs]

    def __call__(self, network: Network) -> tuple[Scores, list[Tensor]]:
        """The mean scores, and the SR pictures on the CPU, rounded to 8 bits."""
        results, scores = [], []
        for picture in self.pictures:
            with torch.inference_mode(), autocast(network.device, network.half):
                sr = network(picture.lr.to(network.device))
            # Not an inference tensor: the scores are computed outside, and samples are kept.
            results.append(round_to_8bit(sr.float()).cpu().clone())
            found = score(results[-1], picture.hr, self.scale, self.lpips)
            over_rgb = None if found["psnr_y"] is None else psnr(results[-1], picture.hr, channel="RGB", crop_border=self.scale)
            scores.append({**found, "psnr": over_rgb})
        return mean_scores(scores), results


def mean_scores(scores: Sequence[Scores]) -> Scores:
    """The mean of each, over the pictures for which it could be computed."""
    known = {key: [value for s in scores if (value := s[key]) is not None] for key in scores[0]}
    return {key: float(np.mean(values)) if values else None for key, values in known.items()}


def middle(pair: Pair, scale: int) -> Watched:
    """The part of a pair that is watched."""
    height, width = pair.lr.shape[:2]
    top, left = max(0, (height - SIDE) // 2), max(0, (width - SIDE) // 2)
    lr = pair.lr[top : top + SIDE, left : left + SIDE]
    hr = pair.hr[top * scale : (top + SIDE) * scale, left * scale : (left + SIDE) * scale]
    return Watched(pair.path.name, to_tensor(lr), to_tensor(hr))
