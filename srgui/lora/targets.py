"""Which layers of a network are adapted, with what rank, and what that costs in parameters."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from fractions import Fraction

from torch import nn
from torch.nn.modules.conv import _ConvNd

from srgui.errors import AdapterError
from srgui.lora.delta import Form, Layer, channels, factor_shapes, is_transposed

LARGEST_RANK = 4096


@dataclass(frozen=True)
class Rank:
    """The same rank for all layers (``text`` is an integer), or gamma percent of each layer's channels (``10%``)."""

    text: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9]{1,4}|[0-9]{1,3}(\.[0-9]{1,6})?%", self.text) or not 0 < self._number <= self._largest:
            raise AdapterError(
                f"rank {self.text!r} is neither an integer from 1 to {LARGEST_RANK} nor a percentage up to 100%; "
                "use one such as 8 or 10%"
            )

    @property
    def _number(self) -> Fraction:
        return Fraction(self.text.removesuffix("%"))

    @property
    def _largest(self) -> int:
        return 100 if self.text.endswith("%") else LARGEST_RANK

    def of(self, layer: Layer) -> int:
        """For gamma percent ``ceil(min(in, out) * gamma / 100)`` (LoRun, arXiv 2602.18697), without rounding errors."""
        if not self.text.endswith("%"):
            return int(self.text)
        return math.ceil(min(channels(layer)[:2]) * self._number / 100)


@dataclass(frozen=True)
class Report:
    """What an adaptation covers: layer names, their number by kind, trainable parameters, and those of the whole network."""

    modules: tuple[str, ...]
    kinds: Mapping[str, int]
    trainable: int
    total: int

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.kinds.items())
        return f"{kinds}: {self.trainable:,} trainable of {self.total:,} parameters ({self.trainable / self.total:.1%})"


def adaptable(module: nn.Module) -> dict[str, Layer]:
    """Linear and convolution layers by name whose ``weight`` is a plain parameter that no other layer shares."""
    owners = Counter(id(weight) for layer in module.modules() for weight in layer._parameters.values() if weight is not None)
    return {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, (nn.Linear, _ConvNd))
        and name
        and type(layer._parameters.get("weight")) is nn.Parameter
        and owners[id(layer.weight)] == 1
    }


def choose(module: nn.Module, targets: Sequence[str] = ("*",)) -> tuple[str, ...]:
    """Names of the adaptable layers that match one of the glob patterns ``targets``, in the network's order.

    Raises:
        AdapterError: a pattern matches none, or there is no pattern.
    """
    names = adaptable(module)
    if not targets:
        raise AdapterError("no targets are given, so no layer would be adapted; use * for all")
    for target in targets:
        if not any(fnmatchcase(name, target) for name in names):
            raise AdapterError(f"the target {target!r} matches no layer that can be adapted. {near_layers(target, names)}")
    return tuple(name for name in names if any(fnmatchcase(name, target) for target in targets))


def near_layers(name: str, names: Iterable[str]) -> str:
    """The part of a message that names layers near ``name``, or the first few."""
    names = list(names)
    if close := get_close_matches(name, names, n=3, cutoff=0.5):
        return f"Did you mean {', '.join(close)}?"
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"Its layers: {', '.join(names[:3])}{rest}." if names else "It has none."


def report(module: nn.Module, names: Sequence[str], rank: Rank, form: Form, dora: bool) -> Report:
    """What adapting the layers ``names`` would train; counted from shapes, so ``module`` may be on the meta device."""
    layers = adaptable(module)
    trainable = 0
    for name in names:
        layer = layers[name]
        trainable += sum(math.prod(shape) for shape in factor_shapes(layer, rank.of(layer), form))
        trainable += layer.weight.shape[1 if is_transposed(layer) else 0] if dora else 0
    kinds = Counter(type(layers[name]).__name__ for name in names)
    return Report(tuple(names), dict(kinds), trainable, sum(parameter.numel() for parameter in module.parameters()))
