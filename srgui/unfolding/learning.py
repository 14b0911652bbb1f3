"""Training an unfolding network in the two phases of LoRun (arXiv 2602.18697, Algorithm 1), each resumable by itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from srgui.errors import InputError, OutputError
from srgui.protocol import Run
from srgui.training.checkpoint import FILE
from srgui.training.learner import holding
from srgui.training.pairs import digest as pictures_digest
from srgui.training.preflight import Item, inspect, split
from srgui.training.recipe import Recipe, changed
from srgui.training.trainer import Outcome, Task, Tell, Trainer
from srgui.unfolding.design import Design, read_design
from srgui.unfolding.files import digest, setting_of
from srgui.unfolding.judge import Held, held_out
from srgui.unfolding.network import Solver, Unfolding
from srgui.unfolding.principal import principal_rows
from srgui.unfolding.recipes import recipe_for
from srgui.unfolding.samples import Crops, make_samples
from srgui.unfolding.sensing import CsSensing

_CROPS = 64  # from which a learned Phi starts


@dataclass(frozen=True)
class Order:
    """What is to be trained: a design, from which pictures, and changes of the recipe of each phase.

    Attributes:
        folder: where checkpoints go and are found again.
        backbone: the network whose denoiser ``lorun`` adapts; None trains one first (phase 1), as ``single``.
    """

    design: Design
    pictures: Sequence[Path]
    folder: Path
    changes: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    backbone: Unfolding | None = None
    workers: int = 0

    def recipe(self, phase: int) -> Recipe:
        """Of a phase.

        Raises:
            InputError: a change cannot be made.
        """
        recipe = changed(recipe_for(self.design, phase), self.changes.get(phase, {}))
        if recipe.metric != "psnr":
            raise InputError(f"metric = {recipe.metric!r} is not measured while an unfolding network learns; use psnr")
        return recipe


@dataclass(frozen=True)
class Phase:
    """How one phase went, for a card; ``psnr`` on the held-out pictures before and after."""

    phase: int
    recipe: Recipe
    outcome: Outcome
    pictures: int
    pictures_sha256: str

    def as_json(self) -> dict[str, Any]:
        progress, recipe = self.outcome.progress, self.recipe
        shown = "loss patch batch steps optimizer lr lr_rest decay schedule warmup ema held_out seed targets"
        return {
            "phase": self.phase,
            "recipe": {name: value for name, value in recipe.as_dict().items() if name in shown.split()},
            "best_step": progress.best_step,
            "stopped": self.outcome.stopped,
            "minutes": round(progress.seconds / 60, 1),
            "pictures": self.pictures,
            "pictures_sha256": self.pictures_sha256,
            "held_out_psnr": {"before": progress.base.get("psnr"), "after": progress.best.get("psnr")},
            "torch": torch.__version__,
        }


def learn(order: Order, run: Run, tell: Tell, computer: Accelerator) -> tuple[Unfolding, list[Phase]]:
    """Train what the order says; the same order goes on where it was stopped.

    ``single`` and ``block`` learn in phase 1 alone; ``lorun`` learns a backbone, unless one is given, then its LoRA sets.

    Raises:
        Cancelled: after a checkpoint.
        InputError, TrainingError: in one line.
    """
    design = order.design
    if design.sharing != "lorun":
        network, phase = _learn(order, design, 1, None, run, tell, computer)
        return network, [phase]
    order.recipe(2)  # what it cannot be is said before the first phase, not after it
    phases = []
    backbone = order.backbone
    if backbone is None:
        backbone, phase = _learn(order, design.but(sharing="single"), 1, None, run, tell, computer)
        phases.append(phase)
    network, phase = _learn(order, design, 2, backbone, run, tell, computer)
    return network, [*phases, phase]


def _learn(
    order: Order, design: Design, number: int, backbone: Unfolding | None, run: Run, tell: Tell, computer: Accelerator
) -> tuple[Unfolding, Phase]:
    recipe = order.recipe(number)
    train, held = pictures(order.pictures, recipe)
    samples = make_samples(design, train, recipe.patch, recipe.batch, recipe.seed)
    network = begin(design, recipe.seed, backbone, samples)
    tell({"kind": "phase", "phase": number, "sharing": design.sharing, "step": 0, "steps": recipe.steps})
    seen = pictures_digest([item.path for item in train])
    identity = {"design": design.as_dict(), "pictures": seen, "start": digest(network)}
    task = Task(Solver(network), recipe, samples, len(train), Held(design, held_out(design, held)), identity)
    place = place_of(order.folder, design, number)
    outcome = Trainer(task, place, computer, order.workers).train(run, tell)
    _note(place, design, recipe)
    with holding(outcome.model, outcome.weights):
        trained = {key: value.detach().clone().cpu() for key, value in outcome.model.state_dict().items()}
    network.load_state_dict(trained)
    return network, Phase(number, recipe, outcome, len(train), seen)


def begin(design: Design, seed: int, backbone: Unfolding | None, samples: Crops) -> Unfolding:
    """What a training starts from: the backbone's weights, or random ones, and for CS a Phi that suits photographs."""
    network = Unfolding(design, seed)
    if isinstance(network.sensing, CsSensing) and design.phi == "learned":
        crops = (samples[number][1] for number in range(_CROPS))
        network.sensing.measure_with(principal_rows(crops, len(network.sensing.matrix)))
    if backbone is not None:
        network.start_from(backbone)
    return network


def pictures(sources: Sequence[Path], recipe: Recipe) -> tuple[list[Item], list[Item]]:
    """To train on, and held out.

    Raises:
        InputError: none can be used.
    """
    return split(inspect(sources, scale=1, patch=recipe.patch).usable(), recipe.held_out or None, recipe.seed)


def _note(place: Path, design: Design, recipe: Recipe) -> None:
    """Beside the checkpoint, what it is one of."""
    try:
        text = json.dumps({"design": design.as_dict(), "recipe": recipe.as_dict()}, indent=2)
        (place / "training.json").write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{place} cannot be written: {error.strerror}; free some space and resume") from error


def place_of(folder: Path, design: Design, phase: int) -> Path:
    """Where a phase keeps its checkpoint; settings of one backbone have places of their own."""
    return folder / f"phase-{phase}-{design.sharing}{f'-{setting_of(design)}' if phase == 2 else ''}"


def trained_backbone(folder: Path) -> Unfolding:
    """The best backbone so far of a training in ``folder``, running or ended.

    Raises:
        InputError: there is none.
    """
    path = folder / "phase-1-single" / FILE
    if not path.is_file():
        raise InputError(f"{folder} holds no trained backbone; train there first")
    content = torch.load(path, weights_only=True, map_location="cpu")
    network = Unfolding(read_design(content["identity"]["design"]))
    network.load_state_dict(content["best"], strict=False)  # a Phi that is fixed is not trained
    return network
