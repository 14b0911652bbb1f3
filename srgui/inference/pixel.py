"""Restorers whose network gives pixels: any SR network, and bicubic interpolation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from srgui.errors import AdapterError, ModelError
from srgui.inference.engine import Engine
from srgui.inference.guidance import PIXEL, Blend, base_weights
from srgui.inference.planes import Computed, Upsampled
from srgui.lora.adapter import Adapter, attach, check_fits
from srgui.models.cards import Card
from srgui.models.load import load_network
from srgui.models.network import Network
from srgui.protocol import Forecast, RestorerInfo, Run, Source

Strengths = Sequence[tuple[Adapter, float]]


class PixelRestorer:
    """A network of any architecture, with any domain adapters on it: the planes ``up`` and ``full``."""

    def __init__(self, network: Network, info: RestorerInfo, engine: Engine) -> None:
        self.network, self.engine = network, engine
        self.info = replace(info, controls=(PIXEL,), digest=network.digest)

    @classmethod
    def open(cls, card: Card, device: torch.device, engine: Engine, adapters: Strengths = ()) -> PixelRestorer:
        """Load the card's weights, and put adapters on them.

        Raises:
            ModelError: they cannot be used, or are not of the scale the card says.
            AdapterError: an adapter is for another base, or is not one for a domain.
        """
        if "weights" not in card.parts:
            raise ModelError(f"the card of {card.id} names no part 'weights', which {card.family} needs; mend its card")
        network = load_network(card.parts["weights"].path, device)
        if card.scale and card.scale != network.scale:
            raise ModelError(f"{card.id} says x{card.scale}, but its weights are for x{network.scale}; mend its card")
        named = tuple((adapter.card.name, strength) for adapter, strength in adapters)
        info = RestorerInfo(card.id, card.title, card.family, network.scale, card.licence, adapters=named)
        return cls(_adapted(network, adapters), info, engine)

    def forecast(self, height: int, width: int) -> Forecast:
        return self.engine.forecast(self.network, height, width)

    def prepare(self, source: Source, run: Run) -> Blend:
        lr, scale = source.lr, self.network.scale
        size = lr.shape[-2] * scale, lr.shape[-1] * scale
        full = Computed(size, lambda store, run: self.engine.run(self.network, lr, store, run))
        return Blend({"up": Upsampled(lr, scale), "full": full}, base_weights, self.info.controls)


def _adapted(network: Network, adapters: Strengths) -> Network:
    if not adapters:
        return network
    for adapter, _ in adapters:
        check_fits(network.module, adapter, network.digest)
        if adapter.card.role != "domain":
            raise AdapterError(f"the adapter {adapter.card.name} has the role {adapter.card.role}, not domain; choose another")
    return network.with_module(attach(network.module, adapters))


class BicubicRestorer:
    """Bicubic interpolation, the baseline of every table."""

    def __init__(self, info: RestorerInfo) -> None:
        self.info = info

    @classmethod
    def open(cls, card: Card, device: torch.device, engine: Engine, adapters: Strengths = ()) -> BicubicRestorer:
        """Nothing is loaded.

        Raises:
            AdapterError: an adapter is given.
        """
        if adapters:
            raise AdapterError(f"{card.id} has no weights to adapt; choose a network for {adapters[0][0].card.name}")
        return cls(RestorerInfo(card.id, card.title, card.family, card.scale, card.licence))

    def forecast(self, height: int, width: int) -> Forecast:
        return Forecast(tiles=0, memory=0, seconds=height * width * self.info.scale**2 * 1e-7)

    def prepare(self, source: Source, run: Run) -> Blend:
        return Blend({"up": Upsampled(source.lr, self.info.scale)}, lambda _: {"up": 1.0}, ())
