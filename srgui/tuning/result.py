"""What a training gave: measured beside its base on pictures it never saw, and written with a card that says so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from srgui import __version__
from srgui.degradations import bicubic_lr, crop_to_multiple
from srgui.device import pick
from srgui.errors import OutputError
from srgui.evaluation import restore
from srgui.images import SUFFIXES, read_picture, to_tensor
from srgui.inference.engine import Engine
from srgui.inference.pixel import PixelRestorer
from srgui.lora.adapter import Adapter
from srgui.lora.card import AdapterCard, Base
from srgui.lora.catalogue import adapters_folder, save_adapter
from srgui.lora.delta import Factors
from srgui.lora.trainable import LoraModel
from srgui.metrics import Lpips, Scores, score
from srgui.models.cards import models_folder
from srgui.models.network import Network
from srgui.places import ASSETS
from srgui.protocol import RestorerInfo, Run, Setting
from srgui.training.checkpoint import write_samples
from srgui.training.gain import Compared, Gain
from srgui.training.learner import adapted_by, holding
from srgui.training.pairs import Pair
from srgui.training.trainer import Outcome
from srgui.training.validation import Validation, middle
from srgui.tuning.plan import Plan
from srgui.tuning.preview import write_preview

_ORDINARY = "of srgui's examples, bicubic LR"


class Result:
    """What a training gave: the trained network beside the one it started from."""

    def __init__(self, plan: Plan, outcome: Outcome) -> None:
        self.plan, self.outcome = plan, outcome
        self.model = outcome.model.to(torch.device("cpu"))
        self.factors: dict[str, Factors] | None = None
        with holding(self.model, {name: weight.cpu() for name, weight in outcome.weights.items()}):
            if isinstance(self.model, LoraModel):
                self.factors = self.model.factors()
            else:
                self.weights = {name: value.detach().clone().contiguous() for name, value in self.model.state_dict().items()}
        device = pick(plan.order.device)
        plan.network.module.to(device)
        self.trained = plan.network.with_module(self._module().to(device))

    def _module(self) -> nn.Module:
        if self.factors is not None:
            return adapted_by(self.plan.network.module, [(self._adapter({}, {}), 1.0)])
        module = deepcopy(self.plan.network.module)
        module.load_state_dict(self.weights)
        return module

    def gain(self, run: Run, lpips: Lpips | None) -> Gain:
        """Before and after, on the whole of every held-out picture."""
        return self._compare(self.plan.held_out, run, lpips)

    def cost(self, run: Run, lpips: Lpips | None) -> dict[str, Any]:
        """What it costs on ordinary photographs: their mean scores before and after."""
        scale = self.plan.network.scale
        pairs = []
        for path in sorted((ASSETS / "examples").iterdir()):
            if path.suffix in SUFFIXES:
                hr = crop_to_multiple(read_picture(path).as_uint8(), scale)
                pairs.append(Pair(path, bicubic_lr(hr, scale), hr))
        gain = self._compare(pairs, run, lpips).as_json()
        return {
            "on": f"{len(pairs)} photograph{'s' if len(pairs) != 1 else ''} {_ORDINARY}",
            **{key: gain[key] for key in ("mean_gain_db", "base", "adapted")},
        }

    def show(self, gain: Gain, folder: Path) -> None:
        """Write samples of the held-out pictures that gained the most, as number 0, and the least, as number 1.

        Raises:
            TrainingError: they cannot be written; see :func:`write_samples`.
        """
        pairs = {pair.path.name: pair for pair in self.plan.held_out}
        names = dict.fromkeys((gain.best.name, gain.worst.name))
        shown = Validation([pairs[name] for name in names], self.plan.network.scale, None)
        for step, network in enumerate((self.plan.network, self.trained)):
            write_samples(folder, step, shown.pictures, shown(network)[1])

    def _compare(self, pairs: Sequence[Pair], run: Run, lpips: Lpips | None) -> Gain:
        compared = []
        for pair in pairs:
            run.check()
            before, after = (self._score(network, pair, run, lpips) for network in (self.plan.network, self.trained))
            compared.append(Compared(pair.path.name, before, after))
        return Gain(tuple(compared))

    def _score(self, network: Network, pair: Pair, run: Run, lpips: Lpips | None) -> Scores:
        return score(self._restored(network, to_tensor(pair.lr), run), to_tensor(pair.hr), network.scale, lpips)

    def _restored(self, network: Network, lr: Tensor, run: Run) -> Tensor:
        restorer = PixelRestorer(network, RestorerInfo("", "", "", network.scale, ""), Engine())
        return restore(restorer, lr, Setting(), run.child(lambda _: None))

    @property
    def place(self) -> Path:
        """The folder that :meth:`write` makes."""
        return (models_folder() if self.factors is None else adapters_folder()) / self.plan.order.name

    def write(self, metrics: Mapping[str, Any], cost: Mapping[str, Any]) -> Path:
        """The adapter's or the model's folder, with a card that holds what was measured.

        Raises:
            OutputError: it cannot be written.
        """
        if self.factors is not None:
            card = save_adapter(self._adapter(metrics, cost), self.plan.order.name)
            assert card.path is not None
            self._preview(card.path)
            return card.path
        return self._write_model(metrics, cost)

    def _preview(self, folder: Path) -> None:
        lr = middle(self.plan.held_out[0], self.plan.network.scale).lr
        write_preview(folder, *(self._restored(network, lr, Run()) for network in (self.plan.network, self.trained)))

    def _trained_on(self) -> str:
        train, held = self.plan.items
        names = ", ".join(dict.fromkeys(item.path.parent.name for item in train))
        return f"{len({item.sha256 for item in train})} pictures ({names}), {len(held)} held out"

    def history(self) -> dict[str, Any]:
        """How it was trained, for a card."""
        progress, order = self.outcome.progress, self.plan.order
        return {
            "preset": order.preset,
            "recipe": order.recipe.as_dict(),
            **({"under": self.plan.under} if order.under else {}),
            "loss": self.outcome.losses,
            "best_step": progress.best_step,
            "steps": progress.step,
            "stopped": self.outcome.stopped,
            "minutes": round(progress.seconds / 60, 1),
            "device": pick(order.device).type,
            "torch": torch.__version__,
            "srgui": __version__,
        }

    def _adapter(self, metrics: Mapping[str, Any], cost: Mapping[str, Any]) -> Adapter:
        assert self.factors is not None
        return Adapter(self.factors, self._card(metrics, cost), self.plan.order.recipe.rslora)

    def _card(self, metrics: Mapping[str, Any], cost: Mapping[str, Any]) -> AdapterCard:
        order, recipe, plan = self.plan.order, self.plan.order.recipe, self.plan
        return AdapterCard(
            title=order.title or order.name,
            role=recipe.role,
            base=Base(plan.card.id if plan.card else "", plan.network.digest),
            scale=plan.network.scale,
            rank=recipe.rank,
            form=recipe.form,
            alpha=recipe.alpha or None,
            targets=recipe.targets,
            degradation=recipe.degradation if order.lr_dir is None else "LR pictures were given",
            recipe=self.history(),
            metrics=metrics,
            licence=order.licence,
            trained_on=self._trained_on(),
            training_sha256=plan.pictures_sha256,
            cost=cost,
        )

    def _write_model(self, metrics: Mapping[str, Any], cost: Mapping[str, Any]) -> Path:
        import torch
        from safetensors.torch import save_file

        plan, order = self.plan, self.plan.order
        folder, part = self.place, models_folder() / f".{order.name}.part"
        srcnn = plan.network.architecture == "SRCNN"
        weights = {**self.weights, **({"scale": torch.tensor(plan.network.scale)} if srcnn else {})}
        card = {
            "schema": 1,
            "id": order.name,
            "family": "srcnn" if srcnn else "spandrel",
            "scale": plan.network.scale,
            "parts": {"weights": "model.safetensors"},
            "title": order.title or order.name,
            "licence": order.licence,
            "description": f"{plan.network.architecture}, {sum(w.numel() for w in self.weights.values()):,} parameters",
            "trained_on": self._trained_on(),
            "metrics": {"held_out": metrics, **({"cost": cost} if cost else {})},
            "training": {**self.history(), "started_from": plan.identity["base"], "pictures_sha256": plan.pictures_sha256},
        }
        try:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            save_file(weights, part / "model.safetensors")
            (part / "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
            part.replace(folder)
        except OSError as error:
            raise OutputError(f"{folder} cannot be written: {error.strerror}; free some space and resume") from error
        return folder
