"""What happened in a training, from its events, and how far it is in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from srgui.metrics import Scores
from srgui.training.jobs import Job, State
from srgui.ui.parts import duration
from srgui.ui.work import Status

WORDS: Mapping[State, str] = {
    "queued": "waiting",
    "running": "learning",
    "stopped": "stopped",
    "interrupted": "interrupted",
    "done": "done",
    "failed": "failed",
}


@dataclass
class History:
    """The course of one training. ``losses`` and ``scores`` are by step; ``phase`` is the kind of the last event."""

    losses: list[tuple[int, float]] = field(default_factory=list)
    scores: list[tuple[int, Scores]] = field(default_factory=list)
    step: int = 0
    steps: int = 0
    seconds: float = 0.0
    best_step: int = 0
    held_out: list[str] = field(default_factory=list)
    result: Mapping[str, Any] = field(default_factory=dict)
    phase: str = ""

    @property
    def left(self) -> float | None:
        """Seconds until the last step, once a few are done."""
        return self.seconds / self.step * (self.steps - self.step) if self.step >= 5 else None

    def at(self, step: int) -> Scores | None:
        return next((scores for measured, scores in self.scores if measured == step), None)


def history(events: Iterable[Mapping[str, Any]]) -> History:
    """The course of a training from :meth:`srgui.training.jobs.Job.events`; events that cannot be read are left out."""
    found = History()
    for event in events:
        with suppress(KeyError, TypeError, ValueError):
            _add(found, event)
    return found


def _add(found: History, event: Mapping[str, Any]) -> None:
    kind = event["kind"]
    if kind in ("step", "validation"):
        step, steps, seconds = int(event["step"]), int(event["steps"]), float(event["seconds"])
        if kind == "step":
            found.losses.append((step, float(event["loss"])))
        else:
            found.scores.append((step, {key: _number(event[key]) for key in ("psnr_y", "ssim_y", "lpips")}))
            found.best_step = int(event["best_step"])
        found.step, found.steps, found.seconds = step, steps, seconds
    elif kind == "preflight":
        found.held_out = [str(name) for name in event["held_out"]]
    elif kind == "result":
        found.result = event
    found.phase = str(kind)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def status(job: Job, state: State, found: History, running: Iterable[str]) -> tuple[Status, bool]:
    """How far a job is, in words, and whether that is an error; ``running`` names all jobs that run now."""
    resumable = f" after step {found.step} of {found.steps}" if found.step else ""
    if state == "queued":
        others = [name for name in running if name != job.name]
        return Status(f"Waiting for the training {others[0]} to end" if others else "Starting…"), False
    if state == "running":
        return _running(job, found), False
    if state == "stopped":
        return Status(f"Stopped{resumable}; it can be resumed.", finished=True), False
    if state == "interrupted":
        return Status(f"Interrupted{resumable} (was the computer switched off?); it can be resumed.", finished=True), False
    if state == "failed":
        return Status(f"Failed: {job.end.get('message', '')}", finished=True), True
    early = f", ended early: {found.result['stopped']}" if found.result.get("stopped") else ""
    return Status(f"Done: {found.step} steps in {duration(found.seconds)}{early}.", finished=True), False


def _running(job: Job, found: History) -> Status:
    share = found.step / found.steps if found.steps else None
    if (job.folder / "stop").exists():
        return Status("Stopping, and keeping what was learned…", share)
    if found.phase == "measuring":
        return Status("Measuring on the held-out pictures…", 1.0)
    if found.phase in ("step", "validation") and found.step:
        return Status(f"Learning, step {found.step} of {found.steps}", share, found.left)
    if found.phase == "validation":
        return Status(f"Learning, step 0 of {found.steps}", 0.0)
    if found.phase == "preflight":
        return Status("Loading the model and measuring it on the held-out pictures…", share)
    return Status("Reading the pictures…", share)
