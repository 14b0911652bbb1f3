"""Layers of every kind, and adapters with random factors on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from srgui.lora.adapter import Adapter
from srgui.lora.card import AdapterCard, Base
from srgui.lora.trainable import LoraModel, LoraSpec

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(6, 4), (2, 6)),
    "plain": (lambda: nn.Conv2d(6, 4, 3, padding=1), (2, 6, 9, 8)),
    "1x1": (lambda: nn.Conv2d(6, 4, 1, bias=False), (2, 6, 5, 5)),
    "strided": (lambda: nn.Conv2d(6, 4, 3, stride=2), (2, 6, 9, 8)),
    "dilated": (lambda: nn.Conv2d(6, 4, 3, dilation=2), (2, 6, 9, 8)),
    "grouped": (lambda: nn.Conv2d(6, 4, 3, groups=2), (2, 6, 9, 8)),
    "depthwise": (lambda: nn.Conv2d(6, 6, 5, groups=6, padding=2), (2, 6, 9, 8)),
    "reflect": (lambda: nn.Conv2d(6, 4, 3, padding=1, padding_mode="reflect"), (2, 6, 9, 8)),
    "circular": (lambda: nn.Conv2d(6, 4, 3, padding=1, padding_mode="circular"), (2, 6, 9, 8)),
    "oblong": (lambda: nn.Conv2d(6, 4, (1, 5)), (2, 6, 9, 8)),
    "channels-last": (lambda: nn.Conv2d(6, 4, 3).to(memory_format=torch.channels_last), (2, 6, 9, 8)),
    "1d": (lambda: nn.Conv1d(6, 4, 3), (2, 6, 9)),
    "3d": (lambda: nn.Conv3d(2, 3, (1, 2, 3)), (1, 2, 4, 4, 4)),
    "transposed": (lambda: nn.ConvTranspose2d(6, 4, 4, stride=2, padding=1), (2, 6, 5, 4)),
    "transposed-grouped": (lambda: nn.ConvTranspose2d(6, 4, 3, stride=2, groups=2, dilation=2), (2, 6, 5, 4)),
}


@pytest.fixture(params=LAYERS)
def one(request: pytest.FixtureRequest) -> tuple[nn.Sequential, Tensor]:
    """A network of one frozen layer, named ``0``, and an input for it."""
    make, shape = LAYERS[request.param]
    torch.manual_seed(3)
    return nn.Sequential(make()).requires_grad_(False), torch.rand(shape)


@pytest.fixture
def network() -> nn.Sequential:
    """(N, 3, H, W) -> (N, 3, 2H, 2W) with layers ``head``, ``body.0``, ``body.2`` (grouped) and ``up`` (transposed)."""
    torch.manual_seed(4)
    body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.PReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=4))
    parts = {"head": nn.Conv2d(3, 8, 3, padding=1), "body": body, "up": nn.ConvTranspose2d(8, 3, 4, stride=2, padding=1)}
    network = nn.Sequential()
    for name, part in parts.items():
        network.add_module(name, part)
    return network.requires_grad_(False)


def _learn(module: nn.Module, seed: int = 0, /, **spec: Any) -> LoraModel:
    model = LoraModel(module, LoraSpec(**{"rank": "2", **spec}), seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for factor in (*model.lora_B, *model.lora_magnitude):
            factor.add_(torch.randn(factor.shape, generator=generator), alpha=0.3)
    return model


@pytest.fixture
def learn() -> Callable[..., LoraModel]:
    """Puts LoRA with random B (and magnitudes) on a module: ``learn(module, seed, rank="2", ...)``."""
    return _learn


@pytest.fixture
def adapter() -> Callable[..., Adapter]:
    """An adapter with random factors for a module: ``adapter(module, seed, rank="2", ...)``."""

    def make(module: nn.Module, seed: int = 0, /, **spec: Any) -> Adapter:
        model = _learn(module, seed, **spec)
        of = model.spec
        card = AdapterCard("Pages", "domain", Base("tiny", "a" * 64), 2, of.rank, of.form, of.alpha, of.targets)
        return Adapter(model.factors(), card, of.rslora)

    return make
