"""Model cards: ``card.json`` beside weights, read strictly, and the folders in which they are looked for."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from srgui.errors import ModelError, near
from srgui.places import ASSETS, PLAIN_NAME, home, is_plain_name

SCHEMA = 1
DEFAULT_MODEL = "srgui-compact-x4"
_REQUIRED = {"schema": int, "id": str, "family": str, "scale": int, "parts": dict, "title": str, "licence": str}
_OPTIONAL = {"description": str, "source": str, "trained_on": str, "metrics": dict, "training": dict, "network": dict, "pair": list}


@dataclass(frozen=True)
class Part:
    """One file a model is made of; ``url`` and ``sha256`` where it can be downloaded.

    Or a folder in diffusers' layout, with the ``hub`` id under which Hugging Face has it, where it can be downloaded.
    """

    path: Path
    url: str | None = None
    sha256: str | None = None
    hub: str | None = None


@dataclass(frozen=True)
class Card:
    """What a ``card.json`` says. ``family`` decides what runs it; ``parts`` are its files by role (``weights``).

    ``network`` is its shape for :func:`srgui.models.build.build`, or those of its parts by name, so that it can be reasoned about
    before it is downloaded.
    ``pair`` names its pixel and its semantic adapter, where it has them.
    """

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
    network: Mapping[str, Any] = field(default_factory=dict)
    pair: tuple[str, ...] = ()
    folder: Path | None = None

    @property
    def present(self) -> bool:
        """Whether every part is on this machine."""
        return all(part.path.exists() for part in self.parts.values())

    @property
    def downloadable(self) -> bool:
        return all(part.path.exists() or part.url or part.hub for part in self.parts.values())

    @property
    def remedy(self) -> str:
        """What to do where it is not :attr:`present`."""
        return f"get them with: python -m srgui models download {self.id}" if self.downloadable else "mend or remove its card"


def read_card(folder: Path) -> Card:
    """Read ``folder/card.json``. A part that has a URL and is not beside the card lives in the user's models folder.

    Raises:
        ModelError: there is none, or a field is missing, unknown or of the wrong type.
    """
    path = folder / "card.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}; check the folder") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not JSON ({error}); mend it, or remove its folder") from error
    problems = _problems(content)
    if problems:
        raise ModelError(f"{path}: {'; '.join(problems)}; mend it, or remove its folder")
    parts = {role: _part(folder, content["id"], value) for role, value in content["parts"].items()}
    fields = {key: content[key] for key in (*_REQUIRED, *_OPTIONAL) if key in content and key not in ("schema", "parts")}
    return Card(parts=parts, folder=folder, **{**fields, "pair": tuple(fields.get("pair", ()))})


def _problems(content: Any) -> list[str]:
    if not isinstance(content, dict):
        return ["not an object"]
    known = _REQUIRED | _OPTIONAL
    problems = [f"{key} is missing" for key in _REQUIRED if key not in content]
    problems += [f"unknown field {key}" for key in content if key not in known]
    # bool is an int to isinstance, so types are compared
    problems += [f"{key} must be {kind.__name__}" for key, kind in known.items() if type(content.get(key, kind())) is not kind]
    if not problems and content["schema"] != SCHEMA:
        problems.append(f"schema {content['schema']} is not {SCHEMA}; update srgui")
    if not problems and not is_plain_name(content["id"]):
        problems.append(f"id {content['id']!r} is not a plain name")
    if not all(isinstance(name, str) for name in content.get("pair", ())):
        problems.append("pair must be names of adapters")
    if not problems and content["scale"] < 1:
        problems.append(f"scale {content['scale']} is not 1 or more")
    if isinstance(content.get("parts"), dict):
        problems += [problem for role, part in content["parts"].items() for problem in _part_problems(role, part)]
    return problems


def _part_problems(role: str, part: Any) -> list[str]:
    part = {"file": part} if isinstance(part, str) else part
    if not isinstance(part, dict) or not all(isinstance(value, str) for value in part.values()):
        return [f"part {role} must be a file name, or an object of file, url and sha256"]
    problems = [f"part {role} has an unknown field {key}" for key in part if key not in ("file", "folder", "url", "sha256", "hub")]
    if "folder" in part and not ({"folder"} == part.keys() and Path(part["folder"]).expanduser().is_absolute()):
        problems.append(f"the folder of part {role} must be an absolute path, and its only field")
    if "folder" not in part and not is_plain_name(part.get("file", "")):
        problems.append(f"part {role} must name a file in the card's own folder")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", part.get("hub", "a/b")) or {"hub", "url"} <= part.keys():
        problems.append(f"the hub id of part {role} must be owner/name, and stand in place of a url")
    if not part.get("url", "https://").startswith(("https://", "http://")):
        problems.append(f"the url of part {role} must begin with https:// or http://")
    if not re.fullmatch("[0-9a-f]{64}", part.get("sha256", "0" * 64)):
        problems.append(f"the sha256 of part {role} must have 64 hexadecimal digits")
    return problems


def check_name(text: str) -> None:
    """Refuse what cannot be the id of a model: it becomes a folder's name.

    Raises:
        ModelError: it is not a plain name.
    """
    if not is_plain_name(text):
        raise ModelError(f"{text!r} cannot be a model's id; {PLAIN_NAME}")


def new_model_name(text: str) -> None:
    """See that a model can be called so and none is yet.

    Raises:
        ModelError: it is not a plain name, or taken.
    """
    check_name(text)
    if text in all_cards():
        raise ModelError(f"a model {text!r} exists already; give another name")


def _part(folder: Path, model: str, value: str | Mapping[str, str]) -> Part:
    if isinstance(value, str):
        return Part(folder / value)
    if "folder" in value:
        return Part(Path(value["folder"]).expanduser())
    beside = folder / value["file"]
    downloaded = models_folder() / model / value["file"]
    here = beside.exists() or not {"url", "hub"} & value.keys()
    return Part(beside if here else downloaded, value.get("url"), value.get("sha256"), value.get("hub"))


def models_folder() -> Path:
    """Where the user's own and downloaded models are."""
    return home() / "models"


