"""Adapters on whole networks of other architectures: what a person may load, train and run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from srgui.degradations import bicubic_lr
from srgui.errors import TrainingError
from srgui.images import to_samples, to_tensor
from srgui.lora.adapter import Adapter, attach
from srgui.lora.card import AdapterCard, Base
from srgui.lora.targets import adaptable
from srgui.models.load import from_state_dict
from srgui.models.network import Network
from srgui.training.learner import check_grounded, holding, learner, trainable
from srgui.training.recipe import Recipe

_RECIPE = Recipe(rank="4")


def _swinir() -> nn.Module:
    from spandrel.architectures.SwinIR import SwinIR

    small = {"img_size": 16, "embed_dim": 12, "depths": [2], "num_heads": [2], "window_size": 4, "mlp_ratio": 2}
    network: nn.Module = SwinIR(upscale=2, upsampler="pixelshuffledirect", **small)
    return network


def _craft() -> nn.Module:
    from spandrel.architectures.CRAFT import CRAFT

    # With fewer, the normalisation in its position bias sees a single feature and makes it constant.
    network: nn.Module = CRAFT(embed_dim=96, depths=[1], num_heads=[2], upscale=2)
    return network


def _span() -> nn.Module:
    from spandrel.architectures.SPAN import SPAN

    network: nn.Module = SPAN(num_in_ch=3, num_out_ch=3, feature_channels=16, upscale=2)
    return network


def loaded(make: Callable[[], nn.Module]) -> Network:
    torch.manual_seed(1)
    return from_state_dict(make().state_dict())


transformers = pytest.mark.parametrize("make", [_swinir, _craft], ids=["SwinIR", "CRAFT"])
# Of torch, about a default that CRAFT leaves to it.
no_meshgrid = pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")


def _batch() -> tuple[Tensor, Tensor]:
    """LR (2, 3, 16, 16) and HR (2, 3, 32, 32) of two smooth pictures."""
    coarse = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(2))
    hr = nn.functional.interpolate(coarse, (32, 32), mode="bicubic").clamp(0, 1)
    lrs = [to_tensor(bicubic_lr(to_samples(one[None], 8), 2)) for one in hr]
    return torch.cat(lrs), hr


def _trained(network: Network, steps: int) -> tuple[Any, list[float]]:
    """The learner after some steps, and the loss of each."""
    model = learner(network.module, _RECIPE)
    optimizer = torch.optim.Adam(trainable(model).values(), lr=1e-2)
    lr, hr = _batch()
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.l1_loss(network.with_module(model)(lr), hr)
        loss.backward()
        check_grounded(model)
        optimizer.step()
        losses.append(loss.item())
    return model, losses


@no_meshgrid
@transformers
def test_a_transformer_learns_and_its_adapter_gives_what_was_learned(make: Callable[[], nn.Module]) -> None:
    network = loaded(make)
    before = {key: value.clone() for key, value in network.module.state_dict().items()}
    model, losses = _trained(network, 12)
    assert losses[-1] < 0.8 * losses[0]
    assert all(torch.equal(before[key], value) for key, value in network.module.state_dict().items())
    card = AdapterCard("Pages", "domain", Base("small", None), network.scale, _RECIPE.rank, _RECIPE.form)
    attached = attach(network.module, [(Adapter(model.factors(), card), 1.0)])
    lr, _ = _batch()
    with torch.no_grad():
        torch.testing.assert_close(network.with_module(attached)(lr), network.with_module(model)(lr), rtol=0, atol=1e-5)


@no_meshgrid
@transformers
def test_every_layer_of_a_transformer_takes_part(make: Callable[[], nn.Module]) -> None:
    network = loaded(make)
    model, _ = _trained(network, 2)
    layers = adaptable(network.module)
    assert set(model.names) == set(layers)
    assert sum(isinstance(layer, nn.Linear) for layer in layers.values()) >= 8
    assert not model.ungrounded()
    lr, _ = _batch()
    with torch.no_grad():
        whole = network.with_module(model)(lr)
        for number, name in enumerate(model.names):
            key = f"lora_B.{number}"
            others = {**trainable(model), key: torch.randn_like(trainable(model)[key])}
            with holding(model, others):
                assert not torch.equal(network.with_module(model)(lr), whole), name


@pytest.mark.parametrize(("method", "targets"), [("lora", "*"), ("lora", "*.eval_conv"), ("lora", "*.conv.*"), ("full", "*")])
def test_a_network_that_merges_its_own_layers_is_refused_by_name(method: Any, targets: str) -> None:
    """SPAN, in the form in which it runs, fills ``eval_conv`` from the others anew at each pass, and without gradients."""
    network = loaded(_span)
    model = learner(network.module, Recipe(method=method, targets=(targets,)))
    lr, hr = _batch()
    sr = network.with_module(model)(lr)
    if sr.requires_grad:
        nn.functional.l1_loss(sr, hr).backward()
    with pytest.raises(TrainingError, match=r"does not use \d+ of the layers .*, such as \w+\.(sk|eval_conv|conv\.0)"):
        check_grounded(model)
