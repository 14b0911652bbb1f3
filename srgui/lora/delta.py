"""LoRA in weight space: the whole idea in one file.

The weight of a layer is seen as a matrix, rows x columns: ``(out, in)`` for Linear, ``(out, in/g * kh * kw)`` for a
convolution in g groups, and for a transposed one, whose weight is ``(in, out/g, kh, kw)``, the same after swapping its first
two axes. An adapter adds a product of two thin factors to it. Because the sum is an ordinary weight of the same layer,
stride, dilation, groups and padding mode need no thought, and running with an adapter costs what running without it costs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

Form = Literal["conv", "reshape"]
Layer: TypeAlias = nn.Linear | _ConvNd


@dataclass(frozen=True, eq=False)
class Factors:
    """What an adapter knows of one layer.

    In the form ``conv`` (peft, kohya's LoCon, minLoRA) A (rank, cols, kh, kw) is the kernel of a convolution to ``rank``
    channels and B (rows, rank, 1, 1) that of a 1 x 1 convolution back; for Linear A is (rank, in) and B (out, rank).
    In the form ``reshape`` (loralib; LoRun, arXiv 2602.18697, Eq. 4) A is (rank * kh, in * kw) and B (out/g * kh, rank * kh),
    and the product is read row by row as a tensor of the weight's shape.

    Attributes:
        scaling: on the product; alpha / rank, or alpha / sqrt(rank) with rsLoRA (arXiv 2312.03732, Eq. 4).
        transposed: whether the layer is a transposed convolution.
        magnitude: (rows,), the norms that DoRA (arXiv 2402.09353, Eq. 5) learns beside the direction; None without DoRA.
    """

    A: Tensor
    B: Tensor
    rank: int
    scaling: float
    form: Form = "conv"
    transposed: bool = False
    magnitude: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> Factors:
        """The same with ``change`` applied to every tensor."""
        magnitude = None if self.magnitude is None else change(self.magnitude)
        return replace(self, A=change(self.A), B=change(self.B), magnitude=magnitude)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """By role: ``lora_A``, ``lora_B`` and, with DoRA, ``lora_magnitude``."""
        extra = {} if self.magnitude is None else {"lora_magnitude": self.magnitude}
        return {"lora_A": self.A, "lora_B": self.B, **extra}


def effective_weight(weight: Tensor, parts: Sequence[tuple[float, Factors]]) -> Tensor:
    """``weight + sum of strength * delta(weight, factors)``, of the shape, type and memory format of ``weight``.

    Without parts of a strength other than 0 it is ``weight`` itself. The order of ``parts`` does not change a bit.
    """
    parts = [(strength, factors) for strength, factors in parts if strength != 0]
    if not parts:
        return weight
    deltas = [delta(weight, factors) if strength == 1 else strength * delta(weight, factors) for strength, factors in parts]
    # Floating-point sums depend on their order from three terms on.
    total = deltas[0] if len(deltas) == 1 else torch.stack(deltas).sort(dim=0).values.sum(dim=0)
    return (weight + total).to(weight.dtype)


def delta(weight: Tensor, factors: Factors) -> Tensor:
    """What an adapter adds to ``weight`` at strength 1; of the same shape.

    Plain LoRA adds ``scaling * B A``. DoRA adds ``m (W + scaling * B A) / |W + scaling * B A| - W``, with norms per row that
    take no gradient (its section 4.3); with B = 0 and m = |W| that is exactly 0.
    """
    product = _product(factors, weight)
    if factors.magnitude is None:
        return product
    norms = row_norms((weight + product).detach(), factors.transposed)
    kept = _along_rows(factors.magnitude / norms.clamp_min(torch.finfo(norms.dtype).tiny), weight, factors.transposed)
    return (kept - 1) * weight + kept * product


def _product(factors: Factors, weight: Tensor) -> Tensor:
    A, B = factors.A, factors.B * factors.scaling  # noqa: N806 - scaling the smaller factor spares a pass over the product
    if factors.form == "reshape":
        return (B @ A).view(weight.shape)
    product = (B.flatten(1) @ A.flatten(1)).view(B.shape[0], *A.shape[1:])
    return product.transpose(0, 1) if factors.transposed else product


def row_norms(weight: Tensor, transposed: bool) -> Tensor:
    """(rows,) Euclidean norms of the rows of a weight: of its output channels (the groups of a transposed one share theirs)."""
    matrix = weight.transpose(0, 1) if transposed else weight
    return torch.linalg.vector_norm(matrix.float(), dim=tuple(range(1, matrix.dim())))


def _along_rows(values: Tensor, weight: Tensor, transposed: bool) -> Tensor:
    return values.view(*([1] if transposed else []), -1, *[1] * (weight.dim() - 1 - transposed))


def is_transposed(layer: Layer) -> bool:
    return isinstance(layer, _ConvNd) and layer.transposed


def factor_shapes(layer: Layer, rank: int, form: Form) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shapes of A and B for a layer. Every ``conv`` update of a rank is also a ``reshape`` update of it (for one group)."""
    rows, cols, *kernel = layer.weight.transpose(0, 1).shape if is_transposed(layer) else layer.weight.shape
    if form == "conv":
        return (rank, cols, *kernel), (rows, rank, *[1] * len(kernel))
    channels_in, channels_out, groups = channels(layer)
    high, low = math.prod(kernel[:-1]), math.prod(kernel[-1:])
    return (rank * high, channels_in * low), (channels_out // groups * high, rank * high)


def channels(layer: Layer) -> tuple[int, int, int]:
    """Input and output channels (or features) of a layer, and its groups."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features, 1
    return layer.in_channels, layer.out_channels, layer.groups
