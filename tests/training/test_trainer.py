from __future__ import annotations

import errno
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from torch import Tensor, nn

from srgui.errors import Cancelled, TrainingError
from srgui.images import read_picture, to_tensor
from srgui.metrics import MetricUnavailable, load_lpips, psnr
from srgui.models.build import build
from srgui.models.network import Network
from srgui.protocol import Run
from srgui.training import checkpoint
from srgui.training.learner import holding
from srgui.training.objective import Objective
from srgui.training.trainer import Outcome, Task, Trainer
from srgui.training.validation import Validation

MakeTask = Callable[..., Task]
MakeTrainer = Callable[..., Trainer]
Events = list[dict[str, Any]]

KINDS = {
    "lora": {},
    "dora with weight decay": {"dora": True, "rslora": True, "decay": 0.1},
    "full with muon": {"method": "full", "optimizer": "muon", "ema": 0.9},
    "adversarial": {"adversarial": 0.1, "discriminator": 4, "patch": 16},
    "no average, clipped, noisy": {"ema": 0.0, "clip": 0.1, "noisy": 0.5, "norm_penalty": 1e-3},
    "camera": {"degradation": "camera"},
}


def finish(trainer: Trainer) -> tuple[Outcome, Events]:
    events: Events = []
    return trainer.train(Run(), events.append), events


def stop_at(trainer: Trainer, step: int) -> None:
    """Cancel after that validation."""
    run = Run()

    def tell(event: Mapping[str, Any]) -> None:
        if event["kind"] == "validation" and event["step"] == step:
            run.cancel()

    with pytest.raises(Cancelled):
        trainer.train(run, tell)


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def steps_of(events: Events, kind: str = "validation") -> list[int]:
    return [event["step"] for event in events if event["kind"] == kind]


# Learning


@pytest.mark.parametrize("fields", [{}, {"method": "full", "optimizer": "muon"}, {"loss": "mse", "form": "reshape"}], ids=str)
def test_it_learns(make_trainer: MakeTrainer, fields: dict[str, Any]) -> None:
    outcome, events = finish(make_trainer(steps=60, validate_every=20, ema=0.9, lr=3e-2, **fields))
    measured = [event for event in events if event["kind"] == "validation"]
    assert [event["step"] for event in measured] == [0, 20, 40, 60]
    assert measured[-1]["psnr_y"] > measured[0]["psnr_y"] + 0.5
    assert outcome.progress.base["psnr_y"] == measured[0]["psnr_y"]
    assert outcome.progress.best["psnr_y"] == max(event["psnr_y"] for event in measured)
    assert outcome.stopped == ""
    losses = [event for event in events if event["kind"] == "step"]
    assert losses[-1]["step"] == 60
    assert all(math.isfinite(event["loss"]) and event["steps"] == 60 for event in losses)


