from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from srgui.errors import Cancelled, InputError
from srgui.evaluation import Protocol, evaluate
from srgui.protocol import Run, Setting
from srgui.reports.tables import measure
from srgui.restorers import open_restorer


@pytest.fixture
def methods(tiny_files: Any) -> dict[str, Any]:
    return {"tiny": open_restorer(str(tiny_files.safetensors)), "again": open_restorer(str(tiny_files.pth))}


def test_every_method_is_measured_as_evaluate_does(methods: dict[str, Any], pages: Path) -> None:
    paths = sorted((pages / "val").iterdir())
    table = measure("val", methods, paths, Protocol("camera", 3), Run(), None)
    expected, _ = evaluate(methods["tiny"], paths, Protocol("camera", 3), Setting(), Run())
    assert [one.model for one in table.measured["tiny"]] == [one.model for one in expected]
    content = table.as_json("tiny", ["again"])
    assert [row["method"] for row in content["rows"]] == ["bicubic", "tiny", "again"]
    bicubic, tiny, again = content["rows"]
    assert bicubic["seconds"] is None
    assert tiny["seconds"] > 0
    assert {**tiny, "method": "", "seconds": 0} == {**again, "method": "", "seconds": 0}
    assert content["pictures"] == 2
    assert [image["name"] for image in content["images"]] == [path.name for path in paths]
    (gain,) = content["gains"]
    assert (gain["method"], gain["mean_gain_db"], gain["ties"]) == ("again", 0.0, 2)


def test_a_picture_that_fails_is_left_out_for_all(methods: dict[str, Any], pages: Path) -> None:
    broken = pages / "val" / "broken.png"
    broken.write_bytes(b"no picture")
    table = measure("val", methods, sorted((pages / "val").iterdir()), Protocol(), Run(), None)
    assert {len(all_of_it) for all_of_it in table.measured.values()} == {2}
    ((name, reason),) = table.left_out
    assert name == "broken.png"
    assert "broken.png" in reason
    with pytest.raises(InputError, match="none of the 1 pictures of val could be measured"):
        measure("val", methods, [broken], Protocol(), Run(), None)


def test_progress_counts_pictures_and_can_be_cancelled(methods: dict[str, Any], pages: Path, watch: Callable[..., Any]) -> None:
    paths = sorted((pages / "val").iterdir())
    run = watch()
    measure("val", methods, paths, Protocol(), run, None)
    assert run.of("val") == [(0, 2), (1, 2), (2, 2)]
    with pytest.raises(Cancelled):
        measure("val", methods, paths, Protocol(), watch(2, "val"), None)
