"""What learns: a network with LoRA on it, or a copy of the network some of whose own parameters are free."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from fnmatch import fnmatchcase
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from srgui.errors import InputError, TrainingError
from srgui.lora.adapter import Adapter, attach
from srgui.lora.targets import adaptable
from srgui.lora.trainable import LoraModel, LoraSpec
from srgui.training.recipe import Recipe


@runtime_checkable
class Composite(Protocol):
    """A module made of several networks, of which one takes adapters."""

    def adapted(self, spec: LoraSpec, seed: int) -> LoraModel:
        """What learns: a module that computes what this one does, with trainable factors on the network that takes them."""

    def attached(self, parts: Sequence[tuple[Adapter, float]]) -> nn.Module:
        """The same with adapters on that network; see :func:`srgui.lora.adapter.attach`."""

    def estimate(self, recipe: Recipe, device: torch.device) -> tuple[float, int]:
        """Seconds of a step and bytes at its peak, without computing one: these modules are too large to try."""


def learner(module: nn.Module, recipe: Recipe) -> nn.Module:
    """A module that computes what ``module`` does, and in which only what the recipe trains takes gradients.

    ``module`` itself stays as it is: LoRA leaves its weights alone, and ``full`` works on a copy.

    Raises:
        AdapterError, InputError: the targets match nothing, or the whole of a composite is to be trained.
    """
    if recipe.method == "lora":
        spec = lora_spec(recipe)
        return module.adapted(spec, recipe.seed) if isinstance(module, Composite) else LoraModel(module, spec, recipe.seed)
    if isinstance(module, Composite):
        raise InputError("of this model only adapters can be trained; use a recipe with method lora")
    copy = deepcopy(module).requires_grad_(False)
    free = 0
    for name, parameter in copy.named_parameters():
        owner = name.rpartition(".")[0]
        if any(fnmatchcase(owner, target) for target in recipe.targets):
            free += parameter.requires_grad_(True).numel()
    if not free:
        names = ", ".join(name for name, _ in list(module.named_children())[:5])
        raise InputError(f"the targets {', '.join(recipe.targets)} match no layer; this network has {names} and what is below them")
    return copy


def adapted_by(module: nn.Module, parts: Sequence[tuple[Adapter, float]]) -> nn.Module:
    """``module`` with adapters on it, as :func:`srgui.lora.adapter.attach`.

    Raises:
        AdapterError: one does not fit.
    """
    return module.attached(parts) if isinstance(module, Composite) else attach(module, parts)


def lora_spec(recipe: Recipe) -> LoraSpec:
    return LoraSpec(recipe.rank, recipe.alpha or None, recipe.form, recipe.rslora, recipe.dora, recipe.targets)


def precision(device: torch.device) -> Literal["no", "bf16"]:
    """In which precision a training computes there: half on CUDA that has bfloat16, whose range needs no scaling of losses."""
    half = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if half else "no"


def mixed(device: torch.device) -> AbstractContextManager[object]:
    """Computes in the :func:`precision` of a training."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision(device) == "bf16")


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


@contextmanager
def holding(module: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Put ``weights`` in the place of the trainable parameters for a while."""
    parameters = trainable(module)
    kept = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    _put(parameters, weights)
    try:
        yield
    finally:
        _put(parameters, kept)


@torch.no_grad()
def _put(parameters: Mapping[str, nn.Parameter], weights: Mapping[str, Tensor]) -> None:
    for name, parameter in parameters.items():
        parameter.copy_(weights[name])


def check_grounded(module: nn.Module) -> None:
    """After a first backward pass: see that every layer that is to learn took part in it.

    Raises:
        TrainingError: some did not, so that what they learned would do nothing.
    """
    if isinstance(module, LoraModel):
        idle = module.ungrounded()
    else:
        free = {name: layer.weight for name, layer in adaptable(module).items() if layer.weight.requires_grad}
        idle = tuple(name for name, weight in free.items() if weight.grad is None)
    if idle:
        raise TrainingError(
            f"the network does not use {len(idle)} of the layers that are to learn, such as {', '.join(idle[:3])}; "
            "name others with the recipe's targets"
        )
