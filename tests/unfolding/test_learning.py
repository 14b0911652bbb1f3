"""Two phases of a tiny training, through the trainer: what is frozen, resuming, weights on disk, commands, restorer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from typer.testing import CliRunner

from srgui.cli import app
from srgui.errors import Cancelled, InputError, ModelError, SrguiError
from srgui.models.cards import read_card
from srgui.protocol import Run, Setting, Source
from srgui.restorers import open_restorer
from srgui.unfolding.compare import activations
from srgui.unfolding.design import Design
from srgui.unfolding.evaluation import Request, cropped, evaluate
from srgui.unfolding.files import find, load, scan, settings
from srgui.unfolding.learning import Order, learn, trained_backbone
from srgui.unfolding.network import Unfolding
from srgui.unfolding.publish import publish
from srgui.unfolding.restorer import mirrored

TINY: dict[str, dict[str, Any]] = {
    "sr": {"task": "sr", "stages": 2, "widths": (4, 6), "hidden": 4},
    "cs": {"task": "cs", "stages": 2, "widths": (4, 6), "ratio": 2.0},
    "cassi": {"task": "cassi", "stages": 2, "widths": (4, 6)},
}
SEEN = {
    "y": torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1)),
    "kernel": torch.ones(1, 1, 3, 3) / 9,
    "sf": torch.tensor([2]),
    "sigma": torch.zeros(1),
}
PATCH = {"sr": 36, "cs": 32, "cassi": 24}


@pytest.fixture
def computer() -> Iterator[Accelerator]:
    AcceleratorState._reset_state(reset_partial_state=True)
    yield Accelerator(cpu=True)
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def photos(tmp_path: Path, save_png: Callable[..., Path]) -> Path:
    y, x = np.mgrid[0:64, 0:72]
    for index in range(3):
        waves = np.stack([np.sin(x / (3 + index) + y / 9), np.cos(y / (4 + index)), np.sign(x - y + 5 * index)], axis=2)
        save_png(tmp_path / "photos" / f"{index}.png", (127 + 90 * waves).astype(np.uint8))
    return tmp_path / "photos"


@pytest.fixture
def make_order(photos: Path, tmp_path: Path) -> Callable[..., Order]:
    def make(task: str = "sr", folder: str = "work", steps: int = 4, **design: Any) -> Order:
        fields = {"patch": PATCH[task], "batch": 2, "steps": steps, "held_out": 1, "validate_every": 2, "warmup": 1}
        return Order(Design(**{**TINY[task], **design}), [photos], tmp_path / folder, {1: fields, 2: fields})

    return make


class Stop:
    """Cancels in the middle of a phase."""

    def __init__(self, phase: int) -> None:
        self.run, self.phase, self.now = Run(), phase, 0

    def __call__(self, event: dict[str, Any]) -> None:
        self.now = event.get("phase", self.now)
        if event["kind"] == "validation" and event["step"] == 2 and self.now == self.phase:
            self.run.cancel()


def silent(_: dict[str, Any]) -> None: ...


@pytest.mark.parametrize("task", list(TINY))
def test_the_second_phase_trains_loras_and_physics_and_leaves_the_backbone(
    task: str, make_order: Callable[..., Order], computer: Accelerator, tmp_path: Path
) -> None:
    order = make_order(task)
    network, phases = learn(order, Run(), silent, computer)
    assert [phase.phase for phase in phases] == [1, 2]
    backbone = trained_backbone(tmp_path / "work")
    for name, value in backbone.denoisers.state_dict().items():
        assert torch.equal(network.denoisers.state_dict()[name], value), name
    fresh = Unfolding(replace(order.design, sharing="single")).denoisers.state_dict()
    # the best by validation are kept, which may be those of step 0
    moved = any(not torch.equal(fresh[name], value) for name, value in backbone.denoisers.state_dict().items())
    assert moved == bool(phases[0].outcome.progress.best_step)
    factors = [value for name, value in network.state_dict().items() if "lora_B" in name]
    assert any(value.any() for value in factors) == bool(phases[1].outcome.progress.best_step)


@pytest.mark.parametrize("sharing", ["single", "block"])
def test_networks_without_lora_learn_in_one_phase(sharing: str, make_order: Callable[..., Order], computer: Accelerator) -> None:
    network, phases = learn(make_order(sharing=sharing), Run(), silent, computer)
    assert [phase.phase for phase in phases] == [1]
    assert len(network.denoisers) == (1 if sharing == "single" else 2)


def test_a_stopped_training_goes_on_as_if_it_had_not_been(make_order: Callable[..., Order], computer: Accelerator) -> None:
    whole, _ = learn(make_order("cs", "whole"), Run(), silent, computer)
    for phase in (1, 2):
        stop = Stop(phase)
        with pytest.raises(Cancelled):
            learn(make_order("cs", "parts"), stop.run, stop, computer)
    again, _ = learn(make_order("cs", "parts"), Run(), silent, computer)
    state = again.state_dict()
    assert all(torch.equal(state[name], value) for name, value in whole.state_dict().items())


def test_a_checkpoint_of_another_design_is_refused(make_order: Callable[..., Order], computer: Accelerator) -> None:
    learn(make_order(sharing="single"), Run(), silent, computer)
    with pytest.raises(SrguiError, match="another design"):
        learn(make_order(sharing="single", stages=3), Run(), silent, computer)


def test_two_settings_on_one_backbone(make_order: Callable[..., Order], computer: Accelerator, tmp_path: Path) -> None:
    network, phases = learn(make_order("cs"), Run(), silent, computer)
    folder = publish(tmp_path / "out", "mine", network, phases)
    order = make_order("cs", "other", ratio=1.0)
    backbone = trained_backbone(tmp_path / "work")
    other, more = learn(replace(order, backbone=backbone), Run(), silent, computer)
    assert [phase.phase for phase in more] == [2]
    assert publish(tmp_path / "out", "mine", other, more) == folder
    card = find(str(folder))
    assert list(settings(card)) == ["2", "1"]
    for made, name in ((network, "2"), (other, "1")):
        loaded = load(card, name)
        assert loaded.design == made.design
        assert all(torch.allclose(loaded.state_dict()[key], value, atol=2e-3) for key, value in made.state_dict().items())
    with pytest.raises(InputError, match="no weights for 50; it has 2, 1"):
        load(card, "50")
    stranger, begun = learn(make_order("cs", "stranger", steps=2), Run(), silent, computer)
    if begun[0].outcome.progress.best_step:
        with pytest.raises(InputError, match="another backbone"):
            publish(tmp_path / "out", "mine", stranger, begun)


def test_weights_that_do_not_fit_their_card(make_order: Callable[..., Order], computer: Accelerator, tmp_path: Path) -> None:
    network, phases = learn(make_order(), Run(), silent, computer)
    folder = publish(tmp_path, "mine", network, phases)
    content = json.loads((folder / "card.json").read_text())
    content["network"]["stages"] = 3
    (folder / "card.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match="do not fit its card"):
        load(read_card(folder))
    with pytest.raises(ModelError, match="no unfolding network 'none'"):
        find("none")


@pytest.mark.parametrize("task", list(TINY))
def test_evaluation_is_beside_what_needs_no_training(task: str, photos: Path) -> None:
    network = Unfolding(Design(**TINY[task])).eval()
    mask = torch.rand(40, 44)
    paths = sorted(photos.glob("*.png"))[:2]
    found = evaluate(network, Request(paths, ("K1", "K9") if task == "sr" else (), 3, mask=mask), Run())
    assert len(found["images"]) == (4 if task == "sr" else 2)
    assert len(found["stages"]) == 2
    assert found["stages"][-1] == pytest.approx(found["mean"]["psnr"])
    if task == "sr":
        # sides of 64 x 72 are multiples of 8, not of lcm(3, 8)
        assert any("was cropped from 72 x 64 to 72 x 48" in notice for notice in found["notices"])
        assert found["baselines"]["tikhonov"]["psnr"] > found["baselines"]["bicubic"]["psnr"]


def test_evaluation_refuses_what_cannot_be(photos: Path) -> None:
    network = Unfolding(Design(**TINY["sr"])).eval()
    paths = sorted(photos.glob("*.png"))
    with pytest.raises(InputError, match="scale 5 has no weights"):
        evaluate(network, Request(paths, ("K1",), 5), Run())
    with pytest.raises(InputError, match="no pictures"):
        evaluate(network, Request([], ("K1",)), Run())
    with pytest.raises(InputError, match="less than the 80"):
        cropped(torch.zeros(1, 3, 64, 72), 80, "a")
    spectral = Unfolding(Design(**TINY["cassi"])).eval()
    with pytest.raises(InputError, match="the mask has 90 x 40 pixels"):
        evaluate(spectral, Request(paths, mask=torch.rand(40, 90)), Run())


@pytest.fixture
def published(make_order: Callable[..., Order], computer: Accelerator, tmp_path: Path) -> Path:
    network, phases = learn(make_order(), Run(), silent, computer)
    return publish(tmp_path / "out", "mine", network, phases)


def test_the_restorer_keeps_and_shows_every_stage(published: Path) -> None:
    restorer = open_restorer(str(published))
    lr = torch.rand(1, 3, 20, 22)
    for sf in (2, 3):
        prepared = restorer.prepare(Source(lr, {"sf": sf, "sigma": 0.01}), Run())
        assert prepared.size == (20 * sf, 22 * sf)
        stages = [prepared.render(Setting({"stage": stage}), Run()) for stage in (0, 1, 2)]
        assert torch.equal(prepared.render(Setting(), Run()), stages[2])
        assert torch.allclose(prepared.render(Setting({"stage": 0.25}), Run()), 0.75 * stages[0] + 0.25 * stages[1])
        assert all(torch.equal(kept, shown) for kept, shown in zip(prepared.outputs(Run()), stages, strict=True))  # type: ignore[attr-defined]
        prepared.close()
    assert restorer.forecast(20, 22).memory > 0


def test_the_restorer_stops_when_it_is_told(published: Path, watch: Callable[..., Run]) -> None:
    prepared = open_restorer(str(published)).prepare(Source(torch.rand(1, 3, 16, 16)), Run())
    with pytest.raises(Cancelled):
        prepared.render(Setting(), watch(1, "stages"))
    assert prepared.render(Setting(), Run()).shape == (1, 3, 32, 32)


def test_the_restorer_refuses_what_cannot_be(published: Path) -> None:
    restorer = open_restorer(str(published))
    lr = torch.rand(1, 3, 16, 16)
    with pytest.raises(InputError, match="scale 8 has no weights"):
        restorer.prepare(Source(lr, {"sf": 8}), Run())
    with pytest.raises(InputError, match="larger than the picture"):
        restorer.prepare(Source(lr, {"kernel": torch.ones(1, 1, 65, 65) / 65**2, "circular": True}), Run())
    with pytest.raises(InputError, match="a kernel of shape"):
        restorer.prepare(Source(lr, {"kernel": torch.ones(5, 5)}), Run())
    given = {"y": lr[:, :2], "kernel": torch.ones(1, 1, 3, 3) / 9, "sf": torch.tensor([2]), "sigma": torch.zeros(1)}
    with pytest.raises(InputError, match="does not match"):
        restorer.prepare(Source(lr, {"given": given}), Run())


def test_mirroring_reflects_as_often_as_it_takes() -> None:
    row = torch.arange(3.0).view(1, 1, 1, 3)
    assert mirrored(row, 4)[0, 0, 4].tolist() == [0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2]
    wide = torch.rand(1, 3, 9, 8)
    assert torch.equal(mirrored(wide, 3), torch.nn.functional.pad(wide, (3, 3, 3, 3), "reflect"))


def test_lora_sets_save_what_a_frozen_denoiser_would_keep() -> None:
    given = {"x": torch.rand(2, 1, 32, 32)}
    block = Unfolding(Design(**{**TINY["cs"], "sharing": "block"}))
    assert activations(block, 1, given, given["x"]) > 0


def test_an_unknown_kernel_is_a_setting_beside_the_known_one_on_the_same_backbone(
    make_order: Callable[..., Order], computer: Accelerator, tmp_path: Path, photos: Path
) -> None:
    network, phases = learn(make_order(), Run(), silent, computer)
    publish(tmp_path / "out", "mine", network, phases)
    order = replace(make_order(step="learned", rank="50%"), backbone=trained_backbone(tmp_path / "work"))
    blind, phases = learn(order, Run(), silent, computer)
    folder = publish(tmp_path / "out", "mine", blind, phases)
    card = read_card(folder)
    assert list(settings(card)) == ["sr", "unknown"]
    assert card.network["settings"] == {"unknown": {"step": "learned", "rank": "50%"}}
    assert load(card).design == make_order().design
    assert load(card, "unknown").design == order.design
    call = ["unfold", "evaluate", str(photos), "--limit", "1", "--model", str(folder), "--kernels", "K3", "--unknown"]
    done = CliRunner().invoke(app, [*call, "--json", str(tmp_path / "blind.json")])
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "blind.json").read_text())["settings"]["unknown"]


def test_a_metric_that_is_not_measured_is_refused(make_order: Callable[..., Order], computer: Accelerator) -> None:
    order = make_order()
    for phase in (1, 2):
        changes = {**order.changes, phase: {**order.changes[phase], "metric": "psnr_y"}}
        with pytest.raises(InputError, match="metric = 'psnr_y' is not measured"):
            learn(replace(order, changes=changes), Run(), silent, computer)
        assert not order.folder.exists()


def test_commands(photos: Path, tmp_path: Path, published: Path) -> None:
    runner, out = CliRunner(), tmp_path / "numbers.json"
    call = ["unfold", "evaluate", str(photos), "--limit", "1", "--model", str(published), "--scale", "4", "--kernels", "K2,K11"]
    done = runner.invoke(app, [*call, "--json", str(out)])
    assert done.exit_code == 0, done.output
    found = json.loads(out.read_text())
    assert set(found["mean"]) == {"psnr", "ssim"}
    assert found["settings"]["kernels"] == ["K2", "K11"]
    assert len(found["images"]) == 2
    wrong = runner.invoke(app, ["unfold", "evaluate", str(photos), "--model", str(published), "--task", "cs", "--ratio", "50"])
    assert isinstance(wrong.exception, InputError)
    assert "no weights for 50" in str(wrong.exception)


def test_the_comparison_trains_all_variants_for_as_many_steps_and_goes_on(photos: Path, tmp_path: Path) -> None:
    call = ["unfold", "compare", "--task", "cs", "--data", str(photos), "--out", str(tmp_path / "c"), "--bench", str(photos)]
    call += ["--steps", "3", "--gammas", "10,50", "--limit", "1"]
    for field in ("stages=2", "widths=4,6", "ratio=2"):
        call += ["--design", field]
    for field in ("patch=32", "batch=2", "held_out=1", "validate_every=2"):
        call += ["--set", field]
    first = CliRunner().invoke(app, call)
    assert first.exit_code == 0, first.output
    report = json.loads((tmp_path / "c" / "report.json").read_text())
    rows = {row["variant"]: row for row in report["rows"]}
    assert list(rows) == ["single-2", "block-2", "lorun-2, gamma 10", "lorun-2, gamma 50"]
    assert rows["single-2"]["parameters"] < rows["lorun-2, gamma 10"]["parameters"] < rows["lorun-2, gamma 50"]["parameters"]
    assert "| block-2 |" in (tmp_path / "c" / "report.md").read_text()
    models = tmp_path / "c" / "models"
    assert {path.name: load(read_card(path)).design.sharing for path in models.iterdir()} == {
        "single-2": "single",
        "block-2": "block",
        "lorun-2-gamma-10": "lorun",
        "lorun-2-gamma-50": "lorun",
    }
    assert CliRunner().invoke(app, call).exit_code == 0
    assert {**json.loads((tmp_path / "c" / "report.json").read_text())}["rows"] == report["rows"]


def test_a_network_is_added_once_and_a_broken_one_disables_only_itself(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SRGUI_HOME", str(tmp_path / "home"))
    known = set(scan()[0])
    call = ["models", "add", str(published)]
    assert "mine is ready" in CliRunner().invoke(app, call).output
    assert torch.equal(load(find("mine"))(SEEN), load(read_card(published))(SEEN))
    again = CliRunner().invoke(app, call).exception
    assert isinstance(again, ModelError)
    assert "exists already" in str(again)
    assert CliRunner().invoke(app, [*call, "--name", "other"]).exit_code == 0
    (tmp_path / "home" / "unfolding" / "mine" / "card.json").write_text("{}")
    cards, problems = scan()
    assert set(cards) == known | {"other"}
    assert len(problems) == 1
    (published / "backbone.safetensors").write_bytes(b"")
    broken = CliRunner().invoke(app, [*call, "--name", "third"]).exception
    assert isinstance(broken, ModelError)
    assert "third" not in scan()[0]


def test_what_is_shipped_loads_and_restores() -> None:
    for card in scan()[0].values():
        for name in settings(card):
            network = load(card, name)
            assert all(value.isfinite().all() for value in network.state_dict().values())
