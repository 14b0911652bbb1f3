"""Adapters layer by layer: for networks so large that a second copy of their weights would not fit.

:func:`srgui.lora.adapter.attach` keeps an effective weight for every layer that an adapter changes. Of a diffusion network these
are nearly all. Here an effective weight exists only while its layer runs, so several adapted networks cost no more memory than
one, and the base is shared and never written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvTransposeNd

from srgui.errors import AdapterError
from srgui.lora.adapter import Adapter, check_fits, check_strength
from srgui.lora.delta import Factors, Layer, effective_weight
from srgui.lora.targets import adaptable

Parts: TypeAlias = Sequence[tuple[float, Factors]]


class Live(nn.Module):
    """A layer with adapters on it: computes what the layer would with its effective weight.

    Args:
        layer: Linear or a convolution, not transposed; its weight is read at every call and never written.
        parts: strengths and factors, as :func:`srgui.lora.delta.effective_weight` takes them. Factors that are parameters get
            gradients, at every call anew, so that a backward pass may run the layer again (gradient checkpointing).
    """

    def __init__(self, layer: Layer, parts: Parts) -> None:
        super().__init__()
        self.layer = layer
        self._parts = list(parts)

    @property
    def weight(self) -> Tensor:
        return self.layer.weight

    @property
    def bias(self) -> Tensor | None:
        return self.layer.bias

    def forward(self, x: Tensor) -> Tensor:
        # Under autocast the products would be rounded to three digits.
        with torch.autocast(x.device.type, enabled=False):
            weight = effective_weight(self.layer.weight, self._parts)
        if isinstance(self.layer, nn.Linear):
            return F.linear(x, weight, self.layer.bias)
        return self.layer._conv_forward(x, weight, self.layer.bias)


def attach_live(module: nn.Module, parts: Sequence[tuple[Adapter, float]]) -> nn.Module:
    """A network that computes ``module`` with adapters at their strengths, in the memory of ``module`` and the factors alone.

    It shares the memory of all parameters and buffers of ``module``, which stays as it is; any number of such networks can be
    used at once. At strength 0 the result is that of ``module``, bit for bit.

    Raises:
        AdapterError: an adapter does not fit, a strength is out of range, or a layer is a transposed convolution.
    """
    for adapter, strength in parts:
        check_strength(adapter, strength)
        check_fits(module, adapter, None)
    names = {name for adapter, strength in parts if strength for name in adapter.factors}
    device = next(module.parameters()).device
    moved = [(strength, {n: f.map(lambda t: t.to(device)) for n, f in a.factors.items()}) for a, strength in parts if strength]
    return with_live(module, {name: [(s, factors[name]) for s, factors in moved if name in factors] for name in names})


def with_live(module: nn.Module, parts: Mapping[str, Parts]) -> nn.Module:
    """A network that shares every tensor with ``module`` and in which the named layers are :class:`Live`.

    Raises:
        AdapterError: a layer is a transposed convolution.
    """
    shared: dict[int, object] = {id(t): nn.Parameter(t.detach(), requires_grad=False) for t in module.parameters()}
    shared |= {id(tensor): tensor.detach() for tensor in module.buffers()}
    attached = deepcopy(module, shared)
    layers = adaptable(attached)
    for name, of in parts.items():
        if isinstance(layers[name], _ConvTransposeNd):
            raise AdapterError(f"{name} is a transposed convolution, which cannot be adapted while it runs; leave it out")
        parent, _, last = name.rpartition(".")
        setattr(attached.get_submodule(parent), last, Live(layers[name], of))
    return attached
