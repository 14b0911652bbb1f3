"""A report from beginning to end: trainings that are found again, tables, pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from srgui import __version__
from srgui.device import pick
from srgui.evaluation import Protocol
from srgui.images import list_pictures
from srgui.inference.engine import Engine
from srgui.inference.pixel import PixelRestorer
from srgui.lora.trainable import plan as lora_plan
from srgui.metrics import Lpips
from srgui.models.build import build
from srgui.models.cards import Card, find_card
from srgui.models.network import Network
from srgui.protocol import Restorer, RestorerInfo, Run
from srgui.reports.kinds import recipe_for
from srgui.reports.request import DataSet, Request
from srgui.reports.strips import write_strips
from srgui.reports.tables import BICUBIC, measure
from srgui.restorers import open_network, open_restorer
from srgui.training.learner import lora_spec
from srgui.training.recipe import Recipe
from srgui.training.trainer import Task, Trainer
from srgui.training.validation import Validation
from srgui.tuning.order import Order
from srgui.tuning.plan import Plan
from srgui.tuning.result import Result
from srgui.tuning.tune import accelerator

HELD_OUT = "held-out"
Say = Callable[[str], None]


class Study:
    """The trainings and measurements of a report.

    Args:
        lpips: None leaves it out, and ``lpips_text`` says why; otherwise it names the backbone.
        say: is told in a line what has just been done.

    Raises:
        ModelError, InputError, AdapterError: the model, the pictures or a field of a recipe cannot be used.
    """

    def __init__(self, request: Request, lpips: Lpips | None, lpips_text: str, say: Say) -> None:
        self.request, self.lpips, self.lpips_text, self.say = request, lpips, lpips_text, say
        self.card, network = open_network(request.model)
        self.scale, self.digest = network.scale, network.digest
        self.recipes: Mapping[str, Recipe] = {
            method: recipe_for(name, network.module, request.changes) for method, name in request.kind.trained.items()
        }
        self.bench = [(folder.resolve().name, list_pictures(folder)) for folder in request.bench]

    def report(self, run: Run) -> dict[str, Any]:
        """All of it, as it is written to ``report.json``: ``report``, ``title``, ``about``, ``published``, ``settings``,
        ``parameters`` and ``data``, each data set with its ``trainings``, ``tables`` and ``strips``.

        Raises:
            Cancelled: the run was; the training that was going on has kept a checkpoint.
            TrainingError, InputError, MetricUnavailable, OutputError: in one line, with what was trained kept.
        """
        kind = self.request.kind
        data = [self._data_set(data, run) for data in self.request.data]
        head = {"report": kind.name, "title": kind.title, "about": kind.about, "published": kind.published}
        keys = ("method", "trainable", "total", "modules")
        own = [{"network": self.card.id, **{key: training[key] for key in keys}} for training in data[0]["trainings"]]
        return {**head, "settings": self._settings(), "parameters": [*self._of_the_paper(), *own], "data": data}

    def _settings(self) -> dict[str, Any]:
        recipe = next(iter(self.recipes.values()))
        return {
            "model": self.card.id,
            "model_sha256": self.digest,
            "scale": self.scale,
            "degradation": recipe.degradation,
            "seed": recipe.seed,
            "channel": "Y",
            "crop_border": self.scale,
            "data_range": 1.0,
            "lpips": self.lpips_text,
            "device": str(pick(self.request.device)),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "srgui": __version__,
        }

    def _of_the_paper(self) -> list[dict[str, Any]]:
        """What LoRA trains on RRDBNet, which is counted without its weights."""
        module = build({"kind": "rrdb"}).module
        found = []
        for method, recipe in self.recipes.items():
            if recipe.method == "lora":
                counted = lora_plan(module, lora_spec(Recipe(rank=recipe.rank, form=recipe.form, dora=recipe.dora)))
                counts = {"trainable": counted.trainable, "total": counted.total, "modules": len(counted.modules)}
                found.append({"network": "RRDBNet", "method": method, **counts})
        return found

    def _data_set(self, data: DataSet, run: Run) -> dict[str, Any]:
        results = {method: self._train(data, method, run) for method in self.recipes}
        first = next(iter(results.values())).plan
        methods = {name: open_restorer(name, device=self.request.device) for name in self._beside()}
        methods[self.card.id] = _restorer(self.card, first.network)
        methods |= {method: _restorer(self.card, result.trained) for method, result in results.items()}
        folder = self.request.out / data.name
        last = list(results)[-1]
        strips = write_strips(folder / "strips", first.held_out, methods, self.card.id, last, run)
        return {
            "name": data.name,
            "pictures": len(first.items[0]),
            "held_out": [item.path.name for item in first.items[1]],
            "pictures_sha256": first.pictures_sha256,
            "trainings": [{"method": method, **result.history(), **result.plan.counts()} for method, result in results.items()],
            "tables": self._tables(data, first, methods, list(results), run),
            "strips": {
                "files": [path.relative_to(self.request.out).as_posix() for path in strips],
                "columns": ["LR", BICUBIC, *methods, "HR"],
            },
        }

    def _beside(self) -> list[str]:
        return [name for name in self.request.kind.beside if find_card(name).scale == self.scale and name != self.card.id]

    def _tables(
        self, data: DataSet, plan: Plan, methods: Mapping[str, Restorer], trained: list[str], run: Run
    ) -> list[dict[str, Any]]:
        recipe = plan.order.recipe
        protocol = Protocol(recipe.degradation, recipe.seed)
        tables = []
        for name, paths in [(HELD_OUT, [item.path for item in plan.items[1]]), *self.bench]:
            table = measure(f"{data.name}: {name}", methods, paths, protocol, run, self.lpips)
            tables.append({**table.as_json(self.card.id, trained), "name": name})
            self.say(f"{data.name}: {name} are measured")
        return tables

    def _train(self, data: DataSet, method: str, run: Run) -> Result:
        """Go on where the checkpoint is; a finished training is only read."""
        request, recipe, label = self.request, self.recipes[method], f"{data.name}: {method}"
        order = Order(
            name=f"{data.name}, {method}",
            pictures=(str(data.pictures),),
            model=request.model,
            recipe=recipe,
            preset=request.kind.trained[method],
            val_dir=str(data.val_dir) if data.val_dir else None,
            device=request.device,
            workers=request.workers,
        )
        plan = Plan(order)
        validation = Validation(plan.held_out, plan.network.scale, self.lpips)
        task = Task(plan.network, recipe, plan.patches, len(plan.items[0]), validation, plan.identity)
        trainer = Trainer(task, request.out / data.name / order.preset, accelerator(order), order.workers)
        if trainer.progress.step:
            self.say(f"{label}: goes on from step {trainer.progress.step} of {task.steps}")

        def tell(event: dict[str, Any]) -> None:
            run.progress(label, event["step"], event["steps"])
            if event["kind"] == "validation":
                lpips = "" if event["lpips"] is None else f", LPIPS {event['lpips']:.4f}"
                self.say(f"{label}: step {event['step']} of {event['steps']}, PSNR-Y {event['psnr_y']:.3f}{lpips}")

        return Result(plan, trainer.train(run, tell))


def _restorer(card: Card, network: Network) -> PixelRestorer:
    return PixelRestorer(network, RestorerInfo(card.id, card.title, card.family, network.scale, card.licence), Engine())
