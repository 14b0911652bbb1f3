"""PiSA-SR (arXiv 2412.03017): super-resolution in one step of Stable Diffusion, steered by two scales."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, replace

import torch
from torch import nn

from srgui.diffusion.base import StableDiffusion, base_of, load_base
from srgui.diffusion.blend import Guided, LatentBlend
from srgui.diffusion.latents import windows
from srgui.diffusion.memory import Tiling, budget_on, decoder_tiles, encoder_tiles, fitting, operations_per_second
from srgui.diffusion.options import Options
from srgui.diffusion.sizes import sizes_of
from srgui.diffusion.tiny import open_tiny
from srgui.errors import AdapterError
from srgui.inference.engine import Engine
from srgui.inference.guidance import PIXEL, SEMANTIC
from srgui.inference.pixel import Strengths, split_pair
from srgui.lora.adapter import Adapter, check_fits
from srgui.lora.card import Base
from srgui.lora.files import read_adapter
from srgui.lora.live import attach_live
from srgui.lora.pisa import read_pisa
from srgui.models.cards import Card
from srgui.protocol import Attached, Forecast, RestorerInfo, Run, Source

_PICTURES = 4 * 3 * 4  # bytes a pixel: the decoded picture, its source, and two steps of the colour fix between them, in float32
CONTROLS = (
    replace(
        PIXEL,
        help="How much of the degradation is removed (lambda_pix of PiSA-SR): 0 leaves the picture as it is, 1 restores it.",
        cost="decode",
    ),
    replace(
        SEMANTIC,
        help="How much detail Stable Diffusion draws (lambda_sem of PiSA-SR): 0 is the faithful picture, 1 the crisp one.",
        cost="decode",
    ),
)


def pair_weights(values: Mapping[str, float]) -> Mapping[str, float]:
    """``z_H = z_L - pixel * eps_pix - semantic * (eps_full - eps_pix)`` (Eqs. 7 and 8), sorted by planes."""
    pixel, semantic = values["pixel"], values["semantic"]
    return {"z_L": 1.0, "eps_pix": semantic - pixel, "eps_full": -semantic}


def single_weights(values: Mapping[str, float]) -> Mapping[str, float]:
    """Without a semantic adapter: ``z_H = z_L - pixel * eps_full``."""
    return {"z_L": 1.0, "eps_full": -values["pixel"]}


class PisaRestorer:
    """A base with PiSA-SR's pair on its UNet, and with any domain adapters beneath.

    The networks of the planes share the UNet's weights; the adapters are applied layer by layer while a network runs.

    Args:
        own: adapters that belong to the model and are part of its digest, not named among those attached.
        tiny: a small decoder for pictures that are shown while a slider moves.
        tiling: sizes; tiles are made smaller where memory is short.

    Raises:
        AdapterError: an adapter is for another base, or two have the same role in a pair.
    """

    def __init__(
        self,
        base: StableDiffusion,
        info: RestorerInfo,
        adapters: Strengths = (),
        own: tuple[Adapter, ...] = (),
        tiling: Tiling | None = None,
        tile: int | None = None,
        tiny: nn.Module | None = None,
    ) -> None:
        parts = [*((adapter, 1.0) for adapter in own), *adapters]
        for adapter, _ in parts:
            check_fits(base.unet, adapter, base.digest)
        semantic, others = split_pair(parts)
        networks = {"eps_full": attach_live(base.unet, parts)}
        if semantic:
            networks["eps_pix"] = attach_live(base.unet, others)
        weights, controls = (pair_weights, CONTROLS) if semantic else (single_weights, CONTROLS[:1])
        self.base, self.own, self.tile = base, own, tile
        self.tiling = tiling or Tiling()
        self.guided = Guided(base, networks, weights, controls, info.scale, tiny)
        attached = tuple(Attached(a.card.name, strength, a.card.role, a.digest) for a, strength in adapters)
        self.info = replace(
            info,
            controls=controls,
            digest=_digest(base, own),
            adapters=attached,
            tile=tile,
            options=asdict(Options()),
            previews=tiny is not None,
        )

    @classmethod
    def open(cls, card: Card, device: torch.device, engine: Engine, adapters: Strengths = ()) -> PisaRestorer:
        """Load the card's parts: ``base``, a folder in diffusers' layout, and, where the card has them, the pair: ``lora``,
        PiSA-SR's own file, or ``pixel`` and ``semantic``, two that srgui wrote. An adapter of the same role in ``adapters``
        takes their place. Without a pair it is the plain base. With a tiny decoder (:func:`srgui.diffusion.tiny.open_tiny`) small
        pictures follow a slider while it moves.

        Raises:
            ModelError: diffusers is missing, or the base cannot be used.
            AdapterError: an adapter cannot be read, is for another base, or two have the same role in a pair.
        """
        base = load_base(base_of(card), device)
        roles = {adapter.card.role for adapter, _ in adapters} & {"pixel", "semantic"}
        own = tuple(adapter for adapter in _own(card, base) if adapter.card.role not in roles)
        info = RestorerInfo(card.id, card.title, card.family, card.scale, card.licence)
        return cls(base, info, adapters, own, tile=engine.tile, tiny=open_tiny(card, base.channels, device))

    def forecast(self, height: int, width: int) -> Forecast:
        """What an LR picture of this size will take at (1, 1); ``memory`` includes the weights."""
        base, costs = self.base, self.base.costs
        tiling = self._fitted()
        process = sizes_of(height, width, self.info.scale, tiling.process, base.factor).process
        latent = process[0] // base.factor, process[1] // base.factor
        boxes = windows(*latent, tiling.latent, tiling.overlap)
        areas = [box.height * box.width for box in boxes]
        encoder = encoder_tiles(costs, base.vae, base.factor, latent, tiling.encoder)
        decoder = decoder_tiles(costs, base.vae, latent, tiling.decoder)
        unet = int(max(areas) * costs.unet.memory + costs.constant)
        host = max(encoder.waiting, decoder.waiting) + process[0] * process[1] * _PICTURES
        work = base.bytes + max(unet, encoder.working, decoder.working)
        steps = sum(areas) * costs.unet.operations / self._speed(base.precision.unet)
        coding, move = (half.operations / self._speed(base.precision.vae) for half in (encoder, decoder))
        seconds = steps + coding + move
        first = steps if "eps_pix" in self.guided.networks else 0.0
        if base.device.type == "cpu":
            return Forecast(len(boxes), work + host, seconds, move=move, first_move=first)
        return Forecast(len(boxes), work, seconds, host=host, move=move, first_move=first)

    def prepare(self, source: Source, run: Run) -> LatentBlend:
        """Encode the picture; the UNet runs when a plane is first needed. ``source.extras``: see :class:`Options`.

        Raises:
            InputError: an option is unknown, or of the wrong type.
            MemoryLimitError: not even the smallest tile fits. Cancelled: between two tiles.
        """
        options, tiling = Options.of(source.extras), self._fitted()
        sizes = sizes_of(source.lr.shape[-2], source.lr.shape[-1], self.info.scale, tiling.process, self.base.factor)
        return LatentBlend(self.guided, source.lr, sizes, options, tiling, run)

    def _fitted(self) -> Tiling:
        """The tiles that were asked for, or those that fit into the memory there is."""
        base, tiling = self.base, self.tiling
        if self.tile is not None:
            side = max(1, self.tile * self.info.scale // base.factor)
            smaller = tiling if side == tiling.latent else tiling.with_latent(side)
            return replace(smaller, encoder=side * base.factor, decoder=side)
        return fitting(tiling, base.costs, base.vae, base.factor, budget_on(base.device))

    def _speed(self, dtype: torch.dtype) -> float:
        return operations_per_second(self.base.device, dtype)


def _own(card: Card, base: StableDiffusion) -> tuple[Adapter, ...]:
    """The adapters among a card's parts."""
    if "lora" in card.parts:
        return read_pisa(card.parts["lora"].path, base.unet, Base(card.id, base.digest), card.scale)
    found = tuple(read_adapter(card.parts[role].path) for role in ("pixel", "semantic") if role in card.parts)
    for adapter, role in zip(found, (role for role in ("pixel", "semantic") if role in card.parts), strict=True):
        if adapter.card.role != role:
            raise AdapterError(f"the part {role} of {card.id} is a {adapter.card.role} adapter; mend its card")
    return found


def _digest(base: StableDiffusion, own: tuple[Adapter, ...]) -> str:
    return hashlib.sha256(" ".join([base.digest, *(adapter.digest for adapter in own)]).encode()).hexdigest()
