"""Weights of unfolding networks: a folder with a card, the backbone and one file per setting, which swap without it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from srgui.errors import InputError, ModelError, OutputError, SrguiError, near
from srgui.models.cards import Card, check_name, read_card
from srgui.places import ASSETS, home
from srgui.unfolding.design import Design, read_design
from srgui.unfolding.network import Unfolding

FAMILY = "lorun"
UNKNOWN = "unknown"  # the setting of networks that are not told the kernel
BACKBONE = "backbone"  # the part with the denoiser; the others are settings: LoRA sets and physics


@dataclass(frozen=True)
class Setting:
    """What swaps on one backbone: a name such as ``25`` (percent), and the design it makes of the backbone's."""

    name: str
    path: Path


def users() -> Path:
    """Where the user's own unfolding networks are."""
    return home() / "unfolding"


def scan() -> tuple[dict[str, Card], list[str]]:
    """Unfolding networks by id, those that come with srgui first, and what is wrong with cards of the user."""
    own = (read_card(path.parent) for path in sorted((ASSETS / "unfolding").glob("*/card.json")))
    cards, problems = {card.id: card for card in own}, []
    for path in sorted(users().glob("*/card.json")):
        try:
            card = read_card(path.parent)
            design_of(card)
            cards.setdefault(card.id, card)
        except SrguiError as error:
            problems.append(str(error))
    return cards, problems


def find(model: str) -> Card:
    """The card of an unfolding network by id, or by the folder it lies in.

    Raises:
        ModelError: there is none; near names are listed.
    """
    if (Path(model) / "card.json").is_file():
        return read_card(Path(model))
    known, _ = scan()
    if model not in known:
        raise ModelError(f"there is no unfolding network {model!r}. {near(model, known)}")
    return known[model]


def settings(card: Card) -> dict[str, Setting]:
    """By name, in the card's order."""
    return {name: Setting(name, part.path) for name, part in card.parts.items() if name != BACKBONE}


def setting_of(design: Design) -> str:
    """The name of a network's setting: the ratio of CS in percent, ``unknown`` where the operator is, else the task."""
    if design.step == "learned":
        return UNKNOWN
    return f"{design.ratio:g}" if design.task == "cs" else design.task


def design_of(card: Card, setting: str | None = None) -> Design:
    """What the network of a card is made of in one of its settings (the first by default).

    Raises:
        InputError: there are no weights for that setting; those that there are are named.
        ModelError: the card is of no such network.
    """
    known = settings(card)
    if card.family != FAMILY or BACKBONE not in card.parts or not known:
        raise ModelError(f"{card.id} is no unfolding network with a backbone and a setting; mend its card")
    chosen = setting or next(iter(known))
    if chosen not in known:
        raise InputError(f"{card.id} has no weights for {chosen}; it has {', '.join(known)}")
    values = dict(card.network)
    own = values.pop("settings", {}).get(chosen, {})
    return read_design({**values, **own})


def load(card: Card, setting: str | None = None) -> Unfolding:
    """The network of a card in one of its settings (the first by default), frozen, on the CPU.

    Raises:
        InputError: as :func:`design_of`.
        ModelError: the files are missing or do not fit the card.
    """
    network = Unfolding(design_of(card, setting))
    known = settings(card)
    state = {**_read(card.parts[BACKBONE].path), **_read(known[setting or next(iter(known))].path)}
    expected = network.state_dict()
    wrong = sorted(expected.keys() ^ state.keys()) or [key for key in expected if expected[key].shape != state[key].shape]
    if wrong:
        raise ModelError(f"{len(wrong)} tensors of {card.id} do not fit its card ({', '.join(wrong[:3])}); get the files anew")
    network.load_state_dict({key: value.float() for key, value in state.items()})
    return network.requires_grad_(False).eval()


def _read(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"the weights {path} cannot be read ({error}); get the file anew") from error


def add(folder: Path, name: str | None = None) -> Card:
    """Copy a folder that a training or a comparison left, with its card, to the user's networks.

    Args:
        name: the id; by default the card's.

    Raises:
        ModelError: it is no unfolding network, its files do not fit, or the id is taken or not a plain name.
        OutputError: it cannot be written.
    """
    card = read_card(folder)
    identity = name or card.id
    check_name(identity)
    if identity in scan()[0]:
        raise ModelError(f"an unfolding network {identity!r} exists already; give another name with --name")
    for setting in settings(card) or [None]:
        load(card, setting)
    place = users() / identity
    content = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    try:
        place.mkdir(parents=True, exist_ok=True)  # without a card it is what an interrupted copy left
        for part in card.parts.values():
            shutil.copyfile(part.path, place / part.path.name)
        (place / "card.json").write_text(json.dumps({**content, "id": identity}, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{place} cannot be written: {error.strerror}; free some space, or set SRGUI_HOME") from error
    return read_card(place)


def parts_of(network: Unfolding) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The tensors of the backbone, and those of the setting: LoRA sets and physics."""
    state = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    backbone = {key: value for key, value in state.items() if key.startswith("denoisers.")}
    return backbone, {key: value for key, value in state.items() if key not in backbone}


def write(folder: Path, card: Mapping[str, Any], network: Unfolding, setting: str, *, half: bool = True) -> None:
    """Write a network's backbone, its setting and the card; another setting of the same backbone may be there already.

    Args:
        half: in float16. What it costs is for the caller to measure.

    Raises:
        OutputError: the folder cannot be written.
        InputError: there is another backbone.
    """
    from safetensors.torch import save_file

    kind = torch.float16 if half else torch.float32
    backbone, own = ({key: value.to(kind) for key, value in part.items()} for part in parts_of(network))
    path = folder / f"{BACKBONE}.safetensors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists() and not _same(_read(path), backbone):
            raise InputError(f"{folder} holds another backbone; write the setting {setting} into another folder")
        save_file(backbone, path)
        save_file(own, folder / f"setting-{setting}.safetensors")
        (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
        for written in folder.glob("*.safetensors"):
            written.chmod(0o644)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror}; choose another folder") from error


def _same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def digest(network: Unfolding) -> str:
    """sha256 of all tensors, by name."""
    total = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        total.update(key.encode())
        total.update(value.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()
