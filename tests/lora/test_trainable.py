from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srgui.errors import AdapterError
from srgui.lora.adapter import Adapter, attach
from srgui.lora.delta import effective_weight
from srgui.lora.trainable import LoraModel, LoraSpec

One = tuple[nn.Sequential, Tensor]
every_form = pytest.mark.parametrize("form", ["conv", "reshape"])
every_kind = pytest.mark.parametrize("dora", [False, True], ids=["plain", "dora"])


@every_form
@every_kind
def test_at_first_it_computes_what_the_base_does(one: One, form: Any, dora: bool) -> None:
    module, x = one
    assert torch.equal(LoraModel(module, LoraSpec("2", form=form, dora=dora), 0)(x), module(x))


@every_form
@every_kind
def test_live_equals_merged(one: One, learn: Any, adapter: Any, form: str, dora: bool) -> None:
    module, x = one
    live = learn(module, form=form, dora=dora)(x)
    assert not torch.allclose(live, module(x), atol=1e-3)
    merged = attach(module, [(adapter(module, form=form, dora=dora), 1.0)])(x)
    torch.testing.assert_close(live, merged, rtol=0, atol=1e-6)


@every_form
@every_kind
def test_only_factors_learn_and_the_base_stays(one: One, learn: Any, form: str, dora: bool) -> None:
    module, x = one
    before = {key: value.clone() for key, value in module.state_dict().items()}
    model = learn(module, form=form, dora=dora)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.1)
    factors = model.factors()
    model(x).square().mean().backward()
    optimizer.step()
    learned = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert learned == {name for name, _ in model.named_parameters() if name.startswith("lora_")}
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    now = model.factors()
    assert all(not torch.equal(old, now["0"].tensors[role]) for role, old in factors["0"].tensors.items())


@every_form
def test_gradients_are_those_of_the_explicit_weight(one: One, learn: Any, form: str) -> None:
    module, x = one
    model = learn(module, form=form)
    model(x).square().sum().backward()
    ((_, part),) = model.factors().items()
    part = part.map(lambda tensor: tensor.requires_grad_())
    weight = effective_weight(module[0].weight, [(1.0, part)])
    torch.func.functional_call(module, {"0.weight": weight}, (x,)).square().sum().backward()
    torch.testing.assert_close(model.lora_B[0].grad, part.B.grad)
    torch.testing.assert_close(model.lora_A[0].grad, part.A.grad)


def test_the_report_counts_what_learns(network: nn.Module) -> None:
    for spec in (LoraSpec("3"), LoraSpec("25%", dora=True), LoraSpec("2", form="reshape", targets=("body.*",))):
        model = LoraModel(network, spec, 0)
        learning = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        assert learning == model.trainable == model.report.trainable
        assert model.report.modules == model.names


def test_scaling_is_alpha_over_the_rank_or_its_root(network: nn.Module) -> None:
    def scalings(**spec: Any) -> set[float]:
        return {part.scaling for part in LoraModel(network, LoraSpec(**spec), 0).factors().values()}

    assert scalings(rank="4") == {1.0}
    assert scalings(rank="4", alpha=8) == {2.0}
    assert scalings(rank="4", alpha=8, rslora=True) == {4.0}
    assert scalings(rank="50%", alpha=8) == {8 / 2, 8 / 4}
    assert scalings(rank="50%") == {1.0}


@pytest.mark.parametrize("wrong", [{"rank": "x"}, {"alpha": 0.0}, {"alpha": float("nan")}, {"form": "svd"}])
def test_a_spec_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(AdapterError):
        LoraSpec(**wrong)


def test_the_seed_decides_the_start(network: nn.Module) -> None:
    def start(seed: int) -> Tensor:
        return LoraModel(network, LoraSpec("2"), seed).lora_A[1].detach()

    assert torch.equal(start(1), start(1))
    assert not torch.equal(start(1), start(2))
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    start(1)
    assert torch.equal(torch.rand(1), expected)


def test_the_penalty_is_the_squared_norm_of_all_factors(network: nn.Module, learn: Any) -> None:
    model = learn(network)
    expected = sum(part.A.square().sum() + part.B.square().sum() for part in model.factors().values())
    torch.testing.assert_close(model.penalty(), expected)
    model.penalty().backward()
    torch.testing.assert_close(model.lora_A[0].grad, 2 * model.lora_A[0].detach())


class Branches(nn.Module):
    """Like SPAN's blocks: one layer for training, another one, filled from it, for use."""

    def __init__(self) -> None:
        super().__init__()
        self.branch, self.used = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return self.branch(x)
        self.used.weight.data = self.branch.weight.data.clone()
        return F.conv2d(x, self.used.weight, self.branch.bias)


def test_layers_that_the_forward_pass_does_not_use_or_overwrites_are_named() -> None:
    base = Branches().eval()
    model = LoraModel(base, LoraSpec("1"), 0)
    model(torch.rand(1, 3, 5, 5)).sum().backward()
    assert model.ungrounded() == ("branch", "used")
    base.train()
    model.zero_grad()
    model(torch.rand(1, 3, 5, 5)).sum().backward()
    assert model.ungrounded() == ("used",)


def test_a_layer_that_is_filled_while_it_runs_does_not_reach_the_base(adapter: Any) -> None:
    base, x = Branches().eval().requires_grad_(False), torch.rand(1, 3, 5, 5)
    expected = base(x)
    kept = base.used.weight.clone()
    attached = attach(base, [(adapter(base, targets=("branch",)), 1.0)])
    assert not torch.allclose(attached(x), expected, atol=1e-3)
    assert torch.equal(base.used.weight, kept)


def test_a_state_goes_round(network: nn.Module, learn: Callable[..., LoraModel], picture: Any) -> None:
    first, second = learn(network, 1, dora=True), learn(network, 2, dora=True)
    state = {key: value.detach().clone() for key, value in first.lora_state().items()}
    second.load_lora_state(state)
    assert torch.equal(first(picture(6, 7)), second(picture(6, 7)))
    assert set(state) >= {"body.0.lora_A", "up.lora_B", "head.lora_magnitude"}
    with pytest.raises(AdapterError, match=r"1 tensors do not fit .*\(up.lora_B\); use the same recipe"):
        second.load_lora_state({key: value for key, value in state.items() if key != "up.lora_B"})
    with pytest.raises(AdapterError, match=r"8 tensors do not fit .*body.0.lora_A"):
        learn(network, rank="3", dora=True).load_factors(first.factors())


def test_training_starts_from_an_adapter_of_another_alpha(
    network: nn.Module, learn: Callable[..., LoraModel], adapter: Callable[..., Adapter], picture: Any
) -> None:
    start = adapter(network, 5, alpha=8.0)
    model = learn(network, 6)
    model.load_factors(start.factors)
    torch.testing.assert_close(model(picture(6, 7)), attach(network, [(start, 1.0)])(picture(6, 7)), rtol=0, atol=1e-5)


def test_mixed_precision_does_not_round_the_factors(network: nn.Module, learn: Any) -> None:
    model = learn(network)
    seen = []
    network.head.register_forward_pre_hook(lambda layer, _: seen.append(layer.weight.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        model(torch.rand(1, 3, 5, 5))
    assert seen == [torch.float32]
