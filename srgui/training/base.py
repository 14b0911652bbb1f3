"""Training of the bundled base models from nothing: a Compact network, and SRCNN as a baseline."""

from __future__ import annotations

import json
import math
import pickle
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from srgui import __version__
from srgui.errors import InputError, ModelError, near
from srgui.metrics import psnr, round_to_8bit
from srgui.models.cards import Card, check_name, models_folder, read_card
from srgui.models.compact import compact
from srgui.models.load import file_digest, read_state_dict
from srgui.models.srcnn import SRCNN
from srgui.training.muon import Muon
from srgui.training.pairs import Pair, digest, load_pairs, patches, split


@dataclass(frozen=True)
class BaseRecipe:
    """Everything that decides the weights, together with the pictures.

    ``lr_conv`` is Muon's rate for convolution weights, ``lr_rest`` Adam's for biases and slopes; both rise over ``warmup``
    steps, fall on a cosine that would reach zero at ``horizon``, and go to zero linearly over the last ``cooldown`` of
    ``steps``. The weights kept are the exponential average with decay ``ema``, at the step where
    the Y-PSNR on ``held_out`` pictures of the first folder was best.
    """

    network: Literal["compact", "srcnn"] = "compact"
    scale: int = 4
    features: int = 48
    convs: int = 12
    batch: int = 16
    patch: int = 40
    steps: int = 6500
    horizon: int = 11000
    cooldown: int = 1
    lr_conv: float = 5e-3
    lr_rest: float = 1e-3
    warmup: int = 100
    ema: float = 0.998
    decay: float = 0.0
    noisy: float = 0.0
    held_out: int = 16
    validate_every: int = 250
    seed: int = 0

    def build(self) -> nn.Module:
        """The network with the random weights of ``seed``."""
        torch.manual_seed(self.seed)
        if self.network == "srcnn":
            return SRCNN(self.scale)
        return compact(self.features, self.convs, self.scale)

    def rate(self, step: int) -> float:
        """The factor on both learning rates at ``step``."""
        rise = min(1.0, (step + 1) / self.warmup)
        fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.horizon)))
        return rise * fall * min(1.0, (self.steps - step) / min(self.cooldown, self.steps))


# SRCNN sees pictures already enlarged: its patches are smaller, and its few weights take more steps.
RECIPES = {
    "compact": BaseRecipe(),
    # The second stage of the bundled base, started from the first: the rate falls to zero on smaller patches, into which small
    # and sharp pictures fit, named several times to be drawn more often.
    "compact-cooldown": BaseRecipe(
        batch=24,
        patch=32,
        steps=1500,
        horizon=100_000,
        cooldown=1500,
        lr_conv=1.8e-3,
        lr_rest=3.6e-4,
        warmup=1,
        validate_every=125,
    ),
    "srcnn": BaseRecipe(network="srcnn", patch=20, steps=3500, horizon=8000, cooldown=1500),
}


@dataclass
class Result:
    """Weights as a state dict, and what a card says about them."""

    weights: dict[str, Tensor]
    report: dict[str, Any]


def train_base(
    recipe: BaseRecipe,
    folders: Sequence[Path],
    work: Path,
    device: torch.device,
    report: Callable[[dict[str, Any]], None],
    start: Path | None = None,
) -> Result:
    """Train, checkpointing into ``work`` at each validation; a run found there is resumed where it stopped.

    Args:
        folders: of HR pictures; validation pictures are held out of the first.
        report: called with ``{"step", "loss", "psnr_y", "best", "seconds"}`` at each validation.
        start: weights to go on from, instead of random ones.

    Raises:
        InputError: no usable pictures, or ``work`` holds a run of another recipe.
        ModelError: ``start`` is not a weight file of the recipe's network.
    """
    train_paths, held_out = split(folders, recipe.held_out, recipe.seed)
    pairs = load_pairs(train_paths, recipe.scale, recipe.patch)
    validation = load_pairs(held_out, recipe.scale, recipe.patch)
    state = _State(recipe, device)
    if start is not None:
        state.begin_from(start)
    checkpoint = work / "checkpoint.pt"
    work.mkdir(parents=True, exist_ok=True)
    if checkpoint.exists():
        state.load(checkpoint)
    started = time.monotonic() - state.seconds
    batches = patches(pairs, recipe.batch, recipe.patch, recipe.seed, state.step, recipe.noisy)
    while state.step < recipe.steps:
        loss = state.train_step(*next(batches))
        if state.step % recipe.validate_every == 0 or state.step == recipe.steps:
            state.validate(validation)
            state.seconds = time.monotonic() - started
            state.save(checkpoint)
            line = {"step": state.step, "loss": loss, "psnr_y": state.psnr, "best": state.best, "seconds": round(state.seconds)}
            with open(work / "log.jsonl", "a") as log:
                log.write(json.dumps(line) + "\n")
            report(line)
    facts = {
        "recipe": asdict(recipe),
        "start_sha256": file_digest(start) if start is not None else None,
        "folders": [folder.name for folder in folders],
        "pictures": len(train_paths),
        "pictures_sha256": digest(train_paths),
        "best_step": state.best_step,
        "validation_psnr_y": round(state.best, 3),
        "minutes": round(state.seconds / 60, 1),
        "device": device.type,
        "torch": torch.__version__,
        "srgui": __version__,
    }
    return Result(state.best_weights, facts)


