from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from srgui.errors import InputError
from srgui.training.preflight import Inventory, Item, inspect, natural, split

Save = Callable[..., Path]


@pytest.fixture
def hr_dir(tmp_path: Path, save_png: Save) -> Path:
    """Three usable pictures; the sides of the last are no multiples of 4."""
    for index, size in enumerate(((64, 48), (48, 80), (51, 66))):
        save_png(tmp_path / "hr" / f"{index}.png", size)
    return tmp_path / "hr"


def kinds(inventory: Inventory) -> dict[str, str]:
    assert all(str(finding.path) in finding.problem and "\n" not in finding.problem for finding in inventory.findings)
    return {finding.path.name: finding.kind for finding in inventory.findings}


def names(items: list[Item]) -> list[str]:
    return [item.path.name for item in items]


def items(count: int, folder: str = "a") -> list[Item]:
    return [Item(Path(folder) / f"{index}.png", 64, 64, None, f"{index:064x}") for index in range(count)]


# HR alone


def test_good_pictures_are_all_usable(hr_dir: Path) -> None:
    inventory = inspect([hr_dir], scale=4, patch=12)
    assert names(inventory.usable()) == ["0.png", "1.png", "2.png"]
    assert [(item.height, item.width) for item in inventory.items] == [(64, 48), (48, 80), (51, 66)]
    assert inventory.findings == []
    assert inventory.lines() == ["3 pictures can be used (x4, LR patches of 12)"]


def test_every_fault_is_found_in_one_go(hr_dir: Path, save_png: Save) -> None:
    (hr_dir / "a.png").write_bytes(b"")
    (hr_dir / "b.jpg").write_text("no picture")
    (hr_dir / "c.png").write_bytes((hr_dir / "0.png").read_bytes()[:300])
    save_png(hr_dir / "d.png", (47, 200))
    save_png(hr_dir / "e.png", (3, 3))
    shutil.copy(hr_dir / "1.png", hr_dir / "f.png")
    inventory = inspect([hr_dir], scale=4, patch=12)
    assert names(inventory.items) == ["0.png", "1.png", "2.png"]
    expected = {"a.png": "unreadable", "b.jpg": "unreadable", "c.png": "unreadable"}
    assert kinds(inventory) == expected | {"d.png": "too-small", "e.png": "too-small", "f.png": "duplicate"}
    assert inventory.lines() == [
        "3 pictures can be used (x4, LR patches of 12); 6 left out:",
        *(finding.problem for finding in inventory.findings),
    ]
    problems = {finding.path.name: finding.problem for finding in inventory.findings}
    small = "too small for LR patches of 12 at x4; give at least 48 x 48"
    assert problems["d.png"] == f"{hr_dir / 'd.png'} is 200 x 47, {small} or a patch of at most 11"
    assert problems["e.png"] == f"{hr_dir / 'e.png'} is 3 x 3, {small}"
    assert "same picture as" in problems["f.png"]
    assert str(hr_dir / "1.png") in problems["f.png"]


def test_the_smallest_size_that_is_told_works(tmp_path: Path, save_png: Save) -> None:
    path = save_png(tmp_path / "a.png", (48, 48))
    assert inspect([path], scale=4, patch=12).items
    assert not inspect([path], scale=4, patch=13).items


def test_pixels_tell_duplicates_whatever_the_file(hr_dir: Path) -> None:
    from PIL import Image

    with Image.open(hr_dir / "1.png") as image:
        image.save(hr_dir / "again.bmp")
    assert kinds(inspect([hr_dir], scale=4, patch=8)) == {"again.bmp": "duplicate"}


def test_folders_and_files_go_together_and_nothing_counts_twice(hr_dir: Path, tmp_path: Path, save_png: Save) -> None:
    more = save_png(tmp_path / "more" / "10.png", (64, 64))
    inventory = inspect([more, hr_dir, hr_dir / "1.png", hr_dir], scale=4, patch=8)
    assert names(inventory.items) == ["0.png", "1.png", "2.png", "10.png"]
    assert inventory.findings == []


