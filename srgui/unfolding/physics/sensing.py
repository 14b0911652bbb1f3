"""Block compressive sensing: every block of a picture is seen through a few inner products with the rows of one matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from srgui.errors import InputError
from srgui.unfolding.physics.base import Weight, check_measurement, check_picture

BLOCK = 32


def measurements(ratio: float, block: int = BLOCK) -> int:
    """How many numbers a block becomes at ``ratio`` percent: rounded up, as in DGUNet (11, 41, 103, 256 at 1, 4, 10, 25%).

    Raises:
        InputError: the ratio is not above 0 and at most 100.
    """
    if not 0 < ratio <= 100:
        raise InputError(f"a ratio of {ratio:g}% is out of range; use above 0 and up to 100")
    return math.ceil(round(block * block * ratio / 100, 6))


def random_rows(rows: int, block: int = BLOCK, seed: int = 0) -> Tensor:
    """(rows, block^2) orthonormal rows of a random direction, the fixed Phi of ISTA-Net+ (Zhang and Ghanem 2018)."""
    generator = torch.Generator().manual_seed(seed)
    gaussian = torch.randn(block * block, rows, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(gaussian).Q.T.float().contiguous()


@dataclass(frozen=True, eq=False)
class BlockSensing:
    """y[:, :, i, j] = Phi times the pixels of block (i, j), row by row; x is (N, 1, H, W).

    Attributes:
        phi: (M, B^2), fixed or learned; with M = B^2 and a square Phi nothing is lost.
        size: height and width of x, multiples of B.
        orthonormal: whether the rows of Phi are known to be: the closed form is then a division.

    Raises:
        InputError: Phi's rows are no square block, there are more of them than pixels, or ``size`` is no multiple of B.
    """

    phi: Tensor
    size: tuple[int, int]
    orthonormal: bool = False
    channels: int | None = 1

    def __post_init__(self) -> None:
        rows, cols = self.phi.shape
        if self.block**2 != cols or rows > cols:
            raise InputError(f"Phi of {rows} x {cols} measures no square block; give (M, B * B) with M up to B * B")
        if self.size[0] % self.block or self.size[1] % self.block:
            raise InputError(
                f"{self.size[1]} x {self.size[0]} pixels are no whole blocks of {self.block}; pad or crop to a multiple of it"
            )

    @property
    def block(self) -> int:
        return math.isqrt(self.phi.shape[1])

    @property
    def _filters(self) -> Tensor:
        return self.phi.view(-1, 1, self.block, self.block)

    @cached_property
    def _gram(self) -> Tensor:
        return self.phi @ self.phi.T

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        check_picture(x, self.channels, self.size)
        return F.conv2d(x, self._filters, stride=self.block)

    def A_adjoint(self, y: Tensor) -> Tensor:  # noqa: N802
        self.check(y)
        return F.conv_transpose2d(y, self._filters, stride=self.block)

    def prox_l2(self, z: Tensor, y: Tensor, alpha: Weight) -> Tensor:
        """``z + Phi'(Phi Phi' + alpha)^-1 (y - Phi z)``: a division for orthonormal rows, else one solve per picture."""
        residual = y - self.A(z)
        if self.orthonormal:
            return z + self.A_adjoint(residual / (1 + alpha))
        weights = torch.as_tensor(alpha, dtype=z.dtype, device=z.device).view(-1, 1, 1)
        system = self._gram + weights * torch.eye(len(self.phi), dtype=z.dtype, device=z.device)
        return z + self.A_adjoint(torch.linalg.solve(system, residual.flatten(2)).view_as(residual))

    def check(self, y: Tensor) -> None:
        height, width = self.size
        what = f"block sensing of {width} x {height} pixels with {len(self.phi)} rows"
        check_measurement(y, (len(self.phi), height // self.block, width // self.block), what)
