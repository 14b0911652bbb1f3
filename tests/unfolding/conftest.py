"""The operators that every property is tested on, and a small training."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from srgui.unfolding.kernels import the_twelve
from srgui.unfolding.physics import BlockSensing, BlurDownsample, Cassi, Operator
from srgui.unfolding.physics.sensing import random_rows

Make = Callable[[torch.dtype], Operator]


def _noise(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def _learned(kind: torch.dtype) -> Operator:
    return BlockSensing((random_rows(7, 4).double() + 0.1 * _noise(7, 16)).to(kind), (8, 12))


def _dead_mask(kind: torch.dtype) -> Operator:
    mask = (_noise(6, 7) > 0.5) * _noise(6, 7)
    mask[2] = 0  # a row of the measurement that no light reaches
    return Cassi(mask.to(kind), bands=4, step=2)


OPERATORS: dict[str, Make] = {
    "blur x2, K9": lambda kind: BlurDownsample(the_twelve()[8][None, None].to(kind), 2, (26, 28)),
    "blur x3, even kernel": lambda kind: BlurDownsample((_noise(1, 1, 4, 6) / 12).to(kind), 3, (9, 12)),
    "blur x4, a kernel per picture": lambda kind: BlurDownsample((_noise(2, 1, 5, 3) / 8).to(kind), 4, (8, 12)),
    "blur alone": lambda kind: BlurDownsample((_noise(1, 1, 3, 3) / 5).to(kind), 1, (7, 5)),
    "fixed block sensing": lambda kind: BlockSensing(random_rows(5, 4).to(kind), (8, 12), orthonormal=kind == torch.float32),
    "learned block sensing": _learned,
    "cassi": lambda kind: Cassi(_noise(6, 7).to(kind), bands=5, step=2),
    "cassi, one pixel per band": lambda kind: Cassi(_noise(1, 1, 5, 6).to(kind), bands=3, step=1),
    "cassi with a dead row": _dead_mask,
}


@pytest.fixture(params=list(OPERATORS))
def make_operator(request: pytest.FixtureRequest) -> Make:
    """Makes one of the operators, in a precision."""
    return OPERATORS[request.param]
