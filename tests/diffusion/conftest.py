"""Restorers on a Stable Diffusion of a million random parameters, with a pair in PiSA-SR's own layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from srgui.diffusion.base import StableDiffusion, load_base
from srgui.diffusion.memory import Tiling
from srgui.diffusion.pisa import PisaRestorer
from srgui.lora.card import Base
from srgui.lora.pisa import pisa_adapters
from srgui.protocol import RestorerInfo

pytest.importorskip("diffusers")
pytest.importorskip("transformers")


@pytest.fixture
def base(base_folder: Path) -> StableDiffusion:
    return load_base(base_folder, torch.device("cpu"))


@pytest.fixture(scope="session")
def real_unet() -> torch.nn.Module:
    """Stable Diffusion 2.1's UNet, on the meta device."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        return UNet2DConditionModel(
            sample_size=64,
            cross_attention_dim=1024,
            attention_head_dim=(5, 10, 20, 20),
            use_linear_projection=True,
            block_out_channels=(320, 640, 1280, 1280),
            layers_per_block=2,
        )


@pytest.fixture
def pair(base: StableDiffusion, layout: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """A pair of ranks 4 and 2, in the official layout."""
    return layout(base.unet, (4, 2))


@dataclass(frozen=True)
class Opener:
    base: StableDiffusion
    content: dict[str, Any]

    def __call__(
        self, *, scale: int = 4, tile: int | None = None, content: dict[str, Any] | None = None, **sizes: int
    ) -> PisaRestorer:
        """A restorer on the tiny base; ``sizes`` are those of :class:`Tiling`."""
        own = pisa_adapters(content or self.content, self.base.unet, Base("tiny"), scale, "test")
        info = RestorerInfo("tiny", "Tiny", "pisa-sr", scale, "none")
        return PisaRestorer(self.base, info, own=own, tiling=Tiling(**{"process": 64, **sizes}), tile=tile)


@pytest.fixture
def opened(base: StableDiffusion, pair: dict[str, Any]) -> Opener:
    return Opener(base, pair)


class Counted:
    """Counts the calls of modules."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}

    def watch(self, name: str, module: torch.nn.Module) -> None:
        self.calls[name] = 0

        def note(*_: Any) -> None:
            self.calls[name] += 1

        module.register_forward_pre_hook(note)


@pytest.fixture
def counted() -> Callable[[PisaRestorer], Counted]:
    """Watches both networks and the decoder of a restorer."""

    def watch(restorer: PisaRestorer) -> Counted:
        found = Counted()
        for name, network in restorer.guided.networks.items():
            found.watch(name, network)
        return found

    return watch
