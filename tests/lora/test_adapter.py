from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
from spandrel.architectures.SwinIR import SwinIR
from torch import Tensor, nn

from srgui.errors import AdapterError
from srgui.lora.adapter import Adapter, attach, check_fits
from srgui.lora.targets import adaptable
from srgui.models.network import Network

Make = Callable[..., Adapter]


def test_an_attached_network_shares_what_is_not_changed(network: nn.Module, adapter: Make) -> None:
    network.register_buffer("mean", torch.zeros(3))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    attached = attach(network, [(adapter(network, targets=("body.*",)), 0.5)])
    assert attached is not network
    own = attached.state_dict()
    apart = {key for key, value in network.state_dict().items() if own[key].data_ptr() != value.data_ptr()}
    assert apart == {"body.0.weight", "body.2.weight"}
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert not any(parameter.requires_grad for parameter in attached.parameters())


def test_strength_0_gives_the_base_bit_for_bit(network: nn.Module, adapter: Make, picture: Any) -> None:
    x = picture(7, 9)
    parts = [(adapter(network, seed, form=form, dora=seed == 1), 0.0) for seed, form in enumerate(("conv", "reshape"))]
    assert torch.equal(attach(network, parts)(x), network(x))
    assert torch.equal(attach(network, [])(x), network(x))


def test_the_order_of_adapters_does_not_matter(network: nn.Module, adapter: Make, picture: Any) -> None:
    x = picture(7, 9)
    parts = [(adapter(network, seed, form=form), 0.3 + seed) for seed, form in enumerate(("conv", "reshape", "conv"))]
    assert torch.equal(attach(network, parts)(x), attach(network, parts[::-1])(x))
    assert torch.equal(attach(network, [*parts[:2], (parts[2][0], 0.0)])(x), attach(network, parts[1::-1])(x))


def test_adapters_on_different_layers_both_act(network: nn.Module, adapter: Make) -> None:
    first, second = adapter(network, targets=("head",)), adapter(network, targets=("up",))
    both = attach(network, [(first, 1.0), (second, 1.0)]).state_dict()
    assert torch.equal(both["head.weight"], attach(network, [(first, 1.0)]).state_dict()["head.weight"])
    assert torch.equal(both["up.weight"], attach(network, [(second, 1.0)]).state_dict()["up.weight"])


@pytest.mark.parametrize("strength", [float("nan"), float("inf"), -float("inf"), 10.5, -11.0])
def test_a_strength_that_makes_no_sense_is_refused(network: nn.Module, adapter: Make, strength: float) -> None:
    with pytest.raises(AdapterError, match=r"strength .* of 'Pages' is not from -10 to 10"):
        attach(network, [(adapter(network), strength)])


def test_networks_with_different_strengths_do_not_meet(network: nn.Module, adapter: Make, picture: Any) -> None:
    made, x = adapter(network), picture(9, 9)
    strengths = [0.0, 0.5, 1.0, -1.0]
    networks = [attach(network, [(made, strength)]) for strength in strengths]
    expected = [each(x) for each in networks]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda i: torch.equal(networks[i % 4](x), expected[i % 4]), range(80)))
    assert all(results)
    assert torch.equal(expected[0], network(x))


@pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")  # by spandrel
@pytest.mark.parametrize("form", ["conv", "reshape"])
def test_a_transformer_is_adapted_in_its_linear_layers_too(adapter: Make, picture: Any, form: str) -> None:
    torch.manual_seed(0)
    module = SwinIR(embed_dim=12, depths=[1], num_heads=[2], window_size=4, mlp_ratio=2.0, upscale=2, upsampler="pixelshuffle")
    module.eval().requires_grad_(False)
    kinds = {type(layer) for layer in adaptable(module).values()}
    assert kinds == {nn.Linear, nn.Conv2d}
    x = picture(8, 8)
    for targets in (("*attn*",), ("conv*",), ("*",)):
        changed = attach(module, [(adapter(module, targets=targets, form=form), 1.0)])(x)
        assert not torch.allclose(changed, module(x), atol=1e-4)


def test_an_adapter_for_other_weights_is_refused(network: nn.Module, adapter: Make) -> None:
    made = adapter(network)
    check_fits(network, made, "a" * 64)
    check_fits(network, made, None)
    with pytest.raises(AdapterError, match=r"'Pages' is for tiny with weights of sha256 aaaaaaaaaaaa\.\.\., and these are bbb"):
        check_fits(network, made, "b" * 64)


def test_an_adapter_for_another_network_is_refused_with_the_first_differences(
    network: nn.Module, adapter: Make, tiny: Network
) -> None:
    with pytest.raises(AdapterError) as caught:
        attach(tiny.module, [(adapter(network), 1.0)])
    message = str(caught.value)
    assert "there is no layer head" in message
    assert "body.2" in message
    assert "and 1 more" in message
    assert message.endswith("use it with its base tiny")
    assert "\n" not in message


def test_factors_of_another_shape_are_refused(network: nn.Module, adapter: Make) -> None:
    made = adapter(network, dora=True)

    def refusal(name: str, **change: Any) -> str:
        changed = replace(made, factors={**made.factors, name: replace(made.factors[name], **change)})
        with pytest.raises(AdapterError) as caught:
            check_fits(network, changed, None)
        return str(caught.value)

    assert "lora_A of head is (2, 3, 5, 5), not (2, 3, 3, 3)" in refusal("head", A=torch.zeros(2, 3, 5, 5))
    assert "lora_B of head is (9, 2, 1, 1), not (8, 2, 1, 1)" in refusal("head", B=torch.zeros(9, 2, 1, 1))
    assert "lora_magnitude of head is (3,), not (8,)" in refusal("head", magnitude=torch.zeros(3))
    assert "head is a Conv2d" in refusal("head", transposed=True)
    assert "up is a ConvTranspose2d" in refusal("up", transposed=False)
    assert "lora_A of head" in refusal("head", form="reshape")
    assert "as peft makes it for 4 groups, where no weight has its effect" in refusal("body.2", A=torch.zeros(2, 8, 3, 3))


def test_merging_costs_no_layer(network: nn.Module, adapter: Make) -> None:
    attached = attach(network, [(adapter(network), 1.0)])
    assert [type(layer) for layer in attached.modules()] == [type(layer) for layer in network.modules()]
    assert sum(p.numel() for p in attached.parameters()) == sum(p.numel() for p in network.parameters())


def test_half_precision_stays_half(network: nn.Module, adapter: Make) -> None:
    made = adapter(network)
    attached: nn.Module = attach(network.half(), [(made, 1.0)])
    weights: list[Tensor] = list(attached.parameters())
    assert {weight.dtype for weight in weights} == {torch.float16}
