"""Model cards: ``card.json`` beside weights, read strictly, and the folders in which they are looked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from srgui.errors import ModelError, near
from srgui.places import ASSETS, home

SCHEMA = 1
DEFAULT_MODEL = "srgui-compact-x4"
_REQUIRED = {"schema": int, "id": str, "family": str, "scale": int, "parts": dict, "title": str, "licence": str}
_OPTIONAL = {"description": str, "source": str, "trained_on": str, "metrics": dict, "training": dict}


@dataclass(frozen=True)
class Part:
    """One file a model is made of; ``url`` and ``sha256`` where it can be downloaded."""

    path: Path
    url: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Card:
    """What a ``card.json`` says. ``family`` decides what runs it; ``parts`` are its files by role (``weights``)."""

    id: str
    family: str
    scale: int
    parts: Mapping[str, Part]
    title: str
    licence: str
    description: str = ""
    source: str = ""
    trained_on: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None

    @property
    def present(self) -> bool:
        """Whether every part is on this machine."""
        return all(part.path.exists() for part in self.parts.values())

    @property
    def downloadable(self) -> bool:
        return all(part.path.exists() or part.url for part in self.parts.values())


def read_card(folder: Path) -> Card:
    """Read ``folder/card.json``. A part that has a URL and is not beside the card lives in the user's models folder.

    Raises:
        ModelError: there is none, or a field is missing, unknown or of the wrong type.
    """
    path = folder / "card.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error}") from error
    problems = _problems(content)
    if problems:
        raise ModelError(f"{path}: {'; '.join(problems)}")
    parts = {role: _part(folder, content["id"], value) for role, value in content["parts"].items()}
    fields = {key: content[key] for key in (*_REQUIRED, *_OPTIONAL) if key in content and key not in ("schema", "parts")}
    return Card(parts=parts, folder=folder, **fields)


def _problems(content: Any) -> list[str]:
    if not isinstance(content, dict):
        return ["not an object"]
    known = _REQUIRED | _OPTIONAL
    problems = [f"{key} is missing" for key in _REQUIRED if key not in content]
    problems += [f"unknown field {key}" for key in content if key not in known]
    problems += [f"{key} must be {kind.__name__}" for key, kind in known.items() if not isinstance(content.get(key, kind()), kind)]
    if not problems and content["schema"] != SCHEMA:
        problems.append(f"schema {content['schema']} is not {SCHEMA}; update srgui")
    if not problems and not _is_name(content["id"]):
        problems.append(f"id {content['id']!r} is not a plain name")
    for role, part in content.get("parts", {}).items() if isinstance(content.get("parts"), dict) else ():
        file = part.get("file") if isinstance(part, dict) else part
        if not isinstance(file, str) or not _is_name(file):
            problems.append(f"part {role} must name a file in the card's own folder")
    return problems


def _is_name(text: str) -> bool:
    return bool(text) and text == Path(text).name and not text.startswith(".")


def _part(folder: Path, model: str, value: str | Mapping[str, str]) -> Part:
    if isinstance(value, str):
        return Part(folder / value)
    beside = folder / value["file"]
    downloaded = models_folder() / model / value["file"]
    return Part(beside if beside.exists() or "url" not in value else downloaded, value.get("url"), value.get("sha256"))


def models_folder() -> Path:
    """Where the user's own and downloaded models are."""
    return home() / "models"


def all_cards() -> dict[str, Card]:
    """Cards by id: those that come with srgui, the default first, then the user's."""
    cards: dict[str, Card] = {}
    for place in (ASSETS / "models", models_folder()):
        for path in sorted(place.glob("*/card.json")):
            card = read_card(path.parent)
            cards.setdefault(card.id, card)
    return dict(sorted(cards.items(), key=lambda item: item[0] != DEFAULT_MODEL))


def find_card(model: str) -> Card:
    """The card for an id, a path to a card or its folder, or a path to a bare weight file.

    Raises:
        ModelError: there is no such model; near names are listed.
    """
    path = Path(model).expanduser()
    if path.name == "card.json" and path.is_file():
        return read_card(path.parent)
    if (path / "card.json").is_file():
        return read_card(path)
    if path.is_file():
        return Card(path.stem, "spandrel", 0, {"weights": Part(path)}, path.stem, "unknown")
    cards = all_cards()
    if model in cards:
        return cards[model]
    if path.suffix in (".pth", ".safetensors", ".pt", ".ckpt"):
        raise ModelError(f"the weight file {model} does not exist; check the path, or use a known model: {', '.join(cards)}")
    raise ModelError(f"unknown model {model!r}. {near(model, cards)}")
