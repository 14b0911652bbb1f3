"""A network with LoRA on it that learns: only the factors take gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from srgui.errors import AdapterError
from srgui.lora.delta import Factors, Form, effective_weight, factor_shapes, is_transposed, row_norms
from srgui.lora.targets import Rank, Report, adaptable, choose, report


@dataclass(frozen=True)
class LoraSpec:
    """How to adapt a network.

    Attributes:
        rank: see :class:`~srgui.lora.targets.Rank`.
        alpha: None for each layer's rank.
        rslora: divide alpha by the square root of the rank instead of by the rank.
        dora: learn the norms of the output channels too.
        targets: glob patterns on the names of layers.

    Raises:
        AdapterError: a value is out of range.
    """

    rank: str = "8"
    alpha: float | None = None
    form: Form = "conv"
    rslora: bool = False
    dora: bool = False
    targets: tuple[str, ...] = ("*",)

    def __post_init__(self) -> None:
        Rank(self.rank)
        if self.alpha is not None and not 0 < self.alpha < math.inf:
            raise AdapterError(f"alpha {self.alpha} is not above 0; leave it out for the rank's own value")
        if self.form not in ("conv", "reshape"):
            raise AdapterError(f"the form {self.form!r} is not known; use conv or reshape")

    def scaling(self, rank: int) -> float:
        alpha = rank if self.alpha is None else self.alpha
        return alpha / (math.sqrt(rank) if self.rslora else rank)


def plan(base: nn.Module, spec: LoraSpec) -> Report:
    """What training ``spec`` on ``base`` would cover, without building it; ``base`` may be on the meta device.

    Raises:
        AdapterError: a target matches no layer.
    """
    return report(base, choose(base, spec.targets), Rank(spec.rank), spec.form, spec.dora)


class LoraSet(nn.Module):
    """Trainable factors for the layers of ``base`` that ``spec`` names, without ``base`` itself; at first they change nothing.

    Several sets may adapt one network in turn: what they share is not copied.

    Args:
        seed: of A, kaiming-uniform with a = sqrt(5) as in loralib and peft, the same on every device. B is zero.

    Raises:
        AdapterError: a target matches no layer.
    """

    def __init__(self, base: nn.Module, spec: LoraSpec, seed: int) -> None:
        super().__init__()
        self.spec = spec
        self.names = choose(base, spec.targets)
        layers = adaptable(base)
        # In a list, so that the layers do not become this module's own.
        self._layers = [layers[name] for name in self.names]
        self._ranks = [Rank(spec.rank).of(layer) for layer in self._layers]
        self.lora_A, self.lora_B, self.lora_magnitude = nn.ParameterList(), nn.ParameterList(), nn.ParameterList()
        generator = torch.Generator().manual_seed(seed)
        for layer, rank in zip(self._layers, self._ranks, strict=True):
            down, up = factor_shapes(layer, rank, spec.form)
            start = nn.init.kaiming_uniform_(torch.empty(down), a=math.sqrt(5), generator=generator)
            self.lora_A.append(nn.Parameter(start.to(layer.weight.device)))
            self.lora_B.append(nn.Parameter(torch.zeros(up, device=layer.weight.device)))
            if spec.dora:
                self.lora_magnitude.append(nn.Parameter(row_norms(layer.weight, is_transposed(layer))))

    def weights(self) -> dict[str, Tensor]:
        """The effective weights of the adapted layers, by parameter name of ``base``."""
        rows = zip(self._layers, self._live(), strict=True)
        return {f"{name}.weight": effective_weight(layer.weight, [(1.0, factors)]) for layer, (name, factors) in rows}

    def adapt(self, base: nn.Module, x: Tensor) -> Any:
        """What ``base`` gives for ``x`` with the effective weights, which are computed once."""
        # Products in half precision would round what is learned to three digits.
        with torch.autocast(x.device.type, enabled=False):
            weights = self.weights()
        return functional_call(base, weights, (x,), tie_weights=False)

    def _live(self) -> Iterator[tuple[str, Factors]]:
        spec, magnitudes = self.spec, list(self.lora_magnitude) or [None] * len(self.names)
        rows = zip(self.names, self._layers, self._ranks, self.lora_A, self.lora_B, magnitudes, strict=True)
        for name, layer, rank, down, up, magnitude in rows:
            yield name, Factors(down, up, rank, spec.scaling(rank), spec.form, is_transposed(layer), magnitude)

    @property
    def trainable(self) -> int:
        """How many parameters learn."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)

    def penalty(self) -> Tensor:
        """Sum of |A|^2 + |B|^2 over all layers; a scalar."""
        return torch.stack([factor.square().sum() for factor in (*self.lora_A, *self.lora_B)]).sum()

    def factors(self) -> dict[str, Factors]:
        """What was learned so far, by layer: copies on the CPU."""
        return {name: factors.map(lambda tensor: tensor.detach().clone().cpu()) for name, factors in self._live()}

    def load_factors(self, factors: Mapping[str, Factors]) -> None:
        """Start from an adapter on the same layers, of the same form and ranks; another alpha goes into B.

        Raises:
            AdapterError: it is of others; the first differences are named.
        """
        own = dict(self._live())
        scale = {name: part.scaling / own[name].scaling for name, part in factors.items() if name in own}
        self.load_lora_state(_by_layer({name: replace(part, B=part.B * scale.get(name, 1)) for name, part in factors.items()}))

    def lora_state(self) -> dict[str, Tensor]:
        """The trainable tensors themselves, by layer and role (``body.0.lora_A``)."""
        return _by_layer(dict(self._live()))

    @torch.no_grad()
    def load_lora_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over what :meth:`lora_state` of a model with the same spec gave.

        Raises:
            AdapterError: other names or shapes; the first are named.
        """
        own = self.lora_state()
        wrong = sorted(own.keys() ^ state.keys()) or [key for key in own if own[key].shape != state[key].shape]
        if wrong:
            raise AdapterError(f"{len(wrong)} tensors do not fit what is trained ({', '.join(wrong[:3])}); use the same recipe")
        for key, tensor in own.items():
            tensor.copy_(state[key])


class LoraModel(LoraSet):
    """``base`` with trainable factors on the layers that ``spec`` names; at first it computes exactly what ``base`` does.

    ``base`` is frozen and its weights are never written, but while a forward pass runs it holds the effective weights: only
    one thread may use it then. For inference see :func:`srgui.lora.adapter.attach`.

    Args:
        seed: see :class:`LoraSet`.

    Raises:
        AdapterError: a target matches no layer.
    """

    def __init__(self, base: nn.Module, spec: LoraSpec, seed: int) -> None:
        super().__init__(base, spec, seed)
        self.base = base.requires_grad_(False)
        self._overwritten: frozenset[str] = frozenset()

    def forward(self, x: Tensor) -> Any:
        """What ``base`` gives for ``x`` with the effective weights, which are computed once."""
        # Products in half precision would round what is learned to three digits.
        with torch.autocast(x.device.type, enabled=False):
            weights = self.weights()
        places = [weight.data_ptr() for weight in weights.values()]
        result = functional_call(self.base, weights, (x,), tie_weights=False)
        used = zip(self.names, weights.values(), places, strict=True)
        self._overwritten = frozenset(name for name, weight, place in used if weight.data_ptr() != place)
        return result

    @property
    def report(self) -> Report:
        return plan(self.base, self.spec)

    def ungrounded(self) -> tuple[str, ...]:
        """After a backward pass: names of the layers whose weights the forward pass does not use or overwrites."""
        reached = zip(self.names, self.lora_B, strict=True)
        return tuple(name for name, up in reached if up.grad is None or name in self._overwritten)


def _by_layer(factors: Mapping[str, Factors]) -> dict[str, Tensor]:
    return {f"{name}.{role}": tensor for name, part in factors.items() for role, tensor in part.tensors.items()}
