"""SRCNN 9-1-5 (Dong et al., arXiv 1501.00092): three convolutions on the bicubic-upscaled luma. A baseline for tables."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from srgui.resample import resize

# Bicubic reads 2 LR pixels to each side; the convolutions read 4 + 0 + 2 HR pixels, at scale 2 three LR pixels.
RADIUS = 5


class SRCNN(nn.Module):
    """9-1-5 with 64 and 32 channels, 8,129 parameters.

    The network works on BT.601 luma; the change of luma is added to all three channels, which leaves the chroma bicubic.

    Args:
        scale: factor of the bicubic upscaling in front.
    """

    luma: Tensor

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.conv1 = nn.Conv2d(1, 64, 9, padding=4)
        self.conv2 = nn.Conv2d(64, 32, 1)
        self.conv3 = nn.Conv2d(32, 1, 5, padding=2)
        self.register_buffer("luma", torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1), persistent=False)

    def forward(self, lr: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 3, H * scale, W * scale)."""
        up = resize(lr, lr.shape[-2] * self.scale, lr.shape[-1] * self.scale)
        y = (up * self.luma).sum(dim=1, keepdim=True)
        features = torch.relu(self.conv1(y))
        features = torch.relu(self.conv2(features))
        return up + (self.conv3(features) - y)
