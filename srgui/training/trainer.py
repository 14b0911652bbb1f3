"""The training loop: any network, LoRA or whole, on one device or many, resumable at every checkpoint."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from torch.utils.data import default_collate

from srgui.errors import Cancelled, TrainingError
from srgui.metrics import Scores
from srgui.protocol import Run
from srgui.training.checkpoint import Checkpoint, Progress, write_samples
from srgui.training.learner import check_grounded, holding, learner, trainable
from srgui.training.muon import Muon
from srgui.training.objective import Objective
from srgui.training.patches import Batch, Given, Samples, batches
from srgui.training.recipe import Recipe
from srgui.training.validation import Watched

Tell = Callable[[dict[str, Any]], None]
_TOLD_EVERY = 1.0  # seconds between two reports of the loss
_KEPT_EVERY = 120.0  # seconds between two checkpoints


class Trainable(Protocol):
    """What a training needs of a network: a module, and how it is called."""

    @property
    def module(self) -> nn.Module: ...

    @property
    def scale(self) -> int: ...

    def with_module(self, module: nn.Module) -> Self:
        """The same with other weights."""

    def __call__(self, given: Any, /) -> Tensor:
        """(N, C, H, W), not clipped, from the first half of a batch."""


class Judge(Protocol):
    """What measures a network while it learns: :class:`~srgui.training.validation.Validation` for SR networks."""

    @property
    def pictures(self) -> Sequence[Watched]: ...

    def __call__(self, network: Any, /) -> tuple[Scores, list[Tensor]]:
        """The mean scores, one of which is the recipe's metric, and the results for ``pictures``."""


@dataclass(frozen=True)
class Task:
    """What is to be learned, from what.

    Attributes:
        network: what it starts from; never written to.
        pictures: how many there are, for recipes that count epochs.
        identity: what a checkpoint must agree with to be resumed, such as digests of the base and of the pictures.
    """

    network: Trainable
    recipe: Recipe
    patches: Samples
    pictures: int
    validation: Judge
    identity: dict[str, Any] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        return self.recipe.total_steps(self.pictures)


@dataclass(frozen=True)
class Outcome:
    """The best weights by validation, as state by name of the learner's trainable parameters.

    ``stopped`` says why there were fewer steps than asked for; it is empty where there were not.
    """

    model: nn.Module
    weights: dict[str, Tensor]
    progress: Progress
    stopped: str
    losses: str


