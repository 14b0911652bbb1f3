"""Adapter cards: ``card.json`` beside an adapter's tensors, read strictly."""

from __future__ import annotations

import json
import math
import re
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from srgui.errors import AdapterError
from srgui.lora.delta import Form
from srgui.lora.targets import Rank

SCHEMA = 1
Role = Literal["domain", "pixel", "semantic"]
_REQUIRED = {"schema": int, "title": str, "role": str, "base": dict, "scale": int, "rank": str, "form": str}
_OPTIONAL = {
    "alpha": (float, int, type(None)),
    "targets": list,
    "degradation": str,
    "recipe": dict,
    "metrics": dict,
    "licence": str,
    "description": str,
    "trained_on": str,
    "training_sha256": str,
    "cost": dict,
    "limits": str,
}
_CHOICES = {"role": typing.get_args(Role), "form": typing.get_args(Form)}


@dataclass(frozen=True)
class Base:
    """The model an adapter is for: its id, and sha256 of its weight file where that is known."""

    id: str
    sha256: str | None = None


@dataclass(frozen=True)
class AdapterCard:
    """What a ``card.json`` says; empty where it says nothing.

    Attributes:
        role: ``domain`` adapts to a kind of picture; ``pixel`` and ``semantic`` are the two of a guided pair.
        alpha: None where it is each layer's rank.
        metrics: before and after, on held-out pictures.
        training_sha256: of the list of training pictures.
        cost: what it costs on ordinary photographs.
        path: the folder, or the exported file, that the card was read from.
    """

    title: str
    role: Role
    base: Base
    scale: int
    rank: str
    form: Form
    alpha: float | None = None
    targets: tuple[str, ...] = ()
    degradation: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    licence: str = ""
    description: str = ""
    trained_on: str = ""
    training_sha256: str = ""
    cost: Mapping[str, Any] = field(default_factory=dict)
    limits: str = ""
    path: Path | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        """What the adapter is called: its folder's or file's name; empty for one that is not on disk."""
        if self.path is None:
            return ""
        return self.path.name if self.path.is_dir() else self.path.stem

    def as_json(self) -> str:
        """The text of ``card.json``."""
        content = {"schema": SCHEMA, **asdict(self)}
        del content["path"]
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        return text.encode("utf-8", "backslashreplace").decode()  # names of files may hold lone surrogates


def read_card(folder: Path) -> AdapterCard:
    """Read ``folder/card.json``.

    Raises:
        AdapterError: there is none, or a field is missing, unknown, of the wrong type or out of range.
    """
    path = folder / "card.json"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise AdapterError(f"{path} cannot be read: {error.strerror}; check the folder") from error
    except ValueError as error:
        raise AdapterError(f"{path} is not JSON ({error}); mend it, or remove its folder") from error
    return parse_card(text, path, folder)


def parse_card(text: str, where: Path, path: Path) -> AdapterCard:
    """A card from the text of a ``card.json``; ``where`` stands in messages, ``path`` on the card.

    Raises:
        AdapterError: as :func:`read_card`.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AdapterError(f"{where} is not JSON ({error}); mend it, or remove its folder") from error
    problems = _problems(content)
    if problems:
        raise AdapterError(f"{where}: {'; '.join(problems)}; mend it, or remove its folder")
    fields = {key: value for key, value in content.items() if key != "schema"}
    fields |= {"base": Base(**content["base"]), "targets": tuple(content.get("targets", ()))}
    return AdapterCard(**fields, path=path)


def _problems(content: Any) -> list[str]:
    if not isinstance(content, dict):
        return ["not an object"]
    known: dict[str, Any] = {**_REQUIRED, **_OPTIONAL}
    problems = [f"{key} is missing" for key in _REQUIRED if key not in content]
    problems += [f"unknown field {key}" for key in content if key not in known]
    for key, kinds in known.items():
        kinds = kinds if isinstance(kinds, tuple) else (kinds,)
        if key in content and type(content[key]) not in kinds:  # bool is an int to isinstance
            problems.append(f"{key} must be {' or '.join(kind.__name__ for kind in kinds)}")
    return problems or [*_base_problems(content["base"]), *_value_problems(content)]


def _base_problems(base: dict[str, Any]) -> list[str]:
    if not {"id"} <= base.keys() <= {"id", "sha256"} or not isinstance(base["id"], str):
        return ["base must be an object of id and sha256"]
    sha256 = base.get("sha256")
    if sha256 is not None and not (isinstance(sha256, str) and re.fullmatch("[0-9a-f]{64}", sha256)):
        return ["the sha256 of base must have 64 hexadecimal digits"]
    return []


def _value_problems(content: dict[str, Any]) -> list[str]:
    problems = [f"{key} {content[key]!r} is not one of {', '.join(of)}" for key, of in _CHOICES.items() if content[key] not in of]
    if content["schema"] != SCHEMA:
        problems.append(f"schema {content['schema']} is not {SCHEMA}; update srgui")
    if content["scale"] < 1:
        problems.append(f"scale {content['scale']} is not 1 or more")
    alpha = content.get("alpha")
    if alpha is not None and not 0 < alpha < math.inf:
        problems.append(f"alpha {alpha} is not above 0")
    if not all(isinstance(target, str) for target in content.get("targets", ())):
        problems.append("targets must be a list of patterns")
    try:
        Rank(content["rank"])
    except AdapterError as error:
        problems.append(str(error))
    return problems
