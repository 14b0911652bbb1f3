"""What stands for a forward operator that nobody knows: DGUNet's learned gradient module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTH = 64  # of the middle, as published


class Residual(nn.Module):
    """x + conv(prelu(conv x)), 3 x 3; at first x itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, WIDTH, 3, padding=1, bias=False)
        self.bend = nn.PReLU()
        self.second = nn.Conv2d(WIDTH, channels, 3, padding=1, bias=False)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(x, self.second(self.bend(self.first(x))))


class LearnedPair(nn.Module):
    """Phi and Phi^T of one stage, each learned by itself (DGUNet, Mou et al. 2022, section 3.2).

    Both keep pictures (N, C, H, W) as they are at first; DGUNet starts them at random.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.phi, self.phi_t = Residual(channels), Residual(channels)

    def A(self, x: Tensor) -> Tensor:  # noqa: N802
        """The measurement of x, on the grid of x."""
        seen: Tensor = self.phi(x)
        return seen

    def A_adjoint(self, y: Tensor) -> Tensor:  # noqa: N802
        """What stands for the transposed map."""
        back: Tensor = self.phi_t(y)
        return back