class Trainer:
    """Trains a :class:`Task` in ``folder``, where checkpoints and samples go and are found again.

    Raises:
        TrainingError: the checkpoint there belongs to another training or is damaged, or layers to be adapted are not used.
    """

    def __init__(self, task: Task, folder: Path, accelerator: Accelerator, workers: int = 0) -> None:
        self.task, self.folder, self.accelerator, self.workers = task, folder, accelerator, workers
        recipe = task.recipe
        device = accelerator.device
        self.model = learner(task.network.module, recipe).to(device).to(memory_format=torch.channels_last)
        parameters = trainable(self.model)
        self.average = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        self.best = {name: value.clone() for name, value in self.average.items()}
        self.progress = Progress()
        self.objective = Objective(recipe, task.network.scale, accelerator)
        self.optimizers = [accelerator.prepare(optimizer) for optimizer in _optimizers(recipe, list(parameters.values()))]
        self._check_first()
        self.wrapped: nn.Module = accelerator.prepare(self.model)
        self.checkpoint = Checkpoint(folder, {"recipe": recipe.as_dict(), **task.identity})
        self._load()

    def train(self, run: Run, tell: Tell) -> Outcome:
        """Go on until the last step, or until the validation no longer improves; cancelling keeps a checkpoint.

        ``tell`` is called in the main process with events: ``step`` (step, loss, lr, seconds), ``validation`` (step and the
        means of psnr_y, ssim_y, lpips; step 0 is the network before training).

        Raises:
            Cancelled: after writing a checkpoint.
            TrainingError: a checkpoint could not be written, or the loss became NaN before anything was learned.
        """
        steps, stopped = self.task.steps, self._at_rest()
        begun = kept = time.monotonic()
        offset = self.progress.seconds
        if self.progress.step == 0:
            self._validate(tell)
        stream = self._batches()
        told, losses = 0.0, []
        try:
            while self.progress.step < steps and not stopped:
                self._stop_if_cancelled(run)
                loss, rate = self._step(*next(stream))
                now = time.monotonic()
                self.progress.seconds = offset + now - begun
                if not math.isfinite(loss):
                    stopped = self._after_nan()
                    break
                losses.append(loss)
                if now - told >= _TOLD_EVERY or self.progress.step == steps:
                    self._tell(tell, "step", loss=sum(losses) / len(losses), lr=self.task.recipe.lr * rate)
                    told, losses = now, []
                if self.progress.step % self.task.recipe.validate_every == 0 or self.progress.step == steps:
                    self._validate(tell)
                    stopped = self._at_rest()
                    self.save()
                    kept = time.monotonic()
                elif now - kept >= _KEPT_EVERY:
                    self.save()
                    kept = time.monotonic()
        except Cancelled:
            self.save()
            raise
        finally:
            stream.close()
        return Outcome(self.model, self.best, self.progress, stopped, self.objective.description)

    def save(self) -> None:
        if self.accelerator.is_main_process:
            state = {
                "weights": trainable(self.model),
                "average": self.average,
                "best": self.best,
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
                "objective": self.objective.state(),
            }
            self.checkpoint.write(state, self.progress)

    def _load(self) -> None:
        found = self.checkpoint.read()
        if found is None:
            return
        state, progress = found
        self.progress = Progress(**progress)
        own: dict[str, Mapping[str, Tensor]] = {"weights": trainable(self.model), "average": self.average, "best": self.best}
        with torch.no_grad():
            for kind, tensors in own.items():
                for name, tensor in tensors.items():
                    tensor.copy_(state[kind][name])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.objective.load(state["objective"])

    def _batches(self) -> Generator[Batch, None, None]:
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        return batches(
            self.task.patches, self.task.recipe.batch, first_step=self.progress.step, rank=rank, world=world, workers=self.workers
        )

    def _network(self, module: nn.Module) -> Trainable:
        return self.task.network.with_module(module)

    def _check_first(self) -> None:
        """One backward pass on one patch, thrown away: every layer that is to learn must take part in it."""
        given, wanted = default_collate([self.task.patches[0]])
        device = self.accelerator.device
        sr = self._network(self.model)(_moved(given, device))
        # A LoRA's B is zero and its output that of the base: the gradient of A is zero, and B's is what counts.
        if sr.requires_grad:
            nn.functional.mse_loss(sr, wanted.to(device)).backward()  # type: ignore[no-untyped-call]
        check_grounded(self.model)
        self.model.zero_grad(set_to_none=True)

    def _step(self, given: Given, hr: Tensor) -> tuple[float, float]:
        """One step; returns the loss, averaged over all processes, and the factor on the learning rates."""
        recipe, device = self.task.recipe, self.accelerator.device
        rate = recipe.rate(self.progress.step, self.task.steps)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate
            optimizer.zero_grad()
        value, sr = self._learn(_moved(given, device), hr.to(device, non_blocking=True))
        if math.isfinite(value):
            if recipe.clip:
                self.accelerator.clip_grad_norm_(list(trainable(self.model).values()), recipe.clip)
            for optimizer in self.optimizers:
                optimizer.step()
            self.objective.teach(sr, hr, rate)
            self.progress.step += 1
            self._follow()
        return value, rate

    def _learn(self, given: Given, hr: Tensor) -> tuple[float, Tensor]:
        """Add up the gradients of a batch, some samples at a time; returns the loss, averaged over all processes, and the SR.

        It ends at the first loss that is not finite.
        """
        count = hr.shape[0]
        some = self.task.recipe.micro or count
        value, made = 0.0, []
        for start in range(0, count, some):
            part = slice(start, start + some)
            sr = self._network(self.wrapped)(_some(given, part))
            loss = self.objective(self.model, sr, hr[part]) * (sr.shape[0] / count)
            value += float(self.accelerator.reduce(loss.detach(), "mean"))
            if not math.isfinite(value):
                break
            self.accelerator.backward(loss)
            made.append(sr.detach())
        return value, torch.cat(made) if made else hr

    @torch.no_grad()
    def _follow(self) -> None:
        """Let the average follow the weights; at first faster, so that it does not keep the start."""
        step = self.progress.step
        decay = min(self.task.recipe.ema, step / (step + 10))
        parameters = trainable(self.model)
        torch._foreach_lerp_([self.average[name] for name in parameters], [*parameters.values()], 1 - decay)

    def _validate(self, tell: Tell) -> None:
        """Measure the average weights in the main process, and keep them if they are the best so far."""
        shared: list[Any] = [None]
        if self.accelerator.is_main_process:
            with holding(self.model, self.average):
                scores, pictures = self.task.validation(self._network(self.model))
            write_samples(self.folder, self.progress.step, self.task.validation.pictures, pictures)
            shared = [scores]
        broadcast_object_list(shared)
        scores = shared[0]
        if self.progress.step == 0:
            self.progress.base = self.progress.best = scores
        elif _better(scores, self.progress.best, self.task.recipe.metric):
            self.progress.best, self.progress.best_step, self.progress.waited = scores, self.progress.step, 0
            self.best = {name: value.clone() for name, value in self.average.items()}
        else:
            self.progress.waited += 1
        self._tell(tell, "validation", best_step=self.progress.best_step, **scores)

    def _tell(self, tell: Tell, kind: str, **what: Any) -> None:
        if self.accelerator.is_main_process:
            seconds = round(self.progress.seconds, 2)
            tell({"kind": kind, "step": self.progress.step, "steps": self.task.steps, "seconds": seconds, **what})

    def _stop_if_cancelled(self, run: Run) -> None:
        """All processes stop at the same step, whichever of them was asked to."""
        if self.accelerator.num_processes == 1:
            run.check()
            return
        if run.cancelled:
            self.accelerator.set_trigger()
        if self.accelerator.check_trigger():
            raise Cancelled

    def _at_rest(self) -> str:
        waited = self.progress.waited
        return f"no better measurement in {waited}" if 0 < self.task.recipe.patience <= waited else ""

    def _after_nan(self) -> str:
        step, best = self.progress.step, self.progress.best_step
        if best == 0:
            self.checkpoint.remove()  # going on from it would only lead here again
            raise TrainingError(f"the loss became NaN at step {step}, before anything was learned; use a lower learning rate")
        return f"the loss became NaN at step {step}; the weights of step {best} are kept; a lower learning rate may go further"


