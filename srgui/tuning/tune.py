"""Training from beginning to end."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from accelerate import Accelerator
from accelerate.utils import gather_object

from srgui.device import pick
from srgui.errors import MetricUnavailable, SrguiError, TrainingError
from srgui.metrics import Lpips, load_lpips
from srgui.protocol import Run
from srgui.training.learner import precision
from srgui.training.losses import load_perceptual
from srgui.training.patches import batches
from srgui.training.trainer import Task, Tell, Trainer
from srgui.training.validation import Validation
from srgui.tuning.order import Order, check_order
from srgui.tuning.plan import Plan
from srgui.tuning.result import Result

T = TypeVar("T")
_NOTE = "result.json"
RESULT = "result"  # folder of the samples of the trained network, which may be better than the last ones watched


def prepare(order: Order, computer: Accelerator) -> Plan:
    """The plan of ``order``, with all that can be wrong with it found out before anything is written.

    Raises:
        TrainingError, InputError, ModelError, AdapterError: in one line.
    """

    def make() -> Plan:
        check_order(order)
        plan = Plan(order)
        plan.counts()  # whether the targets match
        batches(plan.patches, order.recipe.batch, first_step=0, world=computer.num_processes).close()
        return plan

    return together(computer, make)


def tune(plan: Plan, folder: Path, run: Run, tell: Tell, computer: Accelerator) -> dict[str, Any]:
    """Train, measure on the pictures that were held out, and write the adapter (or the model) with its card.

    A network trained from random weights has no base to be compared with: its own scores are written instead of a gain.

    Args:
        folder: where checkpoints and samples go, and are found again by a resumed training.

    Raises:
        Cancelled: after a checkpoint.
        TrainingError, InputError, MetricUnavailable, AdapterError, OutputError: in one line, with what was learned kept in
            ``folder``.
    """
    order, main = plan.order, computer.is_main_process
    if main:
        tell({"kind": "preflight", "lines": plan.inventory.lines(), "held_out": [item.path.name for item in plan.items[1]]})
    lpips = _lpips() if main else None
    if order.recipe.perceptual:  # one downloads, for all on its machine
        together(computer, lambda: load_perceptual(order.recipe.perceptual_net) if computer.is_local_main_process else None)
    validation = Validation(plan.held_out, plan.network.scale, lpips)
    task = Task(plan.network, order.recipe, plan.patches, len(plan.items[0]), validation, plan.identity)
    outcome = Trainer(task, folder, computer, order.workers).train(run, tell)
    result = Result(plan, outcome)
    found: dict[str, Any] = {"name": order.name, "stopped": outcome.stopped, "best_step": outcome.progress.best_step}
    if main:
        tell({"kind": "measuring"})
        adapts = plan.card is not None
        metrics, cost = dict[str, Any](outcome.progress.best), dict[str, Any]()
        if adapts:
            gain = result.gain(run, lpips)
            result.show(gain, folder / RESULT)
            metrics, cost = gain.as_json(), result.cost(run, lpips)
        found |= {"place": str(result.place), "metrics": metrics, "cost": cost}
        with _noted(found, folder):
            result.write(metrics, cost)
        tell({"kind": "result", **found})
    computer.wait_for_everyone()
    computer.end_training()
    return found


def written(folder: Path) -> dict[str, Any] | None:
    """What :func:`tune` gave, if it was killed after it had written its result and before it could say so."""
    try:
        found = dict[str, Any](json.loads((folder / _NOTE).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
    return found if Path(found["place"]).is_dir() else None


@contextmanager
def _noted(found: dict[str, Any], folder: Path) -> Iterator[None]:
    """Note what is being written, for :func:`written`; not if it fails."""
    note = folder / _NOTE
    try:
        note.write_text(json.dumps(found), encoding="utf-8")
    except OSError as error:
        raise TrainingError(f"{note} cannot be written: {error.strerror}; free some space and resume") from error
    try:
        yield
    except SrguiError:
        note.unlink()
        raise


def together(computer: Accelerator, make: Callable[[], T]) -> T:
    """What ``make`` gives in this process; where it fails in one of several, all fail, and none waits for it for ever.

    Raises:
        SrguiError: of ``make``, here or in another process.
    """
    if computer.num_processes == 1:
        return make()
    made: list[T] = []
    try:
        made.append(make())
        problem = None
    except SrguiError as error:
        problem = error
    reasons = [reason for reason in gather_object([str(problem) if problem else ""]) if reason]
    if problem is not None:
        raise problem
    if reasons:
        raise TrainingError(reasons[0])
    return made[0]


def accelerator(order: Order) -> Accelerator:
    """How to compute: the device asked for, in the precision it bears; one process of several.

    Raises:
        InputError: a device that is not there.
    """
    device = pick(order.device)
    if device.type == "cuda" and device.index is not None:
        os.environ["ACCELERATE_TORCH_DEVICE"] = str(device)
    return Accelerator(cpu=device.type == "cpu", mixed_precision=precision(device))


def _lpips() -> Lpips | None:
    try:
        return load_lpips("auto")
    except MetricUnavailable:
        return None
