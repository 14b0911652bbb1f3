"""Planning of tiles: pure arithmetic on boxes, nothing is computed here."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from srgui.protocol import Box


@dataclass(frozen=True)
class Tile:
    """One piece of work: ``inner`` is what it is responsible for, ``outer`` what the network sees. Both in LR pixels."""

    inner: Box
    outer: Box


def plan(height: int, width: int, tile: int, tile_pad: int) -> list[Tile]:
    """Cover a picture with tiles whose inner sides are at most ``tile`` and differ by at most one pixel.

    ``outer`` is ``inner`` with ``tile_pad`` pixels of context per side, cut at the picture. Tiles come row by row.
    """
    whole = Box(0, 0, height, width)
    return [Tile(inner, inner.grown(tile_pad, height, width)) for inner in divide(whole, tile)]


def divide(box: Box, tile: int) -> list[Box]:
    """Cut ``box`` into equalised boxes of at most ``tile`` on a side, row by row."""
    rows, columns = _cuts(box.height, tile), _cuts(box.width, tile)
    return [
        Box(box.top + top, box.left + left, bottom - top, right - left)
        for top, bottom in pairwise(rows)
        for left, right in pairwise(columns)
    ]


def _cuts(length: int, tile: int) -> list[int]:
    count = -(-length // tile)
    return [length * i // count for i in range(count + 1)]