def _moved(given: Given, device: torch.device) -> Given:
    if isinstance(given, Tensor):
        return given.to(device, non_blocking=True)
    return {name: tensor.to(device, non_blocking=True) for name, tensor in given.items()}


def _some(given: Given, part: slice) -> Given:
    return given[part] if isinstance(given, Tensor) else {name: tensor[part] for name, tensor in given.items()}


def _better(scores: Scores, best: Scores, metric: str) -> bool:
    now, before = scores.get(metric), best.get(metric)
    if now is None or before is None:  # LPIPS that cannot be had here
        now, before, metric = scores["psnr_y"], best["psnr_y"], "psnr_y"
    assert now is not None
    assert before is not None
    return now < before if metric == "lpips" else now > before


def _optimizers(recipe: Recipe, parameters: list[nn.Parameter]) -> list[torch.optim.Optimizer]:
    betas = (recipe.beta1, recipe.beta2)
    if recipe.optimizer == "adam":
        found: list[torch.optim.Optimizer] = [torch.optim.AdamW(parameters, lr=recipe.lr, betas=betas, weight_decay=recipe.decay)]
    else:
        matrices, rest = [p for p in parameters if p.ndim >= 2], [p for p in parameters if p.ndim < 2]
        found = [Muon(matrices, lr=recipe.lr, decay=recipe.decay)] if matrices else []
        found += [torch.optim.Adam(rest, lr=recipe.lr_rest, betas=betas)] if rest else []
    for group in itertools.chain.from_iterable(optimizer.param_groups for optimizer in found):
        group["peak"] = group["lr"]
    return found
