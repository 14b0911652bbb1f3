"""Training from beginning to end."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from srgui.device import pick
from srgui.errors import MetricUnavailable
from srgui.metrics import Lpips, load_lpips
from srgui.protocol import Run
from srgui.training.trainer import Task, Tell, Trainer
from srgui.training.validation import Validation
from srgui.tuning.order import Order, check_order
from srgui.tuning.plan import Plan
from srgui.tuning.result import Result

RESULT = "result"  # folder of the samples of the trained network, which may be better than the last ones watched


def tune(order: Order, folder: Path, run: Run, tell: Tell) -> dict[str, Any]:
    """Train, measure on the pictures that were held out, and write the adapter (or the model) with its card.

    A network trained from random weights has no base to be compared with: its own scores are written instead of a gain.

    Args:
        folder: where checkpoints and samples go, and are found again by a resumed training.

    Raises:
        Cancelled: after a checkpoint.
        TrainingError, InputError, ModelError, AdapterError, OutputError: in one line, with what was learned kept in ``folder``.
    """
    check_order(order)
    plan = Plan(order)
    computer = accelerator(order)
    main = computer.is_main_process
    if main:
        tell({"kind": "preflight", "lines": plan.inventory.lines(), "held_out": [item.path.name for item in plan.items[1]]})
    lpips = _lpips()
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
        place = result.write(metrics, cost)
        found |= {"place": str(place), "metrics": metrics, "cost": cost}
        tell({"kind": "result", **found})
    computer.wait_for_everyone()
    computer.end_training()
    return found


def accelerator(order: Order) -> Accelerator:
    """How to compute: the device asked for; half precision on CUDA where the network bears it; one process of several."""
    device = pick(order.device)
    if device.type == "cuda" and device.index is not None:
        os.environ["ACCELERATE_TORCH_DEVICE"] = str(device)
    mixed = "no" if device.type == "cpu" else "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return Accelerator(cpu=device.type == "cpu", mixed_precision=mixed)


def _lpips() -> Lpips | None:
    try:
        return load_lpips("auto")
    except MetricUnavailable:
        return None
