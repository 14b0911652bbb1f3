from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from srgui.images import read_picture, read_settings
from srgui.lora.catalogue import adapters_folder, find_adapter, load_adapter
from srgui.models.cards import find_card
from srgui.models.load import file_digest
from srgui.training import checkpoint, jobs
from srgui.training.presets import PISA, PRESETS
from srgui.training.recipe import Recipe
from srgui.training.trainer import Trainer

Save = Callable[..., Path]
Call = Callable[..., Any]
SMALL = ["--device", "cpu", "--workers", "0", "--set", "patch=6", "--set", "batch=2", "--set", "validate_every=2"]


@pytest.fixture(autouse=True)
def _few_ordinary_pictures(tmp_path: Path, save_png: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the cost of an adapter is measured on."""
    save_png(tmp_path / "assets" / "examples" / "a.png", (32, 32))
    monkeypatch.setattr("srgui.tuning.result.ASSETS", tmp_path / "assets")


@pytest.fixture
def command(hr_dir: Path, tiny_files: Any) -> list[object]:
    """Trains the adapter ``mine`` for 4 steps."""
    return ["train", hr_dir, "--name", "mine", "-m", tiny_files.safetensors, "--steps", 4, *SMALL]


@pytest.fixture
def trained(srgui: Call, command: list[object]) -> str:
    assert srgui(*command).code == 0
    return "mine"


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int, which: int = signal.SIGINT) -> None:
    plain = Trainer._step

    def interrupted(self: Trainer, *batch: torch.Tensor) -> Any:
        if self.progress.step == step:
            monkeypatch.setattr(Trainer, "_step", plain)
            os.kill(os.getpid(), which)
        return plain(self, *batch)

    monkeypatch.setattr(Trainer, "_step", interrupted)


# An adapter


def test_an_adapter_is_trained_measured_and_kept(srgui: Call, command: list[object], tmp_path: Path, tiny_files: Any) -> None:
    result = srgui(*command, "--json", tmp_path / "new" / "found.json", "--title", "Mine", "--licence", "CC0-1.0")
    assert result.code == 0
    assert result.err == ""
    lines = result.out.splitlines()
    assert lines[0] == "2 pictures can be used (x4, LR patches of 6)"
    assert [line.split()[1] for line in lines if line.startswith("step ")] == ["0", "2", "4"]
    card = find_adapter("mine")
    found = json.loads((tmp_path / "new" / "found.json").read_text())
    assert (lines[-3], lines[-1]) == (card.metrics["verdict"], str(card.path))
    assert lines[-2] == f"On {card.cost['on']}: {card.cost['mean_gain_db']:+.2f} dB."
    assert found["metrics"] == card.metrics
    assert (found["place"], found["name"]) == (str(card.path), "mine")
    assert (card.title, card.licence, card.scale, card.rank) == ("Mine", "CC0-1.0", 4, "8")
    assert card.base.id == tiny_files.safetensors.stem
    assert card.recipe["recipe"]["steps"] == 4
    assert card.trained_on == "1 pictures (hr), 1 held out"
    job = jobs.find("mine")
    assert (job.state, job.resumable) == ("done", False)
    assert job.events()[-1]["kind"] == "result"


def test_strength_zero_is_the_base_bit_for_bit(srgui: Call, trained: str, hr_dir: Path, tmp_path: Path, tiny_files: Any) -> None:
    for name, adapters in (("base", []), ("zero", ["-a", "mine:0"]), ("one", ["-a", trained]), ("ten", ["-a", "mine:10"])):
        target = tmp_path / f"{name}.png"
        assert srgui("upscale", hr_dir / "0.png", "-o", target, "-m", tiny_files.safetensors, *adapters).code == 0
    base, zero, one, ten = (read_picture(tmp_path / f"{name}.png").rgb for name in ("base", "zero", "one", "ten"))
    assert np.array_equal(base, zero)
    assert not np.array_equal(base, ten)
    assert np.abs(base.astype(int) - one).mean() < np.abs(base.astype(int) - ten).mean()
    settings = read_settings(tmp_path / "ten.png")
    assert settings is not None
    (attached,) = settings["adapters"]
    assert attached.pop("sha256") == load_adapter("mine").digest
    assert attached == {"name": "mine", "strength": 10.0, "role": "domain"}


def test_evaluate_with_an_adapter(srgui: Call, trained: str, hr_dir: Path, tmp_path: Path, tiny_files: Any) -> None:
    reports = []
    for name, adapters in (("base", []), ("zero", ["-a", "mine:0"]), ("one", ["-a", "mine", "-a", "mine:0.5"])):
        target = tmp_path / f"{name}.json"
        assert srgui("evaluate", hr_dir, "-m", tiny_files.safetensors, "--json", target, *adapters).code == 0
        reports.append(json.loads(target.read_text()))
    assert reports[0]["mean"] == reports[1]["mean"] != reports[2]["mean"]
    assert [one["strength"] for one in reports[2]["settings"]["adapters"]] == [1.0, 0.5]


def test_an_adapter_that_does_not_fit_is_refused(srgui: Call, trained: str, hr_dir: Path, tmp_path: Path) -> None:
    upscale = ["upscale", hr_dir / "0.png", "-o", tmp_path / "out" / "b.png"]
    srgui(*upscale, "-a", trained).refused("mine")  # trained on another base
    srgui(*upscale, "-m", "bicubic", "-a", trained).refused("bicubic has no weights to adapt")
    srgui(*upscale, "-a", "mien").refused("unknown adapter 'mien'. Did you mean mine?")
    srgui(*upscale, "-a", "mine:much").refused("the strength 'much' is not a number")
    srgui("evaluate", hr_dir, "-m", "bicubic", "-a", trained).refused("bicubic has no weights to adapt")
    assert not (tmp_path / "out").exists()


def test_a_recipe_file_and_a_whole_model(srgui: Call, command: list[object], tmp_path: Path, hr_dir: Path) -> None:
    Recipe(method="full", patch=6, batch=2, validate_every=2, lr=1e-3).write(tmp_path / "recipe.toml")
    assert srgui(*command, "--recipe", tmp_path / "recipe.toml", "--seed", 3).code == 0
    card = find_card("mine")
    assert card.training["recipe"]["method"] == "full"
    assert (card.training["recipe"]["seed"], card.training["preset"]) == (3, "")
    assert srgui("evaluate", hr_dir, "-m", "mine").code == 0


def test_given_lr_and_validation_pictures_are_used(
    srgui: Call, command: list[object], tmp_path: Path, hr_dir: Path, save_png: Save
) -> None:
    for index, name in enumerate("ab"):
        save_png(tmp_path / "val" / f"{name}.png", (40 + index, 40))
        save_png(tmp_path / "vallr" / f"{name}.png", (10, 10))
    for index in range(2):
        save_png(tmp_path / "lr" / f"{index}.png", (12, 16))
    folders = ["--lr-dir", tmp_path / "lr", "--val-dir", tmp_path / "val", "--val-lr-dir", tmp_path / "vallr"]
    assert srgui(*command, *folders).code == 0
    card = find_adapter("mine")
    assert card.degradation == "LR pictures were given"
    assert card.trained_on == "2 pictures (hr), 2 held out"


def test_the_presets_are_listed(srgui: Call) -> None:
    assert [line.split()[0] for line in srgui("presets").out.splitlines()] == [*PRESETS, *PISA]


# A dry run


def test_a_dry_run_needs_no_weights(srgui: Call, hr_dir: Path, tmp_path: Path, home: Path) -> None:
    words = ["--name", "x", "--preset", "esrgan-lora", *SMALL, "--dry-run", "--json", tmp_path / "d.json"]
    result = srgui("train", hr_dir, *words)
    assert result.code == 0
    found = json.loads((tmp_path / "d.json").read_text())
    assert (found["trainable"], found["modules"], found["total"]) == (1_655_672, 351, 16_697_987)
    assert (found["pictures"], len(found["held_out"]), found["steps"]) == (1, 1, 5000)
    assert min(found["seconds_per_step"], found["seconds"], found["memory"]) > 0
    assert "1,655,672 of 16,697,987 parameters train (9.9%), on 351 layers" in result.out
    assert not home.exists()


# Stopping and going on


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_training_goes_on_as_its_message_says(
    srgui: Call, command: list[object], monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    assert srgui(*command[:3], "whole", *command[4:]).code == 0
    interrupt_at(monkeypatch, 2, which)
    result = srgui(*command)
    result.refused("stopped; go on with: python -m srgui train")
    job = jobs.find("mine")
    assert (job.state, job.resumable) == ("stopped", True)
    assert [path.name for path in adapters_folder().glob("[!.]*")] == ["whole"]
    srgui(*command).refused("a training called mine is there already (stopped); resume it")
    words = shlex.split(result.err.partition("go on with: ")[2])
    assert words[:3] == ["python", "-m", "srgui"]
    assert srgui(*words[3:]).code == 0
    assert job.state == "done"
    for name, part in load_adapter("whole").factors.items():
        assert torch.equal(load_adapter("mine").factors[name].B, part.B)


def test_only_what_was_started_is_resumed(srgui: Call, command: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    srgui(*command, "--resume").refused("there is no training called 'mine'")
    interrupt_at(monkeypatch, 2)
    srgui(*command)
    srgui(*command, "--resume", "--set", "lr=1e-5").refused("was started with another lr; give --resume and --name alone")
    srgui("train", "--name", "mine", "--resume", "--rank", 4).refused("goes on as it was started and takes no rank")
    srgui("train", "--name", "mine").refused("train needs HR_DIR")
    assert jobs.find("mine").resumable
    assert srgui(*command, "--resume").code == 0


def test_a_finished_training_is_not_done_again(srgui: Call, trained: str) -> None:
    assert srgui("adapters", "rename", trained, "other").code == 0
    srgui("train", "--name", trained, "--resume").refused("the training mine is finished; remove")


def test_a_training_killed_after_its_last_word_is_only_finished(srgui: Call, trained: str, command: list[object]) -> None:
    job = jobs.find(trained)
    (job.folder / "end.json").unlink()
    before = job.events()
    assert job.state == "interrupted"
    assert srgui("train", "--name", trained, "--resume").code == 0
    assert job.state == "done"
    assert [event["kind"] for event in job.events()[len(before) :]] == ["begin", "result"]


def test_a_full_disk_keeps_what_there_is(srgui: Call, command: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    save = torch.save

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint.torch, "save", full)
    srgui(*command).refused("checkpoint.pt cannot be written (No space left on device); there is none yet; free some space")
    assert jobs.all_jobs() == []
    monkeypatch.setattr(checkpoint.torch, "save", save)
    interrupt_at(monkeypatch, 2)
    srgui(*command)
    monkeypatch.setattr(checkpoint.torch, "save", full)
    srgui("train", "--name", "mine", "--resume").refused("the one before is kept; free some space and resume")
    assert jobs.find("mine").state == "failed"
    monkeypatch.setattr(checkpoint.torch, "save", save)
    assert srgui("train", "--name", "mine", "--resume").code == 0


def test_what_diverges_is_said_and_can_be_tried_again(srgui: Call, command: list[object]) -> None:
    srgui(*command, "--set", "lr=1e38", "--steps", 50).refused("the loss became NaN at step", "use a lower learning rate")
    assert srgui(*command).code == 0


def test_a_name_can_be_used_again_when_its_adapter_is_removed(srgui: Call, trained: str, command: list[object]) -> None:
    srgui(*command).refused("an adapter 'mine' exists already; choose another name")
    assert srgui("adapters", "remove", trained, "--yes").code == 0
    assert srgui(*command).code == 0


# Bad input: one line, exit code 2, nothing left behind


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--name", "../x"], ["'../x' cannot be an adapter's name"]),
        (["--name", "/x"], ["'/x' cannot be an adapter's name"]),
        (["--name", "con"], ["'con' cannot be an adapter's name", "Windows"]),
        (["--preset", "esrgan-loar"], ["there is no preset 'esrgan-loar'. Did you mean esrgan-lora"]),
        (["-m", "srgui-compact-x5"], ["unknown model 'srgui-compact-x5'. Did you mean srgui-compact-x4"]),
        (["-m", "bicubic"], ["bicubic is of the family bicubic, which cannot be trained"]),
        (["-m", "esrgan-x4"], ["the weights of esrgan-x4 are not on this machine", "models download esrgan-x4"]),
        (["--degradation", "bicubci"], ["unknown degradation 'bicubci'. Did you mean bicubic"]),
        (["--set", "stesp=3"], ["no field 'stesp'. Did you mean steps"]),
        (["--set", "steps"], ["--set 'steps' is not FIELD=VALUE"]),
        (["--set", "targets=bod.*"], ["the target 'bod.*' matches no layer"]),
        (["--set", "method=full", "--set", "targets=bod.*"], ["the targets bod.* match no layer"]),
        (["--set", "patch=500"], ["no picture can be used", "too small for LR patches of 500"]),
        (["--set", "held_out=2"], ["2 of 2 pictures cannot be held out"]),
        (["--rank", "0"], ["rank", "'0'"]),
        (["--rank", "200%"], ["rank", "200%"]),
        (["--steps", "0"], ["steps = 0 is out of range"]),
        (["--pair-by", "size"], ["--pair-by size is not known; use name or order"]),
        (["--device", "tpu"], ["unknown device 'tpu'"]),
        (["--recipe", "missing.toml"], ["the recipe missing.toml cannot be read"]),
        (["--recipe", "recipe.yaml"], ["must be named .toml or .json"]),
        (["--val-dir", "hr"], ["0.png is in the validation folder and among the training pictures"]),
        (["--lr-dir", "odd"], ["no picture can be used", "0.png is 13 x 12"]),
        (["--lr-dir", "odd", "--pair-by", "order"], ["2 HR and 1 LR pictures cannot be paired by order"]),
    ],
    ids=str,
)
def test_a_bad_option_of_train(
    srgui: Call,
    command: list[object],
    tmp_path: Path,
    home: Path,
    save_png: Save,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    words: list[str],
) -> None:
    save_png(tmp_path / "odd" / "0.png", (12, 13))
    monkeypatch.chdir(tmp_path)
    srgui(*command, *options).refused(*words)
    assert not home.exists()


@pytest.mark.parametrize("content", ["nothing", "text", "one picture", "no folder", "small"])
def test_a_bad_folder(
    srgui: Call, command: list[object], tmp_path: Path, home: Path, hr_dir: Path, save_png: Save, content: str
) -> None:
    folder = tmp_path / "bad"
    words = {
        "nothing": "holds no picture",
        "text": "is not a picture that can be read",
        "one picture": "is too few to hold one out",
        "no folder": "is not a folder; give one that exists",
        "small": "is 20 x 20, too small for LR patches of 6 at x4; give at least 24 x 24 or a patch of at most 5",
    }
    if content != "no folder":
        folder.mkdir()
    if content == "text":
        (folder / "a.png").write_text("no picture")
    if content == "one picture":
        shutil.copy(hr_dir / "0.png", folder)
    if content == "small":
        save_png(folder / "a.png", (20, 20))
    srgui("train", folder, *command[2:]).refused(str(folder) if content != "one picture" else "1 usable picture", words[content])
    assert not home.exists()


def test_pictures_that_cannot_be_used_are_told_and_left_out(
    srgui: Call, command: list[object], hr_dir: Path, save_png: Save
) -> None:
    (hr_dir / "bad.png").write_text("no picture")
    shutil.copy(hr_dir / "0.png", hr_dir / "copy.png")
    result = srgui(*command)
    assert result.code == 0
    assert result.out.splitlines()[0] == "2 pictures can be used (x4, LR patches of 6); 2 left out:"
    assert "bad.png" in result.out
    assert "copy.png is the same picture as" in result.out


# Base models


BASE = ["--set", "features=4", "--set", "convs=1", "--set", "held_out=1", "--set", "warmup=1", "--set", "steps=4", *SMALL]


@pytest.mark.parametrize("network", ["compact", "srcnn"])
def test_a_base_is_trained_used_and_trained_on(srgui: Call, hr_dir: Path, tmp_path: Path, network: str) -> None:
    options = BASE if network == "compact" else BASE[4:]
    result = srgui("train-base", hr_dir, hr_dir, "--name", "mine", "--network", network, *options)
    assert result.code == 0
    card = find_card("mine")
    assert card.family == ("srcnn" if network == "srcnn" else "spandrel")
    assert card.metrics["held_out"]["psnr_y"] > 0
    assert card.training["preset"] == network
    assert srgui("evaluate", hr_dir, "-m", "mine", "--json", tmp_path / "r.json").code == 0
    assert json.loads((tmp_path / "r.json").read_text())["mean"]["psnr_y"] > 0
    srgui("train-base", hr_dir, "--name", "mine", *options).refused("a model 'mine' exists already; give another name")
    assert srgui("train-base", hr_dir, "--name", "next", "--network", network, "--start", "mine", *BASE[4:]).code == 0
    assert find_card("next").training["started_from"] == file_digest(card.parts["weights"].path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--name", "../x"], ["'../x' cannot be a model's id"]),
        (["--name", "x", "--network", "srcn"], ["there is no network 'srcn'. Did you mean srcnn?"]),
        (["--name", "x", "--set", "steps=-1"], ["steps = -1 is out of range; use 1 or more"]),
        (["--name", "x", "--set", "features=0"], ["features=0 must be a whole number of 1 or more"]),
        (["--name", "x", "--set", "patch=500"], ["too small for LR patches of 500"]),
        (["--name", "x", "--set", "held_out=2"], ["2 of 2 pictures cannot be held out"]),
        (["--name", "x", "--start", "nothing-like-it"], ["unknown model"]),
    ],
    ids=str,
)
def test_a_bad_option_of_train_base(srgui: Call, hr_dir: Path, home: Path, options: list[str], words: list[str]) -> None:
    srgui("train-base", hr_dir, *BASE, *options).refused(*words)
    assert not home.exists()