def all_cards() -> dict[str, Card]:
    """Cards by id: those that come with srgui, the default first, then the user's, as far as they can be read."""
    return scan()[0]


def scan() -> tuple[dict[str, Card], list[str]]:
    """All cards by id, and what is wrong with those of the user that cannot be read: one bad card disables only itself."""
    cards = {card.id: card for card in (read_card(path.parent) for path in sorted((ASSETS / "models").glob("*/card.json")))}
    problems = []
    for path in sorted(models_folder().glob("*/card.json")):
        try:
            card = read_card(path.parent)
        except ModelError as error:
            problems.append(str(error))
        else:
            cards.setdefault(card.id, card)
    return dict(sorted(cards.items(), key=lambda item: item[0] != DEFAULT_MODEL)), problems


def find_card(model: str) -> Card:
    """The card for an id, a path to a card or its folder, or a path to a bare weight file.

    Raises:
        ModelError: there is no such model; near names are listed.
    """
    path = Path(os.path.expanduser(model))  # noqa: PTH111 - Path.expanduser raises for a user that is not there
    # os.path, because Path.is_file raises for a name that is too long
    if path.name == "card.json" and os.path.isfile(path):  # noqa: PTH113
        return read_card(path.parent)
    if os.path.isfile(path / "card.json"):  # noqa: PTH113
        return read_card(path)
    if os.path.isfile(path):  # noqa: PTH113
        return Card(path.stem, "spandrel", 0, {"weights": Part(path)}, path.stem, "unknown")
    cards = all_cards()
    if model in cards:
        return cards[model]
    if path.suffix.lower() in (".pth", ".safetensors", ".pt", ".ckpt"):
        raise ModelError(f"the weight file {model} does not exist; check the path, or use a known model: {', '.join(cards)}")
    raise ModelError(f"unknown model {model!r}. {near(model, cards)}")
