from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from spandrel.architectures.ESRGAN import ESRGAN
from torch import nn

from srgui.errors import AdapterError
from srgui.lora.targets import Rank, adaptable, choose, near_layers
from srgui.lora.trainable import LoraSpec, plan


@given(st.integers(1, 2000), st.integers(1, 2000), st.integers(1, 1000))
def test_gamma_is_a_share_of_the_smaller_side_rounded_up_exactly(channels_in: int, channels_out: int, tenths: int) -> None:
    with torch.device("meta"):
        layer = nn.Linear(channels_in, channels_out)
    expected = -(-min(channels_in, channels_out) * tenths // 1000)
    assert Rank(f"{tenths / 10:.1f}%").of(layer) == expected >= 1
    assert Rank("7").of(layer) == 7


@pytest.mark.parametrize("text", ["", "0", "-1", "4097", "8.5", "0%", "101%", "nan", "1e3", "8 ", "١", "%", "9" * 99])
def test_a_rank_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(AdapterError, match="use one such as 8 or 10%"):
        Rank(text)


def test_convolutions_and_linear_layers_with_a_weight_of_their_own_can_be_adapted() -> None:
    module = nn.ModuleDict(
        {
            "conv": nn.Conv2d(3, 3, 3),
            "up": nn.ConvTranspose2d(3, 3, 2),
            "act": nn.PReLU(),
            "norm": nn.BatchNorm2d(3),
            "linear": nn.Linear(3, 3),
            "tied": nn.Linear(3, 3),
            "normed": nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 3)),
            "lazy": nn.LazyLinear(3),
        }
    )
    module["tied"].weight = module["linear"].weight
    assert list(adaptable(module)) == ["conv", "up"]


def test_patterns_choose_layers_by_name(network: nn.Module) -> None:
    assert choose(network) == ("head", "body.0", "body.2", "up")
    assert choose(network, ["up", "body.*"]) == ("body.0", "body.2", "up")
    with pytest.raises(AdapterError, match=r"'body.1' matches no layer .* Did you mean body"):
        choose(network, ["head", "body.1"])
    with pytest.raises(AdapterError, match="no targets"):
        choose(network, [])


def test_a_hint_stays_short() -> None:
    assert near_layers("zzz", [f"layer{i}" for i in range(300)]) == "Its layers: layer0, layer1, layer2 and 297 more."
    assert near_layers("zzz", []) == "It has none."


@pytest.mark.parametrize(
    ("spec", "layers", "trainable"),
    [
        (LoraSpec("1"), 351, 413_918),
        (LoraSpec("4"), 351, 1_655_672),
        (LoraSpec("16"), 351, 6_622_688),
        (LoraSpec("4", targets=("*.RDB*",)), 345, 1_642_752),
        (LoraSpec("4", form="reshape"), 351, 2_089_944),
        (LoraSpec("4", dora=True), 351, 1_655_672 + 13_571),
    ],
)
def test_rrdbnet_has_the_published_numbers(spec: LoraSpec, layers: int, trainable: int) -> None:
    """Table II of ESRGAN + LoRA for rank 4 on all convolutions; the network itself has 16,697,987 parameters."""
    with torch.device("meta"):
        module = ESRGAN()
    found = plan(module, spec)
    assert (found.total, found.kinds, found.trainable) == (16_697_987, {"Conv2d": layers}, trainable)
    assert len(found.modules) == layers
    assert str(found).startswith(f"{layers} Conv2d: {trainable:,} trainable of 16,697,987 parameters")


def test_gamma_gives_every_layer_its_own_rank(network: nn.Module) -> None:
    ranks = {name: Rank("30%").of(layer) for name, layer in adaptable(network).items()}
    assert ranks == {"head": 1, "body.0": 3, "body.2": 3, "up": math.ceil(0.9)}
