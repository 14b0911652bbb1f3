"""From a model's name to a restorer: the one place that knows which family is run by which class."""

from __future__ import annotations

from importlib import import_module

from srgui.device import pick
from srgui.errors import ModelError, near
from srgui.models.cards import DEFAULT_MODEL, find_card
from srgui.protocol import Restorer

FAMILIES = {
    "spandrel": "srgui.inference.pixel:PixelRestorer",
    "srcnn": "srgui.inference.pixel:PixelRestorer",
    "bicubic": "srgui.inference.pixel:BicubicRestorer",
}


def open_restorer(model: str = DEFAULT_MODEL, *, device: str = "auto", tile: int | None = None) -> Restorer:
    """The restorer for a model's id, card or weight file.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        tile: side of a tile in LR pixels; None chooses it from free memory.

    Raises:
        ModelError: unknown model or family, weights missing or unusable.
        InputError: a device that is not there, or a tile that is too small.
    """
    from srgui.inference.engine import Engine

    card = find_card(model)
    if card.family not in FAMILIES:
        raise ModelError(f"{card.id} is of the unknown family {card.family!r}; update srgui. {near(card.family, FAMILIES)}")
    if not card.present:
        remedy = f"get them with: python -m srgui models download {card.id}" if card.downloadable else "mend or remove its card"
        raise ModelError(f"the weights of {card.id} are not on this machine; {remedy}")
    module, name = FAMILIES[card.family].split(":")
    family = getattr(import_module(module), name)
    restorer: Restorer = family.open(card, pick(device), Engine(tile))
    return restorer
