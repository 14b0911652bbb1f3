"""Controls as they were when a result was made, from what its file carries."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from srgui.errors import InputError, SrguiError
from srgui.images import Picture
from srgui.inference.engine import Engine
from srgui.inference.made import Made
from srgui.inference.mask import encode_mask
from srgui.inference.outscale import check_outscale
from srgui.lora.catalogue import named
from srgui.models.cards import all_cards
from srgui.protocol import Option


@dataclass(frozen=True, eq=False)  # Gradio hashes states, which by value would fail on the lists
class Restored:
    """The values of the controls on the Upscale tab; ``sent`` is what the viewer would have sent."""

    model: str
    scale: str
    stack: list[tuple[str, float]]
    pair: bool
    tile: int
    sent: dict[str, Any] = field(default_factory=dict)
    options: Mapping[str, Option] = field(default_factory=dict)


def restored(pictures: Sequence[Picture]) -> tuple[Restored | None, str]:
    """The controls of the first picture that srgui made, and what to tell of it, as HTML; empty where none was."""
    made = next(((picture, picture.settings) for picture in pictures if picture.settings is not None), None)
    if made is None:
        return None, ""
    name = html.escape(made[0].path.name if made[0].path else "the picture")
    try:
        found = _controls(Made.from_json(made[1]))
    except SrguiError as error:
        return None, f"<p>{name} was made by srgui, but its settings cannot be restored: {html.escape(str(error))}</p>"
    return found, f"<p>The settings of {name} are restored. To make it again, drop the picture that it was made from.</p>"


def _controls(made: Made) -> Restored:
    card = all_cards().get(made.model)
    if card is None or not card.present:
        raise InputError(f"the model {made.model} is not on this machine; see the Models tab")
    check_outscale(made.outscale, card.scale)
    if made.tile is not None:
        Engine(made.tile)  # which refuses one that is too small
    adapters = [(named(each.name, each.sha256), each.strength) for each in made.adapters]
    pair = all((name, 1.0) in adapters for name in card.pair)  # true where there is no choice: the next model may have one
    stack = [(name, strength) for name, strength in adapters if not (pair and name in card.pair)]
    setting = made.setting
    sent = {
        "values": dict(setting.values),
        "masked": None if setting.masked is None else dict(setting.masked),
        "mask": None if setting.mask is None else encode_mask(setting.mask),
    }
    return Restored(made.model, f"{made.outscale:g}", stack, pair, made.tile or 0, sent, made.options)
