"""A loaded network: a module without state of its own, and what the engine must know to run it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DEFAULT_PAD = 32  # LR pixels of context where the receptive field is unknown or very wide; tiles are then blended
PROBE = 64  # side of the patch on which memory and time are measured


@dataclass(frozen=True, eq=False)
class Network:
    """An SR network, ready to run.

    Attributes:
        module: in eval mode, channels_last, parameters frozen; (1, C, H, W) in [0, 1] -> (1, C, H * scale, W * scale).
        radius: how far, in LR pixels, an output pixel looks; None where that is unknown or the whole picture.
        channels: 3, or 1 for networks that take the planes of a picture one by one.
        multiple_of, minimum: sizes the module can take.
        half: whether it bears float16.
        digest: sha256 of the weight file.
    """

    module: nn.Module
    architecture: str
    scale: int
    channels: int = 3
    radius: int | None = None
    multiple_of: int = 1
    minimum: int = 1
    half: bool = False
    digest: str | None = None
    tags: tuple[str, ...] = field(default=())

    @property
    def tile_pad(self) -> int:
        """Context per side that a tile needs: exact where ``radius`` is known."""
        return self.radius if self.radius is not None else DEFAULT_PAD

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    def with_module(self, module: nn.Module) -> Network:
        """The same network with other weights: what was measured of it holds for both."""
        other = replace(self, module=module)
        if "cost" in self.__dict__:
            other.__dict__["cost"] = self.cost
        return other

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.module.parameters())

    def __call__(self, lr: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] -> (N, 3, H * scale, W * scale), not clipped; pads to the sizes the module can take."""
        height, width = lr.shape[-2:]
        x = lr.reshape(-1, self.channels, height, width)
        x = _pad(x, self.minimum, self.multiple_of).contiguous(memory_format=torch.channels_last)
        out = self.module(x)
        out = out[0] if isinstance(out, tuple) else out  # MM-RealSR also returns its degradation estimate
        sr = out[..., : height * self.scale, : width * self.scale].float()
        return sr.reshape(-1, 3, *sr.shape[-2:])

    @cached_property
    def cost(self) -> tuple[float, float]:
        """Bytes of working memory and seconds per LR pixel, measured on a small patch at first use.

        The bytes are twice the largest input plus output of any layer: what the allocator holds at the peak.
        """
        largest = 0

        def note(_: nn.Module, inputs: tuple[object, ...], output: object) -> None:
            nonlocal largest
            tensors = [t for t in (*inputs, output) if isinstance(t, Tensor)]
            largest = max(largest, sum(t.numel() for t in tensors) * 4)

        patch = torch.rand(1, 3, PROBE, PROBE, device=self.device)
        with torch.inference_mode():
            hooks = [m.register_forward_hook(note) for m in self.module.modules() if not list(m.children())]
            try:
                self(patch)
            finally:
                for hook in hooks:
                    hook.remove()
            start = time.perf_counter()
            self(patch)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            seconds = time.perf_counter() - start
        output = 3 * self.scale**2 * 4 * 3
        return 2 * largest / PROBE**2 + output, seconds / PROBE**2


def _pad(x: Tensor, minimum: int, multiple_of: int) -> Tensor:
    """Extend at the bottom and right, by reflection as far as the picture reaches and then by repeating the edge."""
    height, width = x.shape[-2:]
    down = -(-max(height, minimum) // multiple_of) * multiple_of - height
    right = -(-max(width, minimum) // multiple_of) * multiple_of - width
    if down or right:
        reflect = min(right, width - 1), min(down, height - 1)
        x = F.pad(x, (0, reflect[0], 0, reflect[1]), "reflect")
        x = F.pad(x, (0, right - reflect[0], 0, down - reflect[1]), "replicate")
    return x
