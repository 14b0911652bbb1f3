"""The shelf of pictures on the server, and the tiles cut from it."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from srgui.images import Picture, read_picture
from srgui.inference.picture import PreparedPicture
from srgui.protocol import Box, Run, Setting
from srgui.restorers import open_restorer
from srgui.ui import shelf as module
from srgui.ui.shelf import TILE, Entry, PictureLayer, PreparedLayer, Shelf, halve


def picture(height, width, alpha=False):
    rng = np.random.default_rng(height * 1000 + width)
    samples = rng.integers(0, 256, (height, width, 4), np.uint8)
    return Picture(samples[..., :3].copy(), samples[..., 3].copy() if alpha else None)


def entry(owner="me", **size):
    return Entry(owner, "a.png", {"lr": PictureLayer(picture(**(size or {"height": 40, "width": 50})))})


def decode(png):
    return np.asarray(Image.open(io.BytesIO(png)))


@pytest.mark.parametrize("alpha", [False, True])
def test_tiles_put_together_are_the_picture(alpha):
    whole = picture(TILE + 77, 2 * TILE + 5, alpha)
    shelf = Shelf()
    mine = shelf.put(Entry("me", "a.png", {"lr": PictureLayer(whole)}))
    rows = [
        np.concatenate([decode(shelf.tile({"id": mine.id, "layer": "lr", "level": 0, "x": x, "y": y})) for x in range(3)], axis=1)
        for y in range(2)
    ]
    found = np.concatenate(rows, axis=0)
    np.testing.assert_array_equal(found[..., :3], whole.rgb)
    if alpha:
        np.testing.assert_array_equal(found[..., 3], whole.alpha)


@pytest.mark.parametrize(("height", "width", "level"), [(8, 8, 1), (9, 7, 1), (64, 33, 3), (1, 1, 4), (5, 300, 2)])
def test_halving_averages_blocks(height, width, level):
    samples = picture(height, width).rgb
    found = halve(samples, level)
    step = 2**level
    assert found.shape == (-(-height // step), -(-width // step), 3)
    for y in range(found.shape[0]):
        for x in range(found.shape[1]):
            block = samples[y * step : (y + 1) * step, x * step : (x + 1) * step].reshape(-1, 3)
            assert np.abs(found[y, x] - block.mean(axis=0)).max() <= 0.5


@pytest.mark.parametrize("alpha", [False, True])
def test_the_overview_made_while_saving_agrees_with_the_full_result(tmp_path, monkeypatch, alpha):
    monkeypatch.setattr(module, "_OVERVIEW", 64)
    prepared = PreparedPicture(open_restorer("bicubic"), picture(70, 90, alpha), 4, Run())
    layer = PreparedLayer(prepared, Setting())
    prepared.save(tmp_path / "a.png", Setting(), Run(), seen=layer.see)
    box = Box(0, 0, *prepared.size)
    found = layer.read(box, 4)
    full = halve(layer.read(box, 0), 4)
    assert found.shape == full.shape
    assert np.abs(found.astype(int) - full).max() <= 1


@pytest.mark.parametrize("alpha", [False, True])
def test_a_grey_picture_is_seen_as_it_is_saved(tmp_path, alpha):
    shown = replace(picture(20, 24, alpha), grey=True)
    prepared = PreparedPicture(open_restorer(pair=True), shown, 4, Run())
    layer = PreparedLayer(prepared, Setting())
    prepared.save(tmp_path / "a.png", Setting(), Run(), seen=layer.see)
    found, saved = layer.read(Box(0, 0, *prepared.size), 0), read_picture(tmp_path / "a.png")
    assert saved.grey
    assert np.array_equal(found[..., :3], saved.rgb)
    assert found.shape[2] == 3 + alpha


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"id": "guess", "layer": "lr", "level": 0, "x": 0, "y": 0},
        {"layer": "hr", "level": 0, "x": 0, "y": 0},
        {"layer": "lr", "level": -1, "x": 0, "y": 0},
        {"layer": "lr", "level": 40, "x": 0, "y": 0},
        {"layer": "lr", "level": 0, "x": 9, "y": 0},
        {"layer": "lr", "level": 0, "x": "0", "y": 0},
        {"layer": "lr", "level": 0, "x": 0, "y": None},
    ],
)
def test_a_tile_that_is_not_there_is_none(request_):
    shelf = Shelf()
    mine = shelf.put(entry())
    assert shelf.tile({"id": mine.id, **request_}) is None


def test_the_bound_holds_and_the_longest_unseen_leave_first():
    size = entry().bytes
    shelf = Shelf(bound=3 * size)
    first, second, third = (shelf.put(entry()) for _ in range(3))
    assert shelf.get(first.id) is first
    fourth = shelf.put(entry())
    assert shelf.get(second.id) is None
    assert all(shelf.get(e.id) is e for e in (first, third, fourth))


def test_one_picture_larger_than_the_bound_stays_while_it_is_the_newest():
    shelf = Shelf(bound=10)
    large = shelf.put(entry())
    assert shelf.get(large.id) is large
    shelf.put(entry())
    assert shelf.get(large.id) is None


def test_a_visitor_who_leaves_takes_only_their_own_pictures():
    shelf = Shelf()
    mine, yours = shelf.put(entry("me")), shelf.put(entry("you"))
    shelf.drop("me")
    assert shelf.get(mine.id) is None
    assert shelf.get(yours.id) is yours


def test_ids_cannot_be_guessed():
    ids = {entry().id for _ in range(200)}
    assert len(ids) == 200
    assert all(len(identity) >= 20 for identity in ids)