def test_the_weights_kept_are_those_that_were_measured_best(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(steps=9, lr=3e-2)
    outcome, _ = finish(trainer)
    with holding(outcome.model, outcome.weights):
        scores, _ = trainer.task.validation(replace(trainer.task.network, module=outcome.model))
    assert scores == outcome.progress.best


def test_where_nothing_was_better_the_start_is_kept(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(lr=3.0, clip=0.0)
    start = {name: value.clone() for name, value in trainer.best.items()}
    outcome, events = finish(trainer)
    measured = [event["psnr_y"] for event in events if event["kind"] == "validation"]
    assert max(measured[1:]) < measured[0]
    assert outcome.progress.best_step == 0
    assert same(outcome.weights, start)


def test_only_the_factors_change(make_trainer: MakeTrainer, network: Network) -> None:
    before = {name: value.clone() for name, value in network.module.state_dict().items()}
    outcome, _ = finish(make_trainer())
    assert same(network.module.state_dict(), before)
    assert all(name.startswith(("lora_A", "lora_B")) for name in outcome.weights)


def test_only_the_trunk_changes(make_trainer: MakeTrainer, make_task: MakeTask, tmp_path: Path) -> None:
    network = build({"kind": "rrdb", "features": 8, "blocks": 1, "scale": 2})
    trainer = make_trainer(network=network, method="full", targets=("*.RDB*",), resize=16, batch=1, epochs=2, steps=99)
    assert trainer.task.steps == 2 * 3
    outcome, _ = finish(trainer)
    before, after = network.module.state_dict(), outcome.model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if ".RDB" in name} == set(outcome.weights)


def test_an_average_lags_behind_the_weights_and_without_one_the_weights_are_used(make_trainer: MakeTrainer) -> None:
    averaged, plain = make_trainer("a", ema=0.99), make_trainer("b", ema=0.0)
    for trainer in (averaged, plain):
        finish(trainer)
    assert same({n: p.detach() for n, p in plain.model.named_parameters() if p.requires_grad}, plain.average)
    now = {n: p.detach() for n, p in averaged.model.named_parameters() if p.requires_grad}
    assert same(now, plain.average)
    assert not same(now, averaged.average)


def test_the_seed_decides_the_weights(make_trainer: MakeTrainer) -> None:
    first, again, other = (finish(make_trainer(name, seed=seed))[0] for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert same(first.weights, again.weights)
    assert not same(first.weights, other.weights)


def test_patience_ends_it(make_trainer: MakeTrainer) -> None:
    outcome, events = finish(make_trainer(steps=100, validate_every=2, patience=3, lr=3.0))
    assert steps_of(events) == [0, 2, 4, 6]
    assert outcome.stopped == "no better measurement in 3"
    assert outcome.progress.step == 6


def test_the_best_by_lpips_and_without_it_by_psnr(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter([0.5, 0.3, 0.4])
    plain = Validation.__call__

    def measured(self: Validation, network: Network) -> Any:
        scores, pictures = plain(self, network)
        return {**scores, "lpips": next(values, None)}, pictures

    monkeypatch.setattr(Validation, "__call__", measured)
    assert finish(make_trainer("with", metric="lpips"))[0].progress.best_step == 3
    outcome, _ = finish(make_trainer("without", metric="lpips", lr=3e-2, steps=30, validate_every=10))
    assert outcome.progress.best["lpips"] is None
    assert outcome.progress.best_step > 0


def test_samples_show_held_out_pictures_before_and_now(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer = make_trainer()
    finish(trainer)
    folder = tmp_path / "work" / checkpoint.SAMPLES
    assert sorted(path.name for path in folder.iterdir()) == ["0-base.png", "0-hr.png", "0-lr.png", "0-now.png"]
    (picture,) = trainer.task.validation.pictures
    assert torch.equal(to_tensor(read_picture(folder / "0-hr.png").as_uint8()), picture.hr)
    base = to_tensor(read_picture(folder / "0-base.png").as_uint8())
    reached = psnr(base, picture.hr, channel="Y", crop_border=2)
    assert reached == pytest.approx(trainer.progress.base["psnr_y"])


# Going on


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_training_gives_the_weights_of_an_uninterrupted_one(make_trainer: MakeTrainer, kind: str) -> None:
    fields = KINDS[kind]
    whole, _ = finish(make_trainer("whole", **fields))
    stop_at(make_trainer("cut", **fields), 3)
    resumed, events = finish(make_trainer("cut", **fields))
    assert steps_of(events) == [6]
    assert same(whole.weights, resumed.weights)
    assert (whole.progress.base, whole.progress.best) == (resumed.progress.base, resumed.progress.best)
    again, events = finish(make_trainer("cut", **fields))  # nothing is left to do
    assert events == []
    assert same(whole.weights, again.weights)


def test_cancelling_between_checkpoints_keeps_the_step(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = finish(make_trainer("whole"))
    run, step = Run(), Trainer._step

    def counted(self: Trainer, *batch: Tensor) -> Any:
        if self.progress.step == 4:
            run.cancel()
        return step(self, *batch)

    monkeypatch.setattr(Trainer, "_step", counted)
    with pytest.raises(Cancelled):
        make_trainer("cut").train(run, lambda event: None)
    trainer = make_trainer("cut")
    assert trainer.progress.step == 5
    assert same(finish(trainer)[0].weights, whole.weights)


@pytest.mark.parametrize("change", [{"steps": 9}, {"rank": "3"}, {"lr": 1e-3}], ids=str)
def test_a_training_of_another_recipe_is_not_resumed(make_trainer: MakeTrainer, change: dict[str, Any]) -> None:
    stop_at(make_trainer(), 3)
    with pytest.raises(TrainingError, match=r"was started with another recipe; give what it was started with .* or another name"):
        make_trainer(**change)


def test_a_training_of_other_pictures_is_not_resumed(make_trainer: MakeTrainer, make_task: MakeTask, tmp_path: Path) -> None:
    trainer = make_trainer()
    stop_at(trainer, 3)
    task = replace(make_task(), identity={"base": "another"})
    with pytest.raises(TrainingError, match="started with another base"):
        Trainer(task, tmp_path / "work", trainer.accelerator)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04", None])
def test_a_damaged_checkpoint_is_called_that(make_trainer: MakeTrainer, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "work" / checkpoint.FILE
    if content is None:
        stop_at(make_trainer(), 3)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.parent.mkdir()
        path.write_bytes(content)
    with pytest.raises(TrainingError, match=r"checkpoint\.pt is damaged; remove it to start anew"):
        make_trainer()


# What goes wrong


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed\nmore"), "file write failed"),
    ],
)
def test_a_full_disk_leaves_the_checkpoint_before(
    make_trainer: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    path = tmp_path / "work" / checkpoint.FILE
    save = torch.save

    def full(content: object, place: Path) -> NoReturn:
        place.write_bytes(b"half")
        raise error

    monkeypatch.setattr(checkpoint.torch, "save", full)
    with pytest.raises(TrainingError, match="there is none yet; free some space and resume"):
        finish(make_trainer())
    assert list(path.parent.glob("checkpoint*")) == []
    monkeypatch.setattr(checkpoint.torch, "save", save)
    stop_at(make_trainer(), 3)
    before = path.read_bytes()
    monkeypatch.setattr(checkpoint.torch, "save", full)
    with pytest.raises(TrainingError) as caught:
        finish(make_trainer())
    assert reason in str(caught.value)
    assert "the one before is kept; free some space and resume" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert not path.with_suffix(".part").exists()


def test_samples_that_cannot_be_written_are_said(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / checkpoint.SAMPLES).write_text("in the way")
    with pytest.raises(TrainingError, match="samples cannot be written"):
        finish(make_trainer())


def spoil(monkeypatch: pytest.MonkeyPatch, from_call: int) -> None:
    """Make the loss NaN from a call on."""
    calls, plain = [0], Objective.__call__

    def spoiled(self: Objective, model: nn.Module, sr: Tensor, hr: Tensor) -> Tensor:
        calls[0] += 1
        return plain(self, model, sr, hr) * (math.nan if calls[0] >= from_call else 1)

    monkeypatch.setattr(Objective, "__call__", spoiled)


def test_nan_keeps_the_best(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = finish(make_trainer("whole", steps=3))
    spoil(monkeypatch, 5)
    outcome, _ = finish(make_trainer("cut", schedule="constant"))
    assert outcome.stopped == "the loss became NaN at step 4; the weights of step 3 are kept; a lower learning rate may go further"
    assert outcome.progress.best_step == whole.progress.best_step == 3
    assert all(value.isfinite().all() for value in outcome.weights.values())


def test_nan_before_anything_was_learned(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spoil(monkeypatch, 3)
    with pytest.raises(TrainingError, match="NaN at step 2, before anything was learned; use a lower learning rate"):
        finish(make_trainer())
    assert not (tmp_path / "work" / checkpoint.FILE).exists()


def test_a_huge_rate_diverges_into_a_message(make_trainer: MakeTrainer) -> None:
    with pytest.raises(TrainingError, match="use a lower learning rate"):
        finish(make_trainer(lr=1e30, steps=50, validate_every=100))


class Idle(nn.Module):
    """A network with a layer that its forward pass does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Conv2d(3, 12, 3, padding=1)
        self.idle = nn.Conv2d(3, 3, 3)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.shuffle(self.used(x))


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_layer_that_is_not_used_is_refused(make_trainer: MakeTrainer, method: str) -> None:
    network = Network(Idle().requires_grad_(False), "Idle", 2)
    with pytest.raises(TrainingError, match="does not use 1 of the layers that are to learn, such as idle; name others"):
        make_trainer(network=network, method=method)
    finish(make_trainer(network=network, method=method, targets=("used",)))


# Losses


def test_the_norm_penalty_shrinks_the_factors(make_trainer: MakeTrainer) -> None:
    free, bound = (finish(make_trainer(name, norm_penalty=value, steps=20))[0] for name, value in (("a", 0.0), ("b", 1.0)))
    assert free.losses == "1 L1"
    assert bound.losses == "1 L1 + 1 (|A|^2 + |B|^2)"
    norms = [sum(p.square().sum().item() for p in out.model.parameters() if p.requires_grad) for out in (free, bound)]
    assert norms[1] < 0.9 * norms[0]


def test_perceptual_and_adversarial_losses_train(make_trainer: MakeTrainer) -> None:
    try:
        load_lpips("squeeze")
    except MetricUnavailable as reason:
        pytest.skip(str(reason))
    fields = {"perceptual": 1.0, "perceptual_net": "lpips-squeeze", "adversarial": 5e-3, "content": 1e-2}
    fields |= {"discriminator": 4, "patch": 16}
    trainer = make_trainer(steps=30, validate_every=30, lr=1e-2, ema=0.9, **fields)
    judge = trainer.objective.state()["network"]
    assert isinstance(judge, dict)
    before = {key: value.clone() for key, value in judge.items()}
    without = Objective(replace(trainer.task.recipe, adversarial=0.0), 4, trainer.accelerator)
    lr, hr = (torch.stack(parts) for parts in zip(*(trainer.task.patches[sample] for sample in range(8)), strict=True))
    start = without(trainer.model, trainer.task.network(lr), hr).item()
    outcome, _ = finish(trainer)
    with holding(outcome.model, trainer.average), torch.inference_mode():
        end = without(outcome.model, replace(trainer.task.network, module=outcome.model)(lr), hr).item()
    assert end < 0.95 * start
    assert not same(before, judge)
    assert outcome.losses.startswith("0.01 L1 + 1 LPIPS")
    assert outcome.losses.endswith(" + 0.005 relativistic adversarial")
