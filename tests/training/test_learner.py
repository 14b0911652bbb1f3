from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from srgui.errors import AdapterError, InputError
from srgui.lora.trainable import LoraModel
from srgui.models.build import build
from srgui.models.network import Network
from srgui.training.learner import holding, learner, precision, trainable
from srgui.training.recipe import Recipe


@pytest.mark.parametrize("recipe", [Recipe(rank="2"), Recipe(rank="50%", dora=True), Recipe(method="full")], ids=str)
def test_at_first_it_computes_what_the_network_does(network: Network, recipe: Recipe) -> None:
    lr = torch.rand(2, 3, 9, 8)
    with torch.inference_mode():
        expected = network(lr)
        got = replace(network, module=learner(network.module, recipe))(lr)
    assert torch.allclose(got, expected, atol=1e-6)


def test_full_works_on_a_copy_and_lora_on_the_network_itself(network: Network) -> None:
    own = {parameter.data_ptr() for parameter in network.module.parameters()}
    copied = learner(network.module, Recipe(method="full"))
    assert not own & {parameter.data_ptr() for parameter in copied.parameters()}
    adapted = learner(network.module, Recipe())
    assert isinstance(adapted, LoraModel)
    assert own <= {parameter.data_ptr() for parameter in adapted.parameters()}
    assert not any(parameter.requires_grad for parameter in network.module.parameters())


def test_the_trunk_of_rrdb_is_its_dense_blocks() -> None:
    module = build({"kind": "rrdb", "features": 8, "blocks": 2}).module
    free = trainable(learner(module, Recipe(method="full", targets=("*.RDB*",))))
    assert len(free) == 2 * 3 * 5 * 2  # blocks, dense blocks, convolutions, weight and bias
    assert all(".RDB" in name for name in free)


@pytest.mark.parametrize(("method", "error"), [("lora", AdapterError), ("full", InputError)])
def test_targets_that_match_nothing_are_refused(network: Network, method: str, error: type[Exception]) -> None:
    with pytest.raises(error, match="nothing_like_it"):
        learner(network.module, replace(Recipe(), method=method, targets=("nothing_like_it",)))


def test_holding_puts_back_what_was_there(network: Network) -> None:
    model = learner(network.module, Recipe())
    before = {name: parameter.detach().clone() for name, parameter in trainable(model).items()}
    with pytest.raises(ZeroDivisionError), holding(model, {name: value + 1 for name, value in before.items()}):
        assert all(torch.equal(parameter, before[name] + 1) for name, parameter in trainable(model).items())
        raise ZeroDivisionError
    assert all(torch.equal(parameter, before[name]) for name, parameter in trainable(model).items())


def test_the_cpu_computes_in_single_precision() -> None:
    assert precision(torch.device("cpu")) == "no"
