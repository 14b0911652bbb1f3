from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from srgui.degradations import bicubic_lr, degrade, rng_for
from srgui.errors import InputError
from srgui.evaluation import Protocol
from srgui.images import read_picture
from srgui.training import pairs as pairs_module
from srgui.training.pairs import Pairs, digest, validation_pairs
from srgui.training.preflight import Item, inspect

Save = Callable[..., Path]


@pytest.fixture
def items(tmp_path: Path, save_png: Save) -> list[Item]:
    for index, size in enumerate(((40, 40), (43, 61), (64, 50))):
        save_png(tmp_path / "hr" / f"{index}.png", size)
    return inspect([tmp_path / "hr"], scale=2, patch=8).usable()


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read, as they are."""
    seen: list[str] = []

    def note(path: Path) -> object:
        seen.append(Path(path).name)
        return read_picture(path)

    monkeypatch.setattr(pairs_module, "read_picture", note)
    return seen


def test_lr_is_made_of_the_cropped_hr(items: list[Item]) -> None:
    for degradation in ("bicubic", "custom:blur=1,jpeg=70"):
        pairs = Pairs(items, 2, degradation)
        for index, item in enumerate(items):
            hr = read_picture(item.path).as_uint8()[: item.height // 2 * 2, : item.width // 2 * 2]
            assert np.array_equal(pairs[index].hr, hr)
            lr = pairs[index].lr
            assert lr is not None
            assert np.array_equal(lr, degrade(degradation, hr, 2, rng_for(0, "any")))
            assert lr.shape[:2] == pairs.lr_size(index)


def test_a_random_lr_is_left_to_each_look(items: list[Item]) -> None:
    assert Pairs(items, 2, "camera")[0].lr is None


def test_given_lr_files_are_used_whatever_the_degradation(items: list[Item], tmp_path: Path, save_png: Save) -> None:
    for item in items:
        save_png(tmp_path / "lr" / item.path.name, (item.height // 2, item.width // 2))
    paired = inspect([tmp_path / "hr"], scale=2, patch=8, lr_dir=tmp_path / "lr").usable()
    pairs = Pairs(paired, 2, "camera")
    whole = validation_pairs(paired, 2, "camera", seed=0)
    for index, item in enumerate(paired):
        assert item.lr_path is not None
        expected = read_picture(item.lr_path).as_uint8()
        lr = pairs[index].lr
        assert lr is not None
        assert np.array_equal(lr, expected)
        assert np.array_equal(whole[index].lr, expected)


def test_a_set_that_fits_is_decoded_once(items: list[Item], read: list[str]) -> None:
    pairs = Pairs(items, 2, "bicubic")
    assert pairs.fits
    assert read == []
    for index in (0, 1, 2, 1, 0, 2):
        assert pairs[index] is pairs[index]
    assert sorted(read) == ["0.png", "1.png", "2.png"]


def test_beyond_the_budget_the_longest_unused_goes(items: list[Item], read: list[str]) -> None:
    whole = [Pairs(items, 2, "bicubic")[index] for index in range(3)]
    read.clear()
    pairs = Pairs(items, 2, "bicubic", budget=whole[0].nbytes + whole[1].nbytes)
    assert not pairs.fits
    for index, names in ((0, "0"), (1, "01"), (0, "01"), (2, "012"), (0, "0120"), (0, "0120")):
        assert np.array_equal(pairs[index].hr, whole[index].hr)
        assert [name[0] for name in read] == list(names)


def test_a_budget_too_small_for_one_picture_still_works(items: list[Item]) -> None:
    pairs = Pairs(items, 2, "bicubic", budget=10)
    assert pairs[1].hr.shape == (42, 60, 3)
    assert pairs[1].hr.shape == (42, 60, 3)


def test_the_estimate_is_what_is_kept(items: list[Item]) -> None:
    kept = sum(Pairs(items, 2, "bicubic")[index].nbytes for index in range(3))
    assert Pairs(items, 2, "bicubic", budget=kept).fits
    assert not Pairs(items, 2, "bicubic", budget=kept - 1).fits


def test_a_picture_that_changed_since_it_was_checked_is_refused(items: list[Item], save_png: Save) -> None:
    items[0].path.unlink()
    save_png(items[0].path, (40, 44))
    with pytest.raises(InputError, match=r"0\.png has changed from 40 x 40 since it was checked; start again"):
        Pairs(items, 2, "bicubic")[0]


def test_resized_pairs_have_one_size(items: list[Item]) -> None:
    pairs = Pairs(items, 2, "bicubic", size=24)
    for index in range(3):
        assert pairs[index].hr.shape == (24, 24, 3)
        lr = pairs[index].lr
        assert lr is not None
        assert np.array_equal(lr, bicubic_lr(pairs[index].hr, 2))
    for size in (1, 25):
        with pytest.raises(InputError, match="give a multiple of 2"):
            Pairs(items, 2, "bicubic", size=size)


@pytest.mark.parametrize("degradation", ["bicubic", "camera", "realworld", "kernels"])
def test_validation_lr_is_what_evaluation_makes(items: list[Item], degradation: str) -> None:
    for pair, item in zip(validation_pairs(items, 2, degradation, seed=3), items, strict=True):
        hr = read_picture(item.path).as_uint8()
        assert np.array_equal(pair.hr, hr[: item.height // 2 * 2, : item.width // 2 * 2])
        assert np.array_equal(pair.lr, Protocol(degradation, 3).lr_of(hr, 2, item.path.name))
        assert pair.path == item.path


def test_the_digest_follows_names_contents_and_order(items: list[Item], tmp_path: Path) -> None:
    paths = [item.path for item in items]
    assert digest(paths) == digest(list(paths))
    assert len({digest(paths), digest(paths[::-1]), digest(paths[:2])}) == 3
    copies = [tmp_path / "copy" / path.name for path in paths]
    (tmp_path / "copy").mkdir()
    for path, copy in zip(paths, copies, strict=True):
        copy.write_bytes(path.read_bytes())
    assert digest(copies) == digest(paths)
