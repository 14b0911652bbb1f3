"""ResUNet, the denoiser of USRNet (Zhang et al. 2020, section 3.3): a U-Net of residual blocks without bias or normalisation."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_GAIN = 0.2  # of the orthogonal start, as published


class ResBlock(nn.Module):
    """x + conv(relu(conv x)), 3 x 3, bias-free."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(x)))


class ResUNet(nn.Module):
    """(N, channels + 1, H, W) -> (N, channels, H, W) for any H and W; with widths 16-32-64-64 and 3 channels 588,784 parameters.

    Args:
        widths: channels from the finest level to the coarsest; each level halves the sides.
        skip: whether the output is added to the input; USRNet has it not.
    """

    adapted = ("*",)

    def __init__(self, channels: int = 3, widths: Sequence[int] = (16, 32, 64, 64), skip: bool = False) -> None:
        super().__init__()
        self.skip, self.multiple = skip, 2 ** (len(widths) - 1)
        pairs = list(itertools.pairwise(widths))
        self.head = nn.Conv2d(channels + 1, widths[0], 3, padding=1, bias=False)
        self.down = nn.ModuleList(
            nn.Sequential(ResBlock(fine), ResBlock(fine), nn.Conv2d(fine, coarse, 2, stride=2, bias=False))
            for fine, coarse in pairs
        )
        self.body = nn.Sequential(ResBlock(widths[-1]), ResBlock(widths[-1]))
        self.up = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(coarse, fine, 2, stride=2, bias=False), ResBlock(fine), ResBlock(fine))
            for fine, coarse in reversed(pairs)
        )
        self.tail = nn.Conv2d(widths[0], channels, 3, padding=1, bias=False)
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.orthogonal_(layer.weight, gain=_GAIN)
        if skip:  # nothing is added at first: the network starts as the solver alone
            nn.init.zeros_(self.tail.weight)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        padded = F.pad(x, (0, -width % self.multiple, 0, -height % self.multiple), "replicate")
        features = self.head(padded)
        kept = []
        for level in self.down:
            kept.append(features)
            features = level(features)
        features = features + self.body(features)
        for level in self.up:
            # the coarse features with what the level above held: (N, coarse, h, w) -> (N, fine, 2h, 2w)
            features = level(features) + kept.pop()
        out: Tensor = self.tail(features)[..., :height, :width]
        return torch.add(x[:, : out.shape[1]], out) if self.skip else out
