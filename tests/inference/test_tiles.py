from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from srgui.inference.tiles import divide, plan
from srgui.protocol import Box

sides = st.integers(1, 70)
tiles = st.integers(1, 80)
pads = st.integers(0, 20)


@given(sides, sides, tiles, pads)
def test_inner_boxes_cover_the_picture_exactly_once(height: int, width: int, tile: int, pad: int) -> None:
    cover = np.zeros((height, width), np.int32)
    for piece in plan(height, width, tile, pad):
        cover[piece.inner.slices] += 1
    assert (cover == 1).all()


@given(sides, sides, tiles, pads)
def test_tiles_are_small_enough_and_as_equal_as_can_be(height: int, width: int, tile: int, pad: int) -> None:
    pieces = plan(height, width, tile, pad)
    for across in ({piece.inner.height for piece in pieces}, {piece.inner.width for piece in pieces}):
        assert max(across) <= tile
        assert max(across) - min(across) <= 1
    assert len(pieces) == -(-height // tile) * -(-width // tile)


@given(sides, sides, tiles, pads)
def test_outer_is_inner_and_its_context_within_the_picture(height: int, width: int, tile: int, pad: int) -> None:
    for piece in plan(height, width, tile, pad):
        inner, outer = piece.inner, piece.outer
        assert (outer.top, outer.left) == (max(0, inner.top - pad), max(0, inner.left - pad))
        assert (outer.bottom, outer.right) == (min(height, inner.bottom + pad), min(width, inner.right + pad))


@given(sides, sides, tiles)
def test_tiles_come_row_by_row(height: int, width: int, tile: int) -> None:
    corners = [(box.top, box.left) for box in divide(Box(0, 0, height, width), tile)]
    assert corners == sorted(corners)


@given(st.integers(0, 50), st.integers(0, 50), sides, sides, tiles)
def test_a_box_elsewhere_is_cut_like_one_at_the_corner(top: int, left: int, height: int, width: int, tile: int) -> None:
    here = divide(Box(0, 0, height, width), tile)
    there = divide(Box(top, left, height, width), tile)
    assert there == [Box(box.top + top, box.left + left, box.height, box.width) for box in here]
