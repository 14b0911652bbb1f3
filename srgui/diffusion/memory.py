"""What the parts of a base cost, found on the meta device without computing, and the tiles that fit into the memory there is."""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import lru_cache
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn

from srgui.device import free_memory
from srgui.diffusion.vae import decoder_reach, encoder_reach
from srgui.inference.tiles import plan

FLOOR = 16  # latents: the smallest tile that is tried
_PROBE = 16  # latents: the side on which costs are counted
_CPU_BUDGET = 4 * 2**30
_STEP = 8  # tiles chosen from memory are multiples of so many latents, which the UNet halves three times


@dataclass(frozen=True)
class Tiling:
    """Sizes of PiSA-SR's release.

    Attributes:
        process: least side of the picture that the VAE sees, pixels.
        latent, overlap: side of the UNet's tiles and what two of them share, latents.
        encoder: side of the VAE's tiles when it encodes, pixels.
        decoder: and when it decodes, latents.
    """

    process: int = 512
    latent: int = 96
    overlap: int = 32
    encoder: int = 1024
    decoder: int = 224

    def with_latent(self, side: int) -> Tiling:
        """With smaller tiles for the UNet, of which neighbours share no more than a third."""
        return replace(self, latent=side, overlap=min(self.overlap, side // 3))


@dataclass(frozen=True)
class Cost:
    """Of one part of a base, per latent: working memory in bytes at the peak, and floating-point operations."""

    memory: float
    operations: float


@dataclass(frozen=True)
class Costs:
    """Of a base.

    Attributes:
        constant: bytes of the largest layer with adapters while it runs.
        held: numbers per latent that a tile of the VAE keeps at most while it waits.
        middle: bytes per latent that the VAE's middle block takes, which is run on the whole latent.
        attention: its operations for each pair of latents, as it attends from all to all.
    """

    unet: Cost
    encoder: Cost
    decoder: Cost
    constant: int
    held: int
    middle: int
    attention: int


def costs_of(unet: Any, vae: Any, factor: int) -> Costs:
    """Count what the parts of a base do."""
    channels, text = vae.config.latent_channels, torch.empty(1, 77, unet.config.cross_attention_dim, device="meta")
    latent = torch.empty(1, channels, _PROBE, _PROBE, device="meta")
    picture = torch.empty(1, 3, _PROBE * factor, _PROBE * factor, device="meta")
    step = torch.ones(1, dtype=torch.long, device="meta")
    largest = max(layer.weight.numel() for layer in unet.modules() if isinstance(layer, (nn.Linear, nn.Conv2d)))
    widths = list(vae.config.block_out_channels)
    return Costs(
        _count(unet, lambda m: m(latent, step, encoder_hidden_states=text)),
        _count(vae, lambda m: m.encode(picture)),
        _count(vae, lambda m: m.decode(latent)),
        largest * 10,  # the product and the sum in float32, and the sum in the layer's type
        (widths[0] + widths[min(1, len(widths) - 1)]) * factor**2,
        7 * widths[-1] * next(vae.parameters()).element_size(),  # input, query, key, value, result, its parts, and their sum
        4 * widths[-1],
    )


def _count(module: nn.Module, call: Callable[[Any], object]) -> Cost:
    size = next(module.parameters()).element_size()
    copy = shapes_of(module)
    largest, operations = 0, 0

    def note(layer: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        nonlocal largest, operations
        tensors = [t for t in (*inputs, output) if isinstance(t, Tensor)]
        largest = max(largest, sum(t.numel() for t in tensors))
        if isinstance(layer, (nn.Linear, nn.Conv2d)) and isinstance(output, Tensor):
            operations += 2 * output.numel() * layer.weight[0].numel()

    for layer in copy.modules():
        if not list(layer.children()):
            layer.register_forward_hook(note)
    with torch.no_grad():
        call(copy)
    return Cost(2 * largest * size / _PROBE**2, operations / _PROBE**2)


def shapes_of(module: nn.Module) -> nn.Module:
    """A copy of ``module`` on the meta device, to be run without computing."""
    blank: dict[int, object] = {id(t): nn.Parameter(_blank(t), requires_grad=False) for t in module.parameters()}
    return deepcopy(module, blank | {id(t): _blank(t) for t in module.buffers()})


def _blank(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=torch.float32, device="meta")


def budget_on(device: torch.device) -> int:
    """Bytes that the work on one tile may take."""
    free = free_memory(device)
    return min(free // 2, _CPU_BUDGET) if device.type == "cpu" else free * 6 // 10


def fitting(tiling: Tiling, costs: Costs, vae: Any, factor: int, budget: int) -> Tiling:
    """``tiling`` with every tile so small that the work on it takes no more than ``budget`` bytes; not below :data:`FLOOR`."""
    latent = min(tiling.latent, _side((budget - costs.constant) / costs.unet.memory))
    decoder = min(tiling.decoder, _side(budget / costs.decoder.memory, decoder_reach(vae.decoder)))
    encoder = min(tiling.encoder, factor * _side(budget / costs.encoder.memory, encoder_reach(vae.encoder) // factor))
    found = tiling if latent == tiling.latent else tiling.with_latent(latent)
    return replace(found, encoder=encoder, decoder=decoder)


def _side(area: float, context: int = 0) -> int:
    side = isqrt(max(1, int(area))) - 2 * context
    return max(FLOOR, side // _STEP * _STEP)


@dataclass(frozen=True)
class VaeTiles:
    """How one half of the VAE, ``cost``, goes over a latent. ``areas``: of its tiles with their context, latents."""

    costs: Costs
    cost: Cost
    areas: tuple[int, ...]
    whole: int

    @property
    def hold(self) -> torch.dtype:
        """In which type the tiles wait for each other: float16 where float32 would take over half of the free memory.

        Its rounding moves the result by less than a level of 8 bits.
        """
        return torch.float32 if self._numbers * 4 <= free_memory(torch.device("cpu")) // 2 else torch.float16

    @property
    def waiting(self) -> int:
        """Bytes of main memory that waiting tiles take, at the most."""
        return self._numbers * self.hold.itemsize

    @property
    def working(self) -> int:
        """Bytes of the device's memory that the largest tile takes, or the middle block, which has no tiles."""
        middle = self.costs.middle * self.whole if len(self.areas) > 1 else 0
        return max(int(self.cost.memory * max(self.areas)), middle)

    @property
    def operations(self) -> float:
        return self.cost.operations * sum(self.areas) + self.costs.attention * self.whole**2

    @property
    def _numbers(self) -> int:
        return self.costs.held * sum(self.areas) if len(self.areas) > 1 else 0


def encoder_tiles(costs: Costs, vae: Any, factor: int, size: tuple[int, int], tile: int) -> VaeTiles:
    """For a latent of ``size`` and tiles of ``tile`` pixels."""
    return _vae_tiles(costs, costs.encoder, size, tile // factor, encoder_reach(vae.encoder) // factor)


def decoder_tiles(costs: Costs, vae: Any, size: tuple[int, int], tile: int) -> VaeTiles:
    """For a latent of ``size`` and tiles of ``tile`` latents."""
    return _vae_tiles(costs, costs.decoder, size, tile, decoder_reach(vae.decoder))


def _vae_tiles(costs: Costs, cost: Cost, size: tuple[int, int], tile: int, reach: int) -> VaeTiles:
    whole = size[0] * size[1]
    boxes = [] if whole <= tile * tile else [each.outer for each in plan(*size, max(1, tile), reach)]
    return VaeTiles(costs, cost, tuple(box.height * box.width for box in boxes) or (whole,), whole)


@lru_cache(maxsize=8)
def operations_per_second(device: torch.device, dtype: torch.dtype) -> float:
    """How fast a convolution such as the UNet's is here, measured once."""
    side, channels = 32, 128
    layer = nn.Conv2d(channels, channels, 3, padding=1).to(device, dtype)
    x = torch.zeros(1, channels, side, side, device=device, dtype=dtype)
    with torch.inference_mode():
        layer(x)
        start = time.perf_counter()
        for _ in range(4):
            x = layer(x)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return 4 * 2 * x.numel() * channels * 9 / max(1e-6, time.perf_counter() - start)
