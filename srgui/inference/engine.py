"""Running a network over a picture of any size, tile by tile, in the memory there is."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor

from srgui.device import autocast, free_memory, is_out_of_memory
from srgui.errors import InputError, MemoryLimitError, ModelError
from srgui.inference.planes import Store
from srgui.inference.tiles import divide, plan
from srgui.models.network import PROBE, Network
from srgui.protocol import Box, Forecast, Run

FLOOR = 16  # LR pixels: the smallest tile that is tried after running out of memory
_LARGEST = {"cpu": 512, "cuda": 2048}  # beyond this, larger tiles gain nothing and answer cancelling later
_CPU_BUDGET = 384 * 2**20
_FADE = 16  # LR pixels over which neighbouring tiles are blended where they cannot agree exactly


@dataclass(frozen=True)
class Engine:
    """How to run networks.

    Args:
        tile: side of a tile in LR pixels, or None to choose it from free memory.
    """

    tile: int | None = None

    def __post_init__(self) -> None:
        if self.tile is not None and self.tile < FLOOR:
            raise InputError(f"a tile of {self.tile} pixels is too small; use {FLOOR} or more, or auto")

    def tile_for(self, network: Network) -> int:
        """The side of a tile in LR pixels, its context not counted."""
        if self.tile is not None:
            return self.tile
        per_pixel, _ = _cost(network)
        free = free_memory(network.device)
        budget = min(free // 2, _CPU_BUDGET) if network.device.type == "cpu" else free * 6 // 10
        side = isqrt(max(1, int(budget / per_pixel))) - 2 * network.tile_pad
        return max(FLOOR * 2, min(side, _LARGEST[network.device.type]))

    def forecast(self, network: Network, height: int, width: int) -> Forecast:
        """What :meth:`run` will take for an LR picture of this size."""
        tiles = plan(height, width, self.tile_for(network), network.tile_pad)
        per_pixel, seconds = _cost(network)
        areas = [tile.outer.height * tile.outer.width for tile in tiles]
        return Forecast(len(tiles), int(per_pixel * max(areas)), seconds * sum(areas))

    def run(self, network: Network, lr: Tensor, out: Store, run: Run) -> None:
        """Fill ``out`` with the SR of ``lr`` (1, 3, H, W).

        Where the network's receptive radius is known the result equals that of one pass over the whole picture; elsewhere
        neighbouring tiles are cross-faded. A tile that does not fit into memory is cut in four, and so are all that follow.

        Raises:
            MemoryLimitError: a tile of the smallest size does not fit.
        ModelError: the network gave NaN.
            Cancelled: within one tile's time of :meth:`Run.cancel`.
        """
        height, width = lr.shape[-2:]
        limit = self.tile_for(network)
        todo = divide(Box(0, 0, height, width), limit)[::-1]
        done, total = 0, len(todo)
        run.progress("tiles", 0, total)
        while todo:
            box = todo.pop()
            if max(box.height, box.width) > limit:
                parts = divide(box, limit)
                todo.extend(reversed(parts))
                total += len(parts) - 1
                continue
            try:
                self._one(network, lr, box, out)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                side = max(box.height, box.width)
                if side <= FLOOR:
                    raise _too_small(side, network) from error
                limit = max(FLOOR, side // 2)
                todo.append(box)
            else:
                done += 1
                run.progress("tiles", done, total)
                continue
            # Outside the handler, where the exception no longer holds the tensors of the failed pass.
            if network.device.type == "cuda":
                torch.cuda.empty_cache()

    def _one(self, network: Network, lr: Tensor, box: Box, out: Store) -> None:
        height, width = lr.shape[-2:]
        outer = box.grown(network.tile_pad, height, width)
        exact = network.radius is not None
        keep = box if exact else box.grown(_FADE // 2, height, width)
        with torch.inference_mode(), autocast(network.device, network.half):
            sr = network(lr[(..., *outer.slices)].to(network.device))
        inside = Box(keep.top - outer.top, keep.left - outer.left, keep.height, keep.width).scaled(network.scale)
        values = sr[(..., *inside.slices)].float().cpu()
        if bool(values.isnan().any()):
            raise ModelError(f"the {network.architecture} network gave NaN; its weights are broken, choose another model")
        target = keep.scaled(network.scale)
        if not exact:
            values = _fade_onto(out.read(target), values, _FADE * network.scale, box.top > 0, box.left > 0)
        out.write(target, values)


def _cost(network: Network) -> tuple[float, float]:
    try:
        return network.cost
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise _too_small(PROBE, network) from error


def _too_small(side: int, network: Network) -> MemoryLimitError:
    remedy = "close other programs, or choose a smaller model" + ("" if network.device.type == "cpu" else " or the CPU")
    return MemoryLimitError(f"not even a tile of {side} pixels fits into the memory of {network.device}; {remedy}")


def _fade_onto(before: Tensor, values: Tensor, width: int, top: bool, left: bool) -> Tensor:
    """Cross-fade ``values`` over what the neighbours above and to the left have already written there.

    Tiles come from the top left, so the bands along the upper and left edge hold the neighbours' values, and what they do
    not reach is overwritten with weight 1.
    """
    ramp = (torch.arange(width) + 0.5) / width
    weight = torch.ones(1, 1, *values.shape[-2:])
    if top:
        band = min(width, values.shape[-2])
        weight[..., :band, :] *= ramp[:band, None]
    if left:
        band = min(width, values.shape[-1])
        weight[..., :, :band] *= ramp[None, :band]
    return torch.where(weight < 1, torch.lerp(before, values, weight), values)
