"""Restorers whose network gives pixels: any SR network, and bicubic interpolation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from srgui.errors import AdapterError, ModelError
from srgui.inference.engine import Engine
from srgui.inference.guidance import PIXEL, SEMANTIC, Blend, base_weights, pair_weights
from srgui.inference.planes import Computed, Plane, Upsampled
from srgui.lora.adapter import Adapter, attach, check_fits
from srgui.models.cards import Card
from srgui.models.load import load_network
from srgui.models.network import Network
from srgui.protocol import Attached, Forecast, RestorerInfo, Run, Source

Strengths = Sequence[tuple[Adapter, float]]


class PixelRestorer:
    """A network of any architecture, with any domain adapters on it, and with a guided pair or without.

    Without a pair its planes are ``up`` and ``full``. Of a pair, ``pix`` has the pixel adapter on it and ``full`` both; either
    may be missing, and a plane is then that of the network without it.
    """

    def __init__(self, network: Network, info: RestorerInfo, engine: Engine, adapters: Strengths = ()) -> None:
        """
        Raises:
            AdapterError: an adapter is for another base, or two have the same role in a pair.
        """
        for adapter, _ in adapters:
            check_fits(network.module, adapter, network.digest)
        self.network, self.engine = network, engine
        semantic, others = split_pair(adapters)
        self._pix = _adapted(network, others)
        self._full = _adapted(network, [*others, *semantic]) if semantic else self._pix
        self._weights = pair_weights if semantic else base_weights
        controls = (PIXEL, SEMANTIC) if semantic else (PIXEL,)
        attached = tuple(Attached(a.card.name, strength, a.card.role, a.digest) for a, strength in adapters)
        self.info = replace(info, controls=controls, digest=network.digest, adapters=attached, tile=engine.tile)

    @classmethod
    def open(cls, card: Card, device: torch.device, engine: Engine, adapters: Strengths = ()) -> PixelRestorer:
        """Load the card's weights, and put adapters on them.

        Raises:
            ModelError: they cannot be used, or are not of the scale the card says.
            AdapterError: an adapter is for another base, or two have the same role in a pair.
        """
        if "weights" not in card.parts:
            raise ModelError(f"the card of {card.id} names no part 'weights', which {card.family} needs; mend its card")
        network = load_network(card.parts["weights"].path, device)
        if card.scale and card.scale != network.scale:
            raise ModelError(f"{card.id} says x{card.scale}, but its weights are for x{network.scale}; mend its card")
        info = RestorerInfo(card.id, card.title, card.family, network.scale, card.licence)
        return cls(network, info, engine, adapters)

    def forecast(self, height: int, width: int) -> Forecast:
        return self.engine.forecast(self.network, height, width)

    def prepare(self, source: Source, run: Run) -> Blend:
        lr, scale = source.lr, self.network.scale
        size = lr.shape[-2] * scale, lr.shape[-1] * scale

        def plane(network: Network) -> Computed:
            return Computed(size, lambda store, run: self.engine.run(network, lr, store, run))

        planes: dict[str, Plane] = {"up": Upsampled(lr, scale), "full": plane(self._full)}
        if self._full is not self._pix:
            planes["pix"] = plane(self._pix)
        return Blend(planes, self._weights, self.info.controls)


def split_pair(adapters: Strengths) -> tuple[Strengths, Strengths]:
    """The semantic adapter where there is one, and the others.

    Raises:
        AdapterError: two have the same role in a pair.
    """
    for role in ("pixel", "semantic"):
        found = [adapter.card.name for adapter, _ in adapters if adapter.card.role == role]
        if len(found) > 1:
            raise AdapterError(f"{found[0]} and {found[1]} are both {role} adapters, and a pair has one; leave one out")
    semantic = [part for part in adapters if part[0].card.role == "semantic"]
    return semantic, [part for part in adapters if part[0].card.role != "semantic"]


def _adapted(network: Network, adapters: Strengths) -> Network:
    return network.with_module(attach(network.module, adapters)) if adapters else network


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
