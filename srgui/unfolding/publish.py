"""From a training to a folder with weights and a card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from srgui import __version__
from srgui.models.cards import SCHEMA
from srgui.unfolding.files import BACKBONE, FAMILY, setting_of, write
from srgui.unfolding.learning import Phase
from srgui.unfolding.network import Unfolding

TITLES = {"sr": "LoRun super-resolution", "cs": "LoRun compressive sensing", "cassi": "LoRun spectral imaging"}


def card_of(name: str, network: Unfolding, phases: Sequence[Phase]) -> dict[str, Any]:
    """A card for a network that was trained here."""
    design, setting = network.design, setting_of(network.design)
    return {
        "schema": SCHEMA,
        "id": name,
        "family": FAMILY,
        "scale": 2 if design.task == "sr" else 1,
        "parts": {BACKBONE: f"{BACKBONE}.safetensors", setting: f"setting-{setting}.safetensors"},
        "title": TITLES[design.task],
        "licence": "unknown",
        "network": design.as_dict(),
        "training": {"srgui": __version__, setting: [phase.as_json() for phase in phases]},
    }


def publish(folder: Path, name: str, network: Unfolding, phases: Sequence[Phase]) -> Path:
    """Write the weights in float16 and the card into ``folder``, and return it.

    Where another setting of the same backbone lies there already, this one comes beside it.

    Raises:
        OutputError: it cannot be written.
    """
    card = card_of(name, network, phases)
    if (folder / "card.json").is_file():
        card = _joined(json.loads((folder / "card.json").read_text(encoding="utf-8")), card, setting_of(network.design))
    write(folder, card, network, setting_of(network.design))
    return folder


def _joined(there: dict[str, Any], new: dict[str, Any], setting: str) -> dict[str, Any]:
    """A card with another setting on it: what its network has otherwise."""
    base = {name: value for name, value in there["network"].items() if name != "settings"}
    own = {name: value for name, value in new["network"].items() if base.get(name) != value}
    return {
        **there,
        "parts": {**there["parts"], **new["parts"]},
        "network": {**base, "settings": {**there["network"].get("settings", {}), setting: own}},
        "training": {**there.get("training", {}), **new["training"]},
    }
