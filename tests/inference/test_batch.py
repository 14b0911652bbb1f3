from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from srgui.errors import Cancelled, InputError
from srgui.images import read_picture, read_settings
from srgui.inference.batch import Task, expand, names, outputs, upscale_files
from srgui.inference.engine import Engine
from srgui.inference.pixel import PixelRestorer
from srgui.models.network import Network
from srgui.protocol import RestorerInfo, Run, Setting

INFO = RestorerInfo("test", "Test", "spandrel", 4, "none")
Save = Callable[..., Path]


@pytest.fixture
def restorer(tiny: Network) -> PixelRestorer:
    return PixelRestorer(tiny, INFO, Engine(16))


def paths(*names: str) -> list[Path]:
    return [Path(name) for name in names]


def test_one_input_and_a_new_name_is_a_file() -> None:
    assert outputs(paths("in/a.jpg"), "b.webp", 4) == [Task(Path("in/a.jpg"), Path("b.webp"))]


@pytest.mark.parametrize("out", ["new/", "new" + os.sep])
def test_a_separator_at_the_end_makes_a_folder(out: str) -> None:
    assert outputs(paths("in/a.jpg"), out, 4) == [Task(Path("in/a.jpg"), Path("new/a_x4.png"))]


def test_a_folder_that_exists_is_a_folder(tmp_path: Path) -> None:
    assert outputs(paths("a.jpg"), str(tmp_path), 2.0)[0].output == tmp_path / "a_x2.png"


def test_several_inputs_make_a_folder() -> None:
    found = [task.output for task in outputs(paths("a.jpg", "b.png"), "new", 1.5, "webp")]
    assert found == paths("new/a_x1.5.webp", "new/b_x1.5.webp")


def test_inputs_of_one_stem_keep_their_suffix() -> None:
    found = [task.output.name for task in outputs(paths("a.jpg", "a.png", "b.png"), "new", 4)]
    assert found == ["a.jpg_x4.png", "a.png_x4.png", "b_x4.png"]


@pytest.mark.parametrize("twice", [paths("a.jpg", "a.jpg"), paths("x/a.jpg", "y/a.jpg"), paths("a.png", "a.jpg", "a.png.gif")])
def test_no_two_outputs_have_one_name(twice: list[Path]) -> None:
    with pytest.raises(InputError, match=r"several inputs are named a\.(jpg|png)"):
        outputs(twice, "new", 4)


def test_names_are_stems_unless_they_clash() -> None:
    assert names(paths("a.jpg", "b.jpg", "b.png")) == ["a", "b.jpg", "b.png"]


def test_an_unknown_format_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match=r"format 'gif' is not written; use png, jpg"):
        outputs(paths("a.png"), "new/", 4, "gif")


def test_folders_are_replaced_by_their_pictures(tmp_path: Path, save_png: Save) -> None:
    save_png(tmp_path / "b.png", (4, 4))
    save_png(tmp_path / "a.png", (4, 4))
    (tmp_path / "notes.txt").write_text("no picture")
    assert expand([tmp_path, Path("c.png")]) == [tmp_path / "a.png", tmp_path / "b.png", Path("c.png")]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no picture"):
        expand([tmp_path / "empty"])


def test_one_failing_input_does_not_stop_the_others(
    restorer: PixelRestorer, tmp_path: Path, save_png: Save, watch: Callable[..., Run]
) -> None:
    good = [save_png(tmp_path / f"{name}.png", (5, 6)) for name in "ac"]
    bad = tmp_path / "b.png"
    bad.write_text("no picture")
    told, run = [], watch()
    tasks = outputs([good[0], bad, tmp_path / "missing.png", good[1]], str(tmp_path / "out"), 4)
    failed = upscale_files(restorer, tasks, Setting({"pixel": 0.5}), 4, run, told=lambda task, notes: told.append(task.input))
    assert [path for path, _ in failed] == [bad, tmp_path / "missing.png"]
    assert all(str(path) in reason for path, reason in failed)
    assert told == good
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a_x4.png", "c_x4.png"]
    assert run.of("pictures") == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    assert read_picture(tmp_path / "out" / "c_x4.png").size == (20, 24)


def test_the_settings_that_made_a_file_are_in_it(restorer: PixelRestorer, tmp_path: Path, save_png: Save) -> None:
    task = Task(save_png(tmp_path / "a.png", (5, 6)), tmp_path / "b.png")
    assert upscale_files(restorer, [task], Setting(), 2.5, Run()) == []
    found = read_settings(task.output)
    assert found is not None
    assert found["model"] == "test"
    assert found["model_sha256"] == restorer.network.digest
    assert found["outscale"] == 2.5
    assert found["values"] == {"pixel": 1.0}


def test_nothing_is_written_over_any_input(restorer: PixelRestorer, tmp_path: Path, save_png: Save) -> None:
    first, second = save_png(tmp_path / "a.png", (5, 6)), save_png(tmp_path / "a_x4.png", (5, 6))
    before = second.read_bytes()
    tasks = [Task(first, second), Task(second, tmp_path / "c.png")]
    failed = upscale_files(restorer, tasks, Setting(), 4, Run(), overwrite=True)
    assert [path for path, _ in failed] == [first]
    assert "is the input itself" in failed[0][1]
    assert second.read_bytes() == before


def test_a_wrong_value_stops_before_the_first_picture(restorer: PixelRestorer, tmp_path: Path, save_png: Save) -> None:
    task = Task(save_png(tmp_path / "a.png", (5, 6)), tmp_path / "b.png")
    with pytest.raises(InputError, match="pixel 7 is out of range"):
        upscale_files(restorer, [task], Setting({"pixel": 7}), 4, Run())
    assert not task.output.exists()


def test_cancel_keeps_what_is_done_and_no_more(
    restorer: PixelRestorer, tmp_path: Path, save_png: Save, watch: Callable[..., Run]
) -> None:
    tasks = outputs([save_png(tmp_path / f"{name}.png", (40, 40)) for name in "abc"], str(tmp_path / "out"), 4)
    per_picture = 10  # a report at the start and nine tiles
    with pytest.raises(Cancelled):
        upscale_files(restorer, tasks, Setting(), 4, watch(per_picture + 4))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a_x4.png"]
