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
        neighbouring tiles are cross-faded. When a tile does not fit into memory, it and all that follow are made of half the
        side; cross-faded tiles must lie on one grid, so there those that are done are done again.

        Raises:
            MemoryLimitError: a tile of the smallest size does not fit.
            ModelError: the network gave NaN.
            Cancelled: within one tile's time of :meth:`Run.cancel`.
        """
        whole = Box(0, 0, lr.shape[-2], lr.shape[-1])
        exact = network.radius is not None
        todo = divide(whole, self.tile_for(network))[::-1]
        fade = _fade_of(todo, whole)
        done, total = 0, len(todo)
        run.progress("tiles", 0, total)
        while todo:
            box = todo.pop()
            try:
                self._one(network, lr, box, out, 0 if exact else fade)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                side = max(box.height, box.width)
                if side <= FLOOR:
                    raise _too_small(side, network) from error
                limit = max(FLOOR, side // 2)
                todo = [part for area in ([*todo, box] if exact else [whole]) for part in divide(area, limit)[::-1]]
                fade = _fade_of(todo, whole)
                total = done + len(todo)
            else:
                done += 1
                run.progress("tiles", done, total)
                continue
            # Outside the handler, where the exception no longer holds the tensors of the failed pass.
            if network.device.type == "cuda":
                torch.cuda.empty_cache()

    def _one(self, network: Network, lr: Tensor, box: Box, out: Store, fade: int) -> None:
        height, width = lr.shape[-2:]
        outer = box.grown(network.tile_pad, height, width)
        keep = box.grown(fade // 2, height, width)
        with torch.inference_mode(), autocast(network.device, network.half):
            sr = network(lr[(..., *outer.slices)].to(network.device))
        inside = Box(keep.top - outer.top, keep.left - outer.left, keep.height, keep.width).scaled(network.scale)
        values = sr[(..., *inside.slices)].float().cpu()
        if bool(values.isnan().any()):
            raise ModelError(f"the {network.architecture} network gave NaN; its weights are broken, choose another model")
        target = keep.scaled(network.scale)
        if fade:
            values = _fade_onto(out.read(target), values, fade * network.scale, box.top > 0, box.left > 0, box.right < width)
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


def _fade_of(boxes: list[Box], whole: Box) -> int:
    """Over how many LR pixels tiles are cross-faded: so few that no pixel is in more than two tiles of a row or column."""
    sides = [box.height for box in boxes if box.height < whole.height] + [box.width for box in boxes if box.width < whole.width]
    return min([_FADE, *sides]) // 2 * 2


def _fade_onto(before: Tensor, values: Tensor, width: int, top: bool, left: bool, right: bool) -> Tensor:
    """Cross-fade ``values`` over what the tiles above and to the left have already written there.

    Tiles come row by row. In the end the weight of each shall be the product of a ramp down and a ramp across. The tile to the
    right is still to come and will fade over the right edge; in the band along the upper edge this one must leave room for it.
    What no tile has written before is overwritten with weight 1.

    Args:
        width: of the bands along the edges, in pixels of the result.
        top, left, right: where this tile has neighbours.
    """
    ramp = (torch.arange(width) + 0.5) / width
    height, across = values.shape[-2:]
    down, own, following = torch.ones(height, 1), torch.ones(1, across), torch.zeros(1, across)
    if top:
        down[:width, 0] = ramp
    if left:
        own[0, :width] = ramp
    if right:
        following[0, -width:] = ramp
    weight = torch.where(down < 1, down * own * (1 - following) / (1 - down * following), own)
    return torch.where(weight < 1, torch.lerp(before, values, weight), values)
