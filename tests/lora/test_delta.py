from __future__ import annotations

import math
from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srgui.lora.delta import Factors, delta, effective_weight, factor_shapes, row_norms
from srgui.lora.trainable import LoraModel

One = tuple[nn.Sequential, Tensor]
every_form = pytest.mark.parametrize("form", ["conv", "reshape"])
every_kind = pytest.mark.parametrize("dora", [False, True], ids=["plain", "dora"])


def factors(learn: Callable[..., LoraModel], module: nn.Module, seed: int = 0, **spec: Any) -> Factors:
    return learn(module, seed, **spec).factors()["0"]


@every_form
def test_a_delta_has_the_shape_of_its_weight_and_the_rank_that_was_asked_for(one: One, learn: Any, form: str) -> None:
    weight = one[0][0].weight
    part = factors(learn, one[0], form=form, rank="1")
    change = delta(weight, part)
    assert change.shape == weight.shape
    if form == "conv":
        matrix = change.transpose(0, 1) if part.transposed else change
        assert torch.linalg.matrix_rank(matrix.flatten(1)) == 1


@every_form
@every_kind
def test_strength_0_gives_the_weight_itself(one: One, learn: Any, form: str, dora: bool) -> None:
    weight = one[0][0].weight
    assert effective_weight(weight, [(0.0, factors(learn, one[0], form=form, dora=dora))]) is weight
    assert effective_weight(weight, []) is weight


@every_form
@every_kind
def test_the_change_is_linear_in_the_strength(one: One, learn: Any, form: str, dora: bool) -> None:
    weight = one[0][0].weight
    part = factors(learn, one[0], form=form, dora=dora)
    for strength in (-1.5, 0.25, 2.0):
        changed = effective_weight(weight, [(strength, part)]) - weight
        torch.testing.assert_close(changed, strength * delta(weight, part), rtol=0, atol=1e-6)


@every_form
def test_adapters_add_up_in_any_order(one: One, learn: Any, form: str) -> None:
    weight = one[0][0].weight
    parts = [(strength, factors(learn, one[0], seed, form=form)) for seed, strength in enumerate((1.0, -0.7, 0.3, 1.9))]
    results = [effective_weight(weight, order) for order in permutations(parts)]
    assert all(torch.equal(result, results[0]) for result in results)
    torch.testing.assert_close(results[0], weight + sum(s * delta(weight, part) for s, part in parts), rtol=0, atol=1e-6)
    without = effective_weight(weight, [*parts[:2], (0.0, parts[2][1])])
    assert torch.equal(without, effective_weight(weight, parts[:2]))


@every_form
def test_an_effective_weight_keeps_type_and_memory_format(one: One, learn: Any, form: str) -> None:
    weight = one[0][0].weight
    part = factors(learn, one[0], form=form)
    changed = effective_weight(weight, [(1.0, part)])
    assert (changed.dtype, changed.stride()) == (weight.dtype, weight.stride())
    assert effective_weight(weight.half(), [(1.0, part)]).dtype == torch.float16


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "circular", "replicate"])
def test_the_conv_form_is_a_convolution_to_rank_channels_and_one_back(learn: Any, stride: int, dilation: int, mode: str) -> None:
    layer = nn.Conv2d(5, 7, 3, stride, padding=2, dilation=dilation, padding_mode=mode, bias=False)
    part = factors(learn, nn.Sequential(layer), alpha=3.0)
    down = nn.Conv2d(5, 2, 3, stride, padding=2, dilation=dilation, padding_mode=mode, bias=False)
    down.weight = nn.Parameter(part.A)
    x = torch.rand(2, 5, 11, 10)
    beside = layer(x) + 3 / 2 * F.conv2d(down(x), part.B)
    layer.weight = nn.Parameter(effective_weight(layer.weight, [(1.0, part)]))
    torch.testing.assert_close(layer(x), beside, rtol=0, atol=1e-5)


def test_the_reshape_form_has_the_shapes_of_loralib(learn: Any) -> None:
    """loralib's ConvLoRA: A (r k, in k), B (out / groups k, r k), their product viewed as the weight."""
    layer = nn.Conv2d(6, 4, 3, groups=2)
    assert factor_shapes(layer, 5, "reshape") == ((5 * 3, 6 * 3), (4 // 2 * 3, 5 * 3))
    part = factors(learn, nn.Sequential(layer), form="reshape", alpha=6.0)
    torch.testing.assert_close(delta(layer.weight, part), 3 * (part.B @ part.A).view(4, 3, 3, 3))


@pytest.mark.parametrize("kernel", [3, (3, 5), (1, 3)])
def test_every_conv_update_is_a_reshape_update_of_the_same_rank(learn: Any, kernel: Any) -> None:
    layer = nn.Conv2d(12, 9, kernel)
    change = delta(layer.weight, factors(learn, nn.Sequential(layer), rank="2"))
    down, up = factor_shapes(layer, 2, "reshape")
    assert torch.linalg.matrix_rank(change.reshape(up[0], down[1])) <= up[1]


@pytest.mark.parametrize(("channels_in", "channels_out", "k"), [(3, 64, 3), (64, 32, 1), (16, 8, 5)])
def test_the_published_parameter_counts_of_both_forms(channels_in: int, channels_out: int, k: int) -> None:
    layer, rank = nn.Conv2d(channels_in, channels_out, k), 4

    def count(form: Any) -> int:
        return sum(math.prod(shape) for shape in factor_shapes(layer, rank, form))

    assert count("conv") == rank * (k * k * channels_in + channels_out)
    assert count("reshape") == rank * k * k * (channels_in + channels_out)


@every_form
def test_dora_changes_directions_and_sets_the_norms_of_the_rows(one: One, learn: Any, form: str) -> None:
    weight = one[0][0].weight
    part = factors(learn, one[0], form=form, dora=True)
    assert part.magnitude is not None
    changed = effective_weight(weight, [(1.0, part)])
    torch.testing.assert_close(row_norms(changed, part.transposed), part.magnitude.abs(), rtol=1e-5, atol=1e-6)


def test_dora_bears_a_filter_of_zeros(learn: Any) -> None:
    layer = nn.Conv2d(3, 4, 3)
    with torch.no_grad():
        layer.weight[1] = 0
    changed = delta(layer.weight, factors(learn, nn.Sequential(layer), dora=True))
    assert changed.isfinite().all()
