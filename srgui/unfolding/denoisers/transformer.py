"""A small Transformer with half-shuffle window attention (DAUHST, Cai et al. 2022, section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WINDOW = 8


class HalfShuffleAttention(nn.Module):
    """Attention of windows of 8 x 8 tokens: one half of the channels within a window, the other across windows.

    Across means among 8 x 8 tokens that lie 8 pixels apart, so the cost stays linear in the size of the picture and no size is
    built in (DAUHST lets all windows of its one size see each other).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)
        self.places = nn.Parameter(torch.zeros(2, WINDOW**2, WINDOW**2))

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C), sides multiples of 64 -> the same shape."""
        near, far = self.qkv(x).unflatten(-1, (3, 2, -1)).unbind(-2)
        return self.out(torch.cat([self._attend(near, 0), self._attend(far, 1)], dim=-1))

    def _attend(self, qkv: Tensor, branch: int) -> Tensor:
        count, height, width = qkv.shape[:3]
        # rows and columns as (super-window, window, place in it): a far window is made of the windows of one super-window
        grid = qkv.view(count, height // WINDOW**2, WINDOW, WINDOW, width // WINDOW**2, WINDOW, WINDOW, *qkv.shape[3:])
        order = (0, 1, 2, 4, 5, 3, 6) if branch == 0 else (0, 1, 3, 4, 6, 2, 5)
        tokens = grid.permute(*order, 7, 8)
        shape = tokens.shape
        q, k, v = tokens.reshape(-1, WINDOW**2, *qkv.shape[3:]).unbind(-2)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=self.places[branch])
        back = [order.index(axis) for axis in range(7)]
        return mixed.reshape(*shape[:7], -1).permute(*back, 7).reshape(count, height, width, -1)


class Block(nn.Module):
    """x + attention(norm x), then x + gated convolution(norm x)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(width), HalfShuffleAttention(width)
        self.norm_wide, self.widen = nn.LayerNorm(width), nn.Linear(width, 2 * width)
        self.around = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
        self.narrow = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm(x))
        wide = F.gelu(self.widen(self.norm_wide(x))).movedim(-1, 1)
        return x + self.narrow(F.gelu(self.around(wide)).movedim(1, -1))


class HalfShuffle(nn.Module):
    """(N, channels + 1, H, W) -> (N, channels, H, W) for any H and W.

    Args:
        width: channels of the tokens, even.
        blocks: how many follow one another.
        skip: whether the output is added to the input.
    """

    # A depthwise kernel is smaller than its own factors.
    adapted = ("head", "tail", "*.qkv", "*.out", "*.widen", "*.narrow")

    def __init__(self, channels: int = 3, width: int = 24, blocks: int = 2, *, skip: bool = False) -> None:
        super().__init__()
        self.skip = skip
        self.head = nn.Conv2d(channels + 1, width, 3, padding=1)
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.tail = nn.Conv2d(width, channels, 3, padding=1)
        if skip:  # nothing is added at first: the network starts as the solver alone
            nn.init.zeros_(self.tail.weight)
            nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        multiple = WINDOW**2
        padded = F.pad(x, (0, -width % multiple, 0, -height % multiple), "replicate")
        features = self.head(padded)
        tokens = features.movedim(1, -1)
        for block in self.blocks:
            tokens = block(tokens)
        out: Tensor = self.tail(features + tokens.movedim(-1, 1))[..., :height, :width]
        return torch.add(x[:, : out.shape[1]], out) if self.skip else out
