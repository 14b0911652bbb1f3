"""Closed forms for pictures that are blends: metrics at every setting, from what is computed once.

A picture steered by scales v1, v2, ... is ``p0 + v1 p1 + v2 p2 + ...``, a sum of parts: of its corners c, the pictures at
(0, 0, ...), (1, 0, ...), (1, 1, ...), the parts are ``c0, c1 - c0, c2 - c1, ...``. What is linear in the picture, such as its
luma, its downscaled copy or its gradient, is the same sum of their parts. A squared error is then a quadratic form in
(1, v1, v2, ...), and SSIM follows from the local moments of the parts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from srgui.errors import InputError
from srgui.metrics import SSIM_C1, SSIM_C2, ssim_window, to_y


@dataclass(frozen=True)
class Quadratic:
    """The mean square of a blend's difference from a reference, at every setting.

    Attributes:
        gram: mean inner products of (p0 - reference, p1, p2, ...), a symmetric matrix as rows.
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


def quadratic(strips: Iterable[tuple[Sequence[Tensor], Tensor | float]]) -> Quadratic:
    """Collect the form of a picture that comes in strips.

    Args:
        strips: parts, each (1, C, h, w), and the reference of that shape or one number; what is not to count is cut off
            already.

    Raises:
        InputError: there is no pixel.
    """
    total: Tensor | None = None
    count = 0
    for parts, reference in strips:
        rows = torch.stack([part.double().flatten() for part in [parts[0] - reference, *parts[1:]]])
        gram = rows @ rows.T
        total = gram if total is None else total + gram
        count += rows.shape[1]
    if total is None or not count:
        raise InputError("there is no pixel to measure; give a picture that is larger than its border")
    return Quadratic(tuple(tuple(row) for row in (total / count).tolist()))


class Moments:
    """SSIM of a blend at every setting, from the means, squares and products of its parts in each window.

    Args:
        parts, reference: (1, 1, h, w) in double precision, at least 11 x 11.
    """

    def __init__(self, parts: Sequence[Tensor], reference: Tensor) -> None:
        # About the middle grey, where the windows' squares lose less to their means.
        centred = [parts[0] - 0.5, *parts[1:]]
        other = reference - 0.5
        self._means = [ssim_window(part) for part in centred]
        self._mean = ssim_window(other)
        self._squares = [[ssim_window(a * b) for b in centred[: i + 1]] for i, a in enumerate(centred)]
        self._products = [ssim_window(part * other) for part in centred]
        self._square = ssim_window(other * other)

    def ssim(self, values: Sequence[float]) -> Tensor:
        """The map (1, 1, h - 10, w - 10) of SSIM (:func:`srgui.metrics.ssim`) at the scales ``values``."""
        vector = (1.0, *values)
        mean = _weighted(vector, self._means)
        square = sum(
            (vector[i] * vector[j] * (1 if i == j else 2) * self._squares[i][j] for i in range(len(vector)) for j in range(i + 1)),
            start=torch.zeros_like(mean),
        )
        cov = _weighted(vector, self._products) - mean * self._mean
        spread = square - mean.square() + self._square - self._mean.square()
        mean, other = mean + 0.5, self._mean + 0.5
        similarity = (2 * mean * other + SSIM_C1) * (2 * cov + SSIM_C2)
        return similarity / ((mean.square() + other.square() + SSIM_C1) * (spread + SSIM_C2))


def _weighted(vector: Sequence[float], maps: Sequence[Tensor]) -> Tensor:
    return sum((weight * each for weight, each in zip(vector, maps, strict=True)), start=torch.zeros_like(maps[0]))


def parts(corners: Sequence[Tensor], mask: Tensor | None = None) -> list[Tensor]:
    """The parts of a blend with these corners.

    Args:
        mask: (1, 1, h, w); where given, the scales outside of it come first, then those that hold in it.
    """
    steps = [after - before for before, after in pairwise(corners)]
    if mask is None:
        return [corners[0], *steps]
    return [corners[0], *(step * (1 - mask) for step in steps), *(step * mask for step in steps)]


def luma(corners: Sequence[Tensor]) -> list[Tensor]:
    """BT.601 Y of each corner, in double precision: it is affine, so Y of the blend is the blend of these."""
    return [to_y(corner.double()) for corner in corners]
