"""An adapter and a network: whether they fit, and the network that the two give."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from srgui.errors import AdapterError
from srgui.lora.card import AdapterCard
from srgui.lora.delta import Factors, Form, Layer, channels, effective_weight, factor_shapes, is_transposed
from srgui.lora.targets import adaptable, near_layers

STRONGEST = 10.0


@dataclass(frozen=True, eq=False)
class Adapter:
    """Factors by layer name, and the card that says what they are for."""

    factors: Mapping[str, Factors]
    card: AdapterCard
    rslora: bool = False

    @property
    def rank(self) -> str:
        return self.card.rank

    @property
    def alpha(self) -> float | None:
        return self.card.alpha

    @property
    def form(self) -> Form:
        return self.card.form

    @property
    def dora(self) -> bool:
        return any(part.magnitude is not None for part in self.factors.values())

    @cached_property
    def digest(self) -> str:
        """sha256 of what it computes: of its factors and their scaling, whatever file they came from."""
        found = hashlib.sha256()
        for name, part in sorted(self.factors.items()):
            for role, tensor in sorted(part.tensors.items()):
                found.update(f"{name}.{role} {part.form} {part.scaling} {tuple(tensor.shape)}".encode())
                found.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
        return found.hexdigest()

    @property
    def parameters(self) -> int:
        return sum(tensor.numel() for part in self.factors.values() for tensor in part.tensors.values())


def check_fits(module: nn.Module, adapter: Adapter, base_sha256: str | None) -> None:
    """See that ``adapter`` was made for ``module``, whose weight file has the digest ``base_sha256``.

    Raises:
        AdapterError: it is for other weights (where both digests are known), names a layer that is not there, or has
            factors of other shapes; the first three differences are named.
    """
    base = adapter.card.base
    if base_sha256 and base.sha256 and base_sha256 != base.sha256:
        raise AdapterError(
            f"the adapter {_called(adapter)} is for {base.id} with weights of sha256 {base.sha256[:12]}..., "
            f"and these are {base_sha256[:12]}...; use it with {base.id}, or train one for this model"
        )
    layers = adaptable(module)
    found = (_difference(name, part, layers) for name, part in adapter.factors.items())
    differences = [difference for difference in found if difference]
    if differences:
        more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise AdapterError(
            f"the adapter {_called(adapter)} does not fit this network: {'; '.join(differences[:3])}{more}; "
            f"use it with its base {base.id}"
        )


def check_strength(adapter: Adapter, strength: float) -> None:
    """
    Raises:
        AdapterError: ``strength`` is not in [-10, 10].
    """
    if not (math.isfinite(strength) and abs(strength) <= STRONGEST):
        raise AdapterError(f"strength {strength} of {_called(adapter)} is not from -{STRONGEST:g} to {STRONGEST:g}; use one near 1")


def _called(adapter: Adapter) -> str:
    return repr(adapter.card.name or adapter.card.title)


def _difference(name: str, part: Factors, layers: Mapping[str, Layer]) -> str | None:
    if name not in layers:
        return f"there is no layer {name} ({near_layers(name, layers).rstrip('.')})"
    layer = layers[name]
    if part.transposed != is_transposed(layer):
        return f"{name} is a {type(layer).__name__}"
    rows = layer.weight.shape[1 if is_transposed(layer) else 0]
    down, up = factor_shapes(layer, part.rank, part.form)
    expected = {"lora_A": down, "lora_B": up, "lora_magnitude": (rows,)}
    for role, tensor in part.tensors.items():
        if tensor.shape != expected[role]:
            channels_in, _, groups = channels(layer)
            why = f", as peft makes it for {groups} groups, where no weight has its effect" if groups > 1 else ""
            why = why if role == "lora_A" and tensor.shape[1] == channels_in else ""
            return f"{role} of {name} is {tuple(tensor.shape)}, not {expected[role]}{why}"
    return None


def attach(module: nn.Module, parts: Sequence[tuple[Adapter, float]]) -> nn.Module:
    """A network that computes ``module`` with adapters at their strengths, at the cost of ``module`` alone.

    It shares the memory of every parameter and buffer that no adapter changes, and has the effective weights in the place of
    the others. ``module`` stays as it is, so several such networks can be used at once. The order of ``parts`` does not
    change a bit, and at strength 0 the result is that of ``module``, bit for bit.

    Raises:
        AdapterError: an adapter does not fit (see :func:`check_fits`), or a strength is not in [-10, 10].
    """
    for adapter, strength in parts:
        check_strength(adapter, strength)
        check_fits(module, adapter, None)
    # New tensors over the same memory: a layer that assigns its weight's data while it runs would else assign the base's.
    shared: dict[int, object] = {id(t): nn.Parameter(t.detach(), requires_grad=False) for t in module.parameters()}
    shared |= {id(tensor): tensor.detach() for tensor in module.buffers()}
    attached = deepcopy(module, shared)
    layers = adaptable(module)
    for name in {name for adapter, strength in parts if strength for name in adapter.factors}:
        weight = _merged(layers[name].weight, [(s, adapter.factors[name]) for adapter, s in parts if name in adapter.factors])
        attached.get_submodule(name).weight = nn.Parameter(weight, requires_grad=False)
    return attached


@torch.no_grad()
def _merged(weight: Tensor, parts: Sequence[tuple[float, Factors]]) -> Tensor:
    return effective_weight(weight, [(strength, part.map(lambda t: t.to(weight.device))) for strength, part in parts])
