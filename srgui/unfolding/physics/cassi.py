"""Coded aperture snapshot spectral imaging (CASSI): a scene of many bands, masked, sheared and summed into one picture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from srgui.errors import InputError
from srgui.unfolding.physics.base import Weight, check_measurement, check_picture

BANDS, STEP = 28, 2


@dataclass(frozen=True, eq=False)
class Cassi:
    """Y = sum over bands c of X_c * M, moved right by ``step * c`` pixels; x is (N, bands, H, W).

    The measurement is (N, 1, H, W + step * (bands - 1)): DAUHST's single disperser, with 2 pixels per band (Cai et al. 2022).

    Attributes:
        mask: (H, W) or (N, 1, H, W) in [0, 1].
    """

    mask: Tensor
    bands: int = BANDS
    step: int = STEP

    def __post_init__(self) -> None:
        if self.mask.ndim not in (2, 4) or (self.mask.ndim == 4 and self.mask.shape[1] != 1):
            raise InputError(f"a mask of shape {tuple(self.mask.shape)} cannot be used; give (H, W)")

    @property
    def channels(self) -> int:
        return self.bands

    @property
    def size(self) -> tuple[int, int]:
        return self.mask.shape[-2], self.mask.shape[-1]

    @property
    def width(self) -> int:
        """Of the measurement."""
        return self.size[1] + self.step * (self.bands - 1)

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        self._check_scene(x)
        return self._summed(x * self.mask)

    def A_adjoint(self, y: Tensor) -> Tensor:  # noqa: N802
        self.check(y)
        # (N, 1, H, bands, W): the window of each band
        windows = y.unfold(-1, self.size[1], self.step)
        return windows[:, 0].transpose(1, 2) * self.mask

    def prox_l2(self, z: Tensor, y: Tensor, alpha: Weight) -> Tensor:
        """``z + A'[(y - A z) / (alpha + diag(A A'))]``, as A A' is diagonal (DAUHST, Eq. 8)."""
        return z + self.A_adjoint((y - self.A(z)) / (self._unseen + alpha))

    @cached_property
    def diagonal(self) -> Tensor:
        """(1 or N, 1, H, width): A A', the squared mask summed along the shear; 0 where nothing falls."""
        squares = self.mask.square().view(-1, 1, *self.size)
        return self._summed(squares.expand(-1, self.bands, -1, -1))

    @cached_property
    def _unseen(self) -> Tensor:
        # A'(...) / 0 would be NaN where no band is let through; the quotient is not used there.
        return torch.where(self.diagonal == 0, torch.ones_like(self.diagonal), self.diagonal)

    def check(self, y: Tensor) -> None:
        check_measurement(y, (1, self.size[0], self.width), f"a mask of {self.size[1]} x {self.size[0]} and {self.bands} bands")

    def _check_scene(self, x: Tensor) -> None:
        check_picture(x, self.bands, self.size)

    def _summed(self, x: Tensor) -> Tensor:
        total = x.new_zeros(x.shape[0], 1, self.size[0], self.width)
        for band in range(self.bands):
            start = band * self.step
            total[:, 0, :, start : start + self.size[1]] += x[:, band]
        return total
