"""Closed forms for pictures that are blends: metrics at every setting, from inner products that are computed once.

A picture steered by scales v1, v2, ... is ``c0 + v1 (c1 - c0) + v2 (c2 - c1) + ...``: its corners c are the pictures at
(0, 0, ...), (1, 0, ...), (1, 1, ...). Its squared error against a reference is then a quadratic form in (1, v1, v2, ...).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from srgui.errors import InputError
from srgui.metrics import to_y


@dataclass(frozen=True)
class Quadratic:
    """The mean squared error of a blend against a reference, at every setting.

    Attributes:
        gram: mean inner products of (c0 - reference, c1 - c0, c2 - c1, ...), a symmetric matrix as rows.
    """

    gram: tuple[tuple[float, ...], ...]

    def mse(self, values: Sequence[float]) -> float:
        """At the scales ``values``, without clipping or rounding.

        Raises:
            InputError: there are more or fewer scales.
        """
        vector = (1.0, *values)
        if len(vector) != len(self.gram):
            raise InputError(f"{len(values)} scales were given for a blend of {len(self.gram) - 1}; give one for each")
        return max(0.0, sum(a * b * g for a, row in zip(vector, self.gram, strict=True) for b, g in zip(vector, row, strict=True)))

    def psnr(self, values: Sequence[float]) -> float:
        """In dB, for a data range of 1; infinite where the blend is the reference."""
        mse = self.mse(values)
        return -10 * math.log10(mse) if mse > 0 else math.inf


def quadratic(strips: Iterable[tuple[Sequence[Tensor], Tensor]]) -> Quadratic:
    """Collect the form of a picture that comes in strips.

    Args:
        strips: corners, each (1, C, h, w), and the reference of that shape; what is not to count is cut off already.

    Raises:
        InputError: there is no pixel.
    """
    total: Tensor | None = None
    count = 0
    for corners, reference in strips:
        parts = [corners[0] - reference, *(after - before for before, after in pairwise(corners))]
        rows = torch.stack([part.double().flatten() for part in parts])
        gram = rows @ rows.T
        total = gram if total is None else total + gram
        count += reference.numel()
    if total is None or not count:
        raise InputError("there is no pixel to measure; give a picture that is larger than its border")
    return Quadratic(tuple(tuple(row) for row in (total / count).tolist()))


def luma(corners: Sequence[Tensor]) -> list[Tensor]:
    """BT.601 Y of each corner, in double precision: it is affine, so Y of the blend is the blend of these."""
    return [to_y(corner.double()) for corner in corners]