def test_the_json_is_json(hr_dir: Path) -> None:
    (hr_dir / "a.png").write_bytes(b"")
    report = json.loads(json.dumps(inspect([hr_dir], scale=4, patch=8).as_json()))
    assert (report["scale"], report["patch"]) == (4, 8)
    assert report["items"][0].keys() == {"path", "height", "width", "lr_path", "sha256", "zoom"}
    assert report["findings"][0]["kind"] == "unreadable"


def test_nothing_usable_is_refused_with_the_first_reasons(tmp_path: Path) -> None:
    for index in range(5):
        (tmp_path / f"{index}.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"no picture can be used: .*0\.png: the file is empty.*; and 2 more") as caught:
        inspect([tmp_path], scale=4, patch=8).usable()
    assert "\n" not in str(caught.value)


def test_an_empty_or_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no picture"):
        inspect([tmp_path], scale=4, patch=8)
    with pytest.raises(InputError, match="is not a folder"):
        inspect([tmp_path / "missing"], scale=4, patch=8)


def test_an_unknown_degradation_is_refused_before_reading(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown degradation 'bicubci'"):
        inspect([tmp_path], scale=4, patch=8, degradation="bicubci")


# Pairs


@pytest.mark.parametrize("pair_by", ["name", "order"])
def test_pairs_fit_when_the_sides_rounded_down_do(hr_dir: Path, save_png: Save, pair_by: Literal["name", "order"]) -> None:
    lr_dir = hr_dir.parent / "lr"
    for index, size in enumerate(((16, 12), (12, 20), (12, 16))):
        save_png(lr_dir / f"{index}.png", size)
    inventory = inspect([hr_dir], scale=4, patch=12, lr_dir=lr_dir, pair_by=pair_by)
    assert inventory.findings == []
    assert [item.lr_path for item in inventory.items] == [lr_dir / f"{index}.png" for index in range(3)]


def test_every_fault_of_a_pair_is_found(tmp_path: Path, save_png: Save) -> None:
    hr_dir, lr_dir = tmp_path / "hr", tmp_path / "lr"
    sizes = {  # (height, width) of HR and LR
        "good": ((65, 64), (16, 16)),
        "half": ((65, 63), (32, 31)),
        "same": ((65, 62), (65, 62)),
        "other": ((65, 61), (16, 16)),
        "small": ((36, 80), (9, 20)),
        "late": ((64, 64), None),
    }
    for name, (hr, lr) in sizes.items():
        save_png(hr_dir / f"{name}.png", hr)
        if lr is not None:
            save_png(lr_dir / f"{name}.png", lr)
    save_png(hr_dir / "broken.png", (64, 64))
    (lr_dir / "broken.png").write_bytes(b"")
    save_png(lr_dir / "alone.png", (16, 16))
    inventory = inspect([hr_dir], scale=4, patch=12, lr_dir=lr_dir)
    assert names(inventory.items) == ["good.png"]
    assert kinds(inventory) == {
        "half.png": "wrong-scale",
        "same.png": "wrong-scale",
        "other.png": "size-mismatch",
        "late.png": "no-partner",
        "alone.png": "no-partner",
        "small.png": "too-small",
        "broken.png": "unreadable",
    }
    problems = {finding.path.name: finding.problem for finding in inventory.findings}
    assert "are x2, the model is x4; give a model of x2, or LR pictures of x4" in problems["half.png"]
    assert "are x1, the model is x4" in problems["same.png"]
    assert (
        f"{lr_dir / 'other.png'} is 16 x 16; for {hr_dir / 'other.png'} of 61 x 65 at x4 it must be 15 x 16"
        in problems["other.png"]
    )
    assert "has no LR picture named late" in problems["late.png"]
    assert "has no HR picture named alone" in problems["alone.png"]
    assert problems["broken.png"].startswith(str(lr_dir))


def test_the_whole_name_pairs_before_the_stem(tmp_path: Path, save_png: Save) -> None:
    from PIL import Image

    for name, size in (("a.png", 64), ("a.bmp", 32), ("b.png", 48)):
        hr = Image.fromarray(np.random.default_rng(size).integers(0, 256, (size, size, 3), dtype=np.uint8))
        lr = Image.fromarray(np.zeros((size // 4, size // 4, 3), np.uint8))
        for folder, picture in (("hr", hr), ("lr", lr)):
            path = tmp_path / folder / (name if folder == "hr" else name.replace("b.png", "b.jpg"))
            path.parent.mkdir(exist_ok=True)
            picture.save(path)
    inventory = inspect([tmp_path / "hr"], scale=4, patch=8, lr_dir=tmp_path / "lr")
    partners = {item.path.name: item.lr_path.name for item in inventory.items if item.lr_path}
    assert partners == {"a.bmp": "a.bmp", "a.png": "a.png", "b.png": "b.jpg"}


def test_pairs_by_order_go_by_number(tmp_path: Path, save_png: Save) -> None:
    for index, number in enumerate((1, 2, 10)):
        save_png(tmp_path / "hr" / f"image{number}.png", (32, 32 + 4 * index))
        save_png(tmp_path / "lr" / f"{number:03}x4.png", (8, 8 + index))
    inventory = inspect([tmp_path / "hr"], scale=4, patch=8, lr_dir=tmp_path / "lr", pair_by="order")
    assert names(inventory.usable()) == ["image1.png", "image2.png", "image10.png"]
    assert len(inspect([tmp_path / "hr"], scale=4, patch=8, lr_dir=tmp_path / "lr").findings) == 6
    (tmp_path / "lr" / "002x4.png").unlink()
    with pytest.raises(InputError, match="3 HR and 2 LR pictures cannot be paired by order"):
        inspect([tmp_path / "hr"], scale=4, patch=8, lr_dir=tmp_path / "lr", pair_by="order")


def test_numbers_sort_by_value() -> None:
    assert sorted(["a10", "a9", "A2", "b", "10", "9", ""], key=natural) == ["", "9", "10", "A2", "a9", "a10", "b"]


# The held-out part


def test_a_split_divides() -> None:
    train, validation = split(items(20), 6, seed=1)
    assert (len(train), len(validation)) == (14, 6)
    assert sorted(names(train + validation)) == sorted(names(items(20)))
    assert names(train) == sorted(names(train), key=natural)


def test_a_split_depends_on_names_and_seed_alone() -> None:
    train, validation = split(items(20), None, seed=1)
    elsewhere = split(items(20, "another/folder")[::-1], None, seed=1)
    assert (names(elsewhere[0]), names(elsewhere[1])) == (names(train), names(validation))
    assert len({tuple(names(split(items(20), None, seed=seed)[1])) for seed in range(8)}) > 4


def test_one_picture_more_moves_few() -> None:
    before, after = (set(names(split(items(count), 5, seed=1)[1])) for count in (20, 21))
    assert len(before & after) >= 4


@pytest.mark.parametrize(("count", "expected"), [(2, 1), (3, 1), (12, 2), (20, 3), (100, 15), (1000, 16)])
def test_about_15_percent_are_held_out(count: int, expected: int) -> None:
    assert len(split(items(count), None, seed=0)[1]) == expected


@pytest.mark.parametrize("held_out", [-1, 0, 4, 5])
def test_both_parts_need_a_picture(held_out: int) -> None:
    with pytest.raises(InputError, match=f"{held_out} of 4 pictures cannot be held out; give 1 to 3"):
        split(items(4), held_out, seed=0)


@pytest.mark.parametrize("count", [0, 1])
def test_one_picture_cannot_be_divided(count: int) -> None:
    with pytest.raises(InputError, match="give more pictures or a validation folder"):
        split(items(count), None, seed=0)
