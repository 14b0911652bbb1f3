"""How a result was made: what its file carries, and from which it can be made again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from srgui import __version__
from srgui.errors import InputError
from srgui.images import read_settings
from srgui.inference.mask import decode_mask, encode_mask
from srgui.protocol import Attached, Option, RestorerInfo, Setting


@dataclass(frozen=True)
class Made:
    """Model, adapters, scales, mask, size and options of a result, and the version that made it.

    ``tile`` is the side that was asked for, None where it was chosen from free memory.
    """

    model: str
    model_sha256: str | None
    adapters: tuple[Attached, ...]
    outscale: float
    setting: Setting
    tile: int | None = None
    version: str = __version__
    options: Mapping[str, Option] = field(default_factory=dict)

    @classmethod
    def by(cls, info: RestorerInfo, setting: Setting, outscale: float, options: Mapping[str, Option] | None = None) -> Made:
        """What a restorer of ``info`` makes at ``setting``, whose values are complete."""
        return cls(info.id, info.digest, info.adapters, outscale, setting, info.tile, options=options or {})

    def as_json(self) -> dict[str, Any]:
        mask = self.setting.mask
        return {
            "version": self.version,
            "model": self.model,
            "model_sha256": self.model_sha256,
            "adapters": [asdict(adapter) for adapter in self.adapters],
            "outscale": self.outscale,
            "values": dict(self.setting.values),
            "masked": None if self.setting.masked is None else dict(self.setting.masked),
            "mask": None if mask is None else encode_mask(mask),
            "tile": self.tile,
            "options": dict(self.options),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Made:
        """
        Raises:
            InputError: something is missing, or of another kind.
        """
        try:
            masked, mask, tile = content.get("masked"), content.get("mask"), content.get("tile")
            setting = Setting(
                _numbers(content["values"]),
                None if masked is None else _numbers(masked),
                None if mask is None else decode_mask(_text(mask)),
            )
            return cls(
                _text(content["model"]),
                None if content["model_sha256"] is None else _text(content["model_sha256"]),
                tuple(_attached(each) for each in content["adapters"]),
                _number(content["outscale"]),
                setting,
                None if tile is None else int(tile),
                _text(content["version"]),
                {_text(name): _option(value) for name, value in content.get("options", {}).items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError("its settings are not as srgui writes them; take another file") from error


def made(path: Path) -> Made:
    """How the result in a file was made.

    Raises:
        InputError: the file is no picture, or carries no settings of srgui, or broken ones.
    """
    content = read_settings(path)
    if content is None:
        raise InputError(f"{path} carries no settings of srgui; give a file as srgui saved it")
    try:
        return Made.from_json(content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _attached(content: Mapping[str, Any]) -> Attached:
    role = _text(content["role"])
    return Attached(_text(content["name"]), _number(content["strength"]), role, _text(content["sha256"]))


def _numbers(content: Mapping[str, Any]) -> dict[str, float]:
    return {_text(name): _number(value) for name, value in content.items()}


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise TypeError(f"{value!r} is not a number")
    return float(value)


def _option(value: Any) -> Option:
    if not isinstance(value, (str, bool, int, float)):
        raise TypeError(f"{value!r} is no value of an option")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value