class _State:
    """The network, its optimizers, the average of its weights and the best average so far."""

    def __init__(self, recipe: BaseRecipe, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        self.network = recipe.build().to(device).to(memory_format=torch.channels_last)
        self.average = recipe.build().to(device).to(memory_format=torch.channels_last).requires_grad_(False)
        parameters = list(self.network.parameters())
        self.optimizers: list[torch.optim.Optimizer] = [
            Muon([p for p in parameters if p.ndim == 4], lr=recipe.lr_conv, decay=recipe.decay),
            torch.optim.Adam([p for p in parameters if p.ndim != 4], lr=recipe.lr_rest),
        ]
        self.step, self.seconds = 0, 0.0
        self.psnr = self.best = -math.inf
        self.best_step = 0
        self.best_weights: dict[str, Tensor] = {}

    def begin_from(self, path: Path) -> None:
        weights = {key: value for key, value in read_state_dict(path).items() if key != "scale"}
        try:
            self.network.load_state_dict(weights)
        except (RuntimeError, TypeError) as error:
            raise ModelError(f"{path} does not fit the {self.recipe.network} of this recipe; start from one that does") from error
        self.average.load_state_dict(weights)

    def train_step(self, lr: Tensor, hr: Tensor) -> float:
        recipe = self.recipe
        for optimizer, base in zip(self.optimizers, (recipe.lr_conv, recipe.lr_rest), strict=True):
            optimizer.param_groups[0]["lr"] = base * recipe.rate(self.step)
            optimizer.zero_grad()
        sr = self.network(lr.to(self.device, memory_format=torch.channels_last))
        loss = nn.functional.l1_loss(sr, hr.to(self.device))
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        decay = min(recipe.ema, self.step / (self.step + 10))
        with torch.no_grad():
            for mean, now in zip(self.average.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(now, 1 - decay)
        return loss.item()

    @torch.inference_mode()
    def validate(self, validation: Sequence[Pair]) -> None:
        values = []
        for pair in validation:
            lr, hr = (torch.tensor(a).permute(2, 0, 1)[None].float().div(255) for a in (pair.lr, pair.hr))
            sr = self.average(lr.to(self.device, memory_format=torch.channels_last)).cpu()
            values.append(psnr(round_to_8bit(sr), hr, channel="Y", crop_border=self.recipe.scale))
        self.psnr = float(np.mean(values))
        if self.psnr > self.best:
            self.best, self.best_step = self.psnr, self.step
            self.best_weights = {key: value.clone().contiguous() for key, value in self.average.state_dict().items()}

    def save(self, path: Path) -> None:
        temporary = path.with_suffix(".part")
        content = {
            "recipe": asdict(self.recipe),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "best_weights": self.best_weights,
            "numbers": [self.step, self.seconds, self.psnr, self.best, self.best_step],
        }
        torch.save(content, temporary)
        temporary.replace(path)

    def load(self, path: Path) -> None:
        try:
            content = torch.load(path, weights_only=True, map_location=self.device)
        except (
            pickle.UnpicklingError,
            RuntimeError,
            OSError,
            EOFError,
            ValueError,
            LookupError,
            AttributeError,
            TypeError,
        ) as error:
            raise InputError(f"the checkpoint {path} is damaged; remove it to start anew, or give another folder") from error
        if content["recipe"] != asdict(self.recipe):
            raise InputError(f"{path} belongs to another recipe; give the same options to resume it, or another folder")
        self.network.load_state_dict(content["network"])
        self.average.load_state_dict(content["average"])
        for optimizer, saved in zip(self.optimizers, content["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.best_weights = content["best_weights"]
        self.step, self.seconds, self.psnr, self.best, self.best_step = content["numbers"]


def parse_recipe(network: str, options: Sequence[str]) -> BaseRecipe:
    """The recipe of a network with ``FIELD=VALUE`` changes.

    Raises:
        InputError: unknown network or field, or a value of the wrong type or out of range.
    """
    if network not in RECIPES:
        raise InputError(f"unknown network {network!r}. {near(network, RECIPES)}")
    recipe = RECIPES[network]
    for option in options:
        name, _, value = option.partition("=")
        settable = set(asdict(recipe)) - {"network"}
        if name not in settable:
            raise InputError(f"a recipe has no field {name!r} to set. {near(name, settable)}")
        kind = type(getattr(recipe, name))
        least = 0 if name in ("seed", "ema", "convs", "decay", "noisy") else 1 if kind is int else sys.float_info.min
        try:
            number = kind(value)
        except ValueError as error:
            raise InputError(f"{name}={value} is not of type {kind.__name__}; try {name}={getattr(recipe, name)}") from error
        if not least <= number < math.inf or (name == "ema" and number >= 1):
            raise InputError(f"{name}={value} is out of range; try {name}={getattr(recipe, name)}")
        recipe = replace(recipe, **{name: number})
    return recipe


def write_model(name: str, recipe: BaseRecipe, result: Result) -> Card:
    """Write the weights and a card into the user's models folder, replacing a model of this name that was trained before.

    Raises:
        ModelError: ``name`` is not a plain name.
    """
    from safetensors.torch import save_file

    check_name(name)
    folder = models_folder() / name
    folder.mkdir(parents=True, exist_ok=True)
    weights = {key: value.cpu().contiguous() for key, value in result.weights.items()}
    if recipe.network == "srcnn":
        weights["scale"] = torch.tensor(recipe.scale)
    save_file(weights, folder / "model.safetensors")
    parameters = sum(value.numel() for key, value in weights.items() if key != "scale")
    card = {
        "schema": 1,
        "id": name,
        "family": "srcnn" if recipe.network == "srcnn" else "spandrel",
        "scale": recipe.scale,
        "parts": {"weights": "model.safetensors"},
        "title": name,
        "licence": "Apache-2.0",
        "description": f"{recipe.network}, {parameters:,} parameters",
        "trained_on": ", ".join(result.report["folders"]),
        "training": result.report,
    }
    (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return read_card(folder)
