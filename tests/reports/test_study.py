from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from srgui.errors import Cancelled, InputError, TrainingError
from srgui.evaluation import Protocol, evaluate, summary
from srgui.images import read_picture
from srgui.protocol import Run, Setting
from srgui.reports.kinds import ESRGAN_FINETUNE
from srgui.reports.page import markdown
from srgui.reports.strips import SIDE
from srgui.restorers import open_restorer

CHECKPOINT = Path("out") / "pages" / "esrgan-lora-l1" / "checkpoint.pt"


def timeless(content: Any) -> Any:
    """A report without what differs from run to run."""
    if isinstance(content, dict):
        return {key: timeless(value) for key, value in content.items() if key not in ("seconds", "minutes")}
    return [timeless(item) for item in content] if isinstance(content, list) else content


def test_lora_is_counted_trained_and_measured(study: Callable[..., Any], pages: Path, tiny_files: Any) -> None:
    bench = pages / "val"
    report = study(bench=(bench,)).report(Run())
    paper, own = report["parameters"]
    assert (paper["total"], paper["trainable"], paper["modules"]) == (16_697_987, 1_655_672, 351)
    assert own["modules"] == 3
    (data,) = report["data"]
    assert data["held_out"] == ["held0.png", "held1.png"]
    assert data["pictures"] == 4
    held, again = data["tables"]
    assert [row["method"] for row in held["rows"]] == ["bicubic", "tiny", "LoRA, L1"]
    assert (held["name"], again["name"]) == ("held-out", "val")
    assert timeless(held["rows"]) == timeless(again["rows"])
    measured, _ = evaluate(open_restorer(str(tiny_files.safetensors)), sorted(bench.iterdir()), Protocol(), Setting(), Run())
    expected = summary(measured, {})["mean"]
    assert {key: held["rows"][1][key] for key in expected} == pytest.approx(expected)
    assert held["gains"][0]["mean_gain_db"] > 0


def test_the_finetune_report_has_all_rows_where_the_scale_is_that_of_srcnn(study: Callable[..., Any]) -> None:
    report = study(ESRGAN_FINETUNE).report(Run())
    (data,) = report["data"]
    rows = ["bicubic", "srgui-srcnn-x4", "tiny", "trunk, MSE", "trunk, perceptual"]
    assert [row["method"] for row in data["tables"][0]["rows"]] == rows
    assert [training["recipe"]["targets"] for training in data["trainings"]] == [["body.2"]] * 2
    assert [training["preset"] for training in data["trainings"]] == ["esrgan-trunk", "esrgan-trunk-perceptual"]
    assert data["strips"]["columns"] == ["LR", *rows, "HR"]


def test_strips_show_every_method(study: Callable[..., Any], tmp_path: Path) -> None:
    (data,) = study().report(Run())["data"]
    assert data["strips"]["columns"] == ["LR", "bicubic", "tiny", "LoRA, L1", "HR"]
    for file in data["strips"]["files"]:
        height, width = read_picture(tmp_path / "out" / file).size
        assert height == 68 <= SIDE
        assert width == 5 * 64 + 4 * 4
    assert len(data["strips"]["files"]) == 2


def test_what_is_trained_is_not_trained_again(study: Callable[..., Any], tmp_path: Path) -> None:
    first = study().report(Run())
    written = (tmp_path / CHECKPOINT).stat().st_mtime_ns
    again = study()
    assert timeless(again.report(Run())) == timeless(first)
    assert "pages: LoRA, L1: goes on from step 4 of 4" in again.said
    assert (tmp_path / CHECKPOINT).stat().st_mtime_ns == written


def test_patience_ends_a_training_for_good(study: Callable[..., Any]) -> None:
    changes = {"lr": "0", "steps": "9", "validate_every": "1", "patience": "2"}
    (first,) = study(**changes).report(Run())["data"]
    (again,) = study(**changes).report(Run())["data"]
    for data in (first, again):
        assert data["trainings"][0]["steps"] == 2
        assert data["trainings"][0]["stopped"] == "no better measurement in 2"


def test_a_cancelled_report_goes_on_to_the_same_end(study: Callable[..., Any], watch: Callable[..., Any], tmp_path: Path) -> None:
    changes = {"validate_every": "2"}
    with pytest.raises(Cancelled):
        study(**changes).report(watch(2, "pages: LoRA, L1"))
    assert (tmp_path / CHECKPOINT).exists()
    resumed = study(**changes)
    report = resumed.report(Run())
    assert any("goes on from step" in line for line in resumed.said)
    for path in (tmp_path / "out").rglob("checkpoint.pt"):
        path.unlink()
    assert timeless(study(**changes).report(Run())) == timeless(report)


def test_another_recipe_in_the_same_folder_is_refused(study: Callable[..., Any]) -> None:
    study().report(Run())
    with pytest.raises(TrainingError, match="another recipe"):
        study(lr="2e-2").report(Run())


def test_what_cannot_be_used_is_refused_before_any_training(study: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no field 'stepz'"):
        study(stepz="4")
    with pytest.raises(InputError, match="nowhere"):
        study(bench=(tmp_path / "nowhere",))
    assert not (tmp_path / "out").exists()


def test_the_page_says_what_the_json_says(study: Callable[..., Any]) -> None:
    report = study().report(Run())
    text = markdown(json.loads(json.dumps(report)))
    (data,) = report["data"]
    for row in data["tables"][0]["rows"]:
        assert f"| {row['method']} | {row['psnr_y']:.2f} | {row['ssim_y']:.4f} |" in text
    for file in data["strips"]["files"]:
        assert f"]({file})" in text
    assert data["tables"][0]["gains"][0]["verdict"] in text
    assert "16,697,987 | 1,655,672" in text
    assert "4 pixels cropped" in text
    assert "LPIPS not available: this is a test" in text
    report["data"][0]["tables"][0]["rows"][0]["psnr_y"] = math.inf
    assert "| bicubic | exact |" in markdown(report)
