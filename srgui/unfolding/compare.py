"""The papers' tables: one denoiser, one per stage, and one with LoRA sets, trained for equally many steps."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import default_collate

from srgui.errors import InputError
from srgui.protocol import Run
from srgui.training.trainer import Tell
from srgui.unfolding.design import Design
from srgui.unfolding.evaluation import Request, evaluate
from srgui.unfolding.learning import Order, Phase, learn, pictures
from srgui.unfolding.network import Unfolding, count
from srgui.unfolding.publish import publish
from srgui.unfolding.samples import make_samples

SHARE = 0.6  # of the steps of a lorun that its backbone takes


@dataclass(frozen=True)
class Comparison:
    """What is compared.

    Attributes:
        design: of all; ``sharing`` and ``rank`` vary.
        steps: of every training, both phases together.
        gammas: ranks of the LoRA in percent.
        backbone: a network trained before, such as at another ratio, whose denoiser is adapted as well.
    """

    design: Design
    data: Sequence[Path]
    folder: Path
    steps: int
    gammas: Sequence[float]
    bench: Request
    changes: Mapping[str, Any] = field(default_factory=dict)
    backbone: Unfolding | None = None

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise InputError(f"{self.steps} steps cannot be divided between two phases; give 2 or more")


def compare(what: Comparison, run: Run, tell: Tell, say: Callable[[str], None]) -> dict[str, Any]:
    """Train every variant, measure it and leave its weights in ``models``: ``settings`` and ``rows``.

    What is trained already is only read.

    Raises:
        Cancelled: after a checkpoint.
        InputError, TrainingError: in one line.
    """
    rows = []
    for name, make in _variants(what).items():
        network, phases = make(run, tell)
        _publish(what, name, network, phases)
        scores = evaluate(network, what.bench, run)
        rows.append({"variant": name, **scores["mean"], "stages": scores["stages"], **costs(network, what, phases)})
        say(f"{name}: {rows[-1]['psnr']:.2f} dB")
    beside = {name: found["psnr"] for name, found in scores["baselines"].items()}
    settings = {"design": what.design.as_dict(), "steps": what.steps, "share_of_backbone": SHARE, "baselines": beside}
    return {"settings": {**settings, "threads": torch.get_num_threads(), "torch": torch.__version__}, "rows": rows}


def _publish(what: Comparison, variant: str, network: Unfolding, phases: Sequence[Phase]) -> None:
    name = re.sub(r"\W+", "-", variant)
    place = what.folder / "models" / name
    shutil.rmtree(place, ignore_errors=True)  # of a shorter training
    publish(place, f"{what.design.task}-{name}", network, phases)


Make = Callable[[Run, Tell], tuple[Unfolding, list[Phase]]]


def _variants(what: Comparison) -> dict[str, Make]:
    first = max(1, round(what.steps * SHARE))

    def order(place: str, sharing: str, steps: Mapping[int, int], **more: Any) -> Order:
        changes = {phase: {**what.changes, "steps": number} for phase, number in steps.items()}
        design = what.design.but(sharing=sharing, **{key: more.pop(key) for key in ("rank",) if key in more})
        return Order(design, what.data, what.folder / place, changes, **more)

    def plain(sharing: str) -> Make:
        return lambda run, tell: learn(order(sharing, sharing, {1: what.steps}), run, tell, Accelerator(cpu=True))

    def adapted(gamma: float) -> Make:
        def make(run: Run, tell: Tell) -> tuple[Unfolding, list[Phase]]:
            # all ranks adapt one and the same backbone
            backbone, begun = learn(order("backbone", "single", {1: first}), run, tell, Accelerator(cpu=True))
            one = order(f"lorun-{gamma:g}", "lorun", {2: what.steps - first}, rank=f"{gamma:g}%", backbone=backbone)
            network, phases = learn(one, run, tell, Accelerator(cpu=True))
            return network, [*begun, *phases]

        return make

    def transferred(gamma: float) -> Make:
        one = order(f"transferred-{gamma:g}", "lorun", {2: what.steps - first}, rank=f"{gamma:g}%", backbone=what.backbone)
        return lambda run, tell: learn(one, run, tell, Accelerator(cpu=True))

    stages = what.design.stages
    found = {f"single-{stages}": plain("single"), f"block-{stages}": plain("block")}
    found |= {f"lorun-{stages}, gamma {gamma:g}": adapted(gamma) for gamma in what.gammas}
    if what.backbone is not None:
        found |= {f"lorun-{stages}, gamma {gamma:g}, given backbone": transferred(gamma) for gamma in what.gammas}
    return found


def costs(network: Unfolding, what: Comparison, phases: Sequence[Phase]) -> dict[str, Any]:
    """``parameters``, ``trained`` (in the last phase), ``state_mb`` (parameters, gradients, optimizer), ``peak_mb`` of a training
    step at the recipe's batch, and ``seconds_per_step`` of the last phase.
    """
    found, recipe = count(network.design), phases[-1].recipe
    seconds, steps = phases[-1].outcome.progress.seconds, max(1, phases[-1].outcome.progress.step)
    train, _ = pictures(what.data, recipe)
    samples = make_samples(network.design, train[:1], recipe.patch, recipe.batch, recipe.seed)
    given, wanted = default_collate([samples[number] for number in range(recipe.batch)])
    saved = activations(network, phases[-1].phase, given, wanted)
    return {
        "parameters": found.total,
        "trained": found.trained,
        "state_mb": round(found.memory / 1e6, 2),
        "peak_mb": round((found.memory + saved) / 1e6, 1),
        "seconds_per_step": round(seconds / steps, 3),
    }


def activations(network: Unfolding, phase: int, given: Mapping[str, Tensor], wanted: Tensor) -> int:
    """Bytes that a forward pass keeps for the backward pass, each storage counted once, without the parameters."""
    twin = Unfolding(network.design)
    twin.load_state_dict(network.state_dict())
    if phase == 2:
        twin.denoisers.requires_grad_(False)
    own = {parameter.untyped_storage().data_ptr() for parameter in twin.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = (twin(given) - wanted).abs().mean()
    del loss
    return sum(kept.values())


def markdown(report: Mapping[str, Any]) -> str:
    """The table of a comparison, the best PSNR in bold."""
    settings, rows = report["settings"], report["rows"]
    design = settings["design"]
    best = max(row["psnr"] for row in rows)
    lines = [
        f"# LoRun: {design['task']}, K = {design['stages']}, {design['denoiser']} {'-'.join(map(str, design['widths']))}",
        "",
        f"Every training took {settings['steps']} steps in all; a lorun's backbone {settings['share_of_backbone']:.0%} of them.",
        "",
        "| variant | PSNR | SSIM | parameters | of block | learn last | state MB | peak MB | s / step |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    block = next((row["parameters"] for row in rows if row["variant"].startswith("block")), math.nan)
    for row in rows:
        psnr = f"**{row['psnr']:.2f}**" if row["psnr"] == best else f"{row['psnr']:.2f}"
        numbers = (
            f"{row['parameters']:,} | {row['parameters'] / block:.0%} | {row['trained']:,} | {row['state_mb']} | {row['peak_mb']}"
        )
        lines.append(f"| {row['variant']} | {psnr} | {row['ssim']:.4f} | {numbers} | {row['seconds_per_step']} |")
    beside = ", ".join(f"{name} {psnr:.2f} dB" for name, psnr in settings["baselines"].items())
    return "\n".join([*lines, "", f"Without training: {beside}.", ""])
