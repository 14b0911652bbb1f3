"""Blur by a known kernel and downsampling: the operator of non-blind super-resolution, with circular boundaries."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from srgui.errors import InputError
from srgui.unfolding.physics.base import Weight, check_measurement, check_picture

SCALES = (2, 3, 4)


@dataclass(frozen=True, eq=False)
class BlurDownsample:
    """y = (x * k) sampled at every ``sf``-th pixel from the first, where * is circular convolution (USRNet, Zhang et al. 2020).

    Attributes:
        kernel: (1 or N, 1, kh, kw), centred on (kh // 2, kw // 2).
        sf: the factor of the downsampling; 1 for blur alone.
        size: height and width of x, multiples of ``sf``.

    Raises:
        InputError: the kernel is larger than the picture, or ``size`` no multiple of ``sf``.
    """

    kernel: Tensor
    sf: int
    size: tuple[int, int]
    channels: int | None = None

    def __post_init__(self) -> None:
        height, width = self.size
        if self.kernel.ndim != 4 or self.kernel.shape[1] != 1:
            raise InputError(f"a kernel of shape {tuple(self.kernel.shape)} cannot be used; give (1 or N, 1, height, width)")
        if self.sf < 1 or height % self.sf or width % self.sf:
            raise InputError(f"{width} x {height} pixels cannot be sampled at every {self.sf}; crop to a multiple of {self.sf}")
        rows, cols = self.kernel.shape[-2:]
        if rows > height or cols > width:
            raise InputError(
                f"a kernel of {cols} x {rows} is larger than the picture of {width} x {height}; "
                "give a smaller kernel or a larger picture"
            )

    @cached_property
    def _otf(self) -> Tensor:
        """(1 or N, 1, H, W // 2 + 1): the transform of the kernel with its centre at the origin."""
        rows, cols = self.kernel.shape[-2:]
        whole = self.kernel.new_zeros(*self.kernel.shape[:2], *self.size)
        whole[..., :rows, :cols] = self.kernel
        return torch.fft.rfft2(whole.roll((-(rows // 2), -(cols // 2)), dims=(-2, -1)))

    @cached_property
    def _power(self) -> Tensor:
        """(1 or N, 1, h, w // 2 + 1), real: the eigenvalues of A A', means of |OTF|^2 over frequencies that fold together."""
        correlation = torch.fft.irfft2(self._otf.abs().square(), s=self.size)
        return torch.fft.rfft2(self._sampled(correlation)).real.clamp_min(0)

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        check_picture(x, self.channels, self.size)
        return self._sampled(torch.fft.irfft2(self._otf * torch.fft.rfft2(x), s=self.size))

    def A_adjoint(self, y: Tensor) -> Tensor:  # noqa: N802
        self.check(y)
        sparse = y.new_zeros(*y.shape[:2], *self.size)
        sparse[..., :: self.sf, :: self.sf] = y
        return torch.fft.irfft2(self._otf.conj() * torch.fft.rfft2(sparse), s=self.size)

    def prox_l2(self, z: Tensor, y: Tensor, alpha: Weight) -> Tensor:
        """``z + A'(A A' + alpha)^-1 (y - A z)``: USRNet's Eq. 7 after the matrix inversion lemma, where A A' is circulant."""
        residual = torch.fft.rfft2(y - self.A(z)) / (self._power + alpha)
        return z + self.A_adjoint(torch.fft.irfft2(residual, s=y.shape[-2:]))

    def check(self, y: Tensor) -> None:
        height, width = self.size
        what = f"blur and x{self.sf} downsampling of {width} x {height} pixels"
        check_measurement(y, (self.channels, height // self.sf, width // self.sf), what)

    def _sampled(self, x: Tensor) -> Tensor:
        return x[..., :: self.sf, :: self.sf]
