"""Recipes: everything that decides what a training gives, besides the pictures and the network it starts from."""

from __future__ import annotations

import json
import math
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from srgui.errors import InputError, near
from srgui.lora.card import Role
from srgui.training.losses import PerceptualKind, PixelKind


@dataclass(frozen=True)
class Recipe:
    """How to train.

    What learns: ``method`` ``lora`` trains adapters of ``rank`` (an integer, or a percentage as ``10%``; see
    :mod:`srgui.lora`) on the layers whose names match ``targets``; ``full`` trains these layers themselves.

    What is shown: patches of ``patch`` LR pixels, ``batch`` of them over all processes together, each process taking ``micro``
    at a time (0: all) and adding up their gradients; with ``resize``, whole
    pictures resized to that many HR pixels on both sides instead. With a ``zoom`` below 1 each picture is also shown shrunk by
    that factor and by its square root, so that what is learned holds for smaller print too. ``degradation`` makes LR from HR,
    and a share ``noisy`` of the LR patches gets strong noise on top.

    What is minimised: ``content`` times the ``loss``, plus ``perceptual`` times the distance of features of
    ``perceptual_net``, plus ``adversarial`` times the relativistic loss against a discriminator, plus ``grid`` times the error
    that repeats with the period of the upsampling, plus ``norm_penalty`` times |A|^2 + |B|^2 of all adapted layers. For models on
    Stable Diffusion, plus ``distil`` times the classifier score distillation towards ``prompt``, what the pictures show.

    With a ``jitter`` the perceptual distance is taken between views of both pictures that are resized by the same random factor
    from 1 - jitter to 1 + jitter and turned alike: a network with strides does not see patterns of its own period, such as the
    grid that an upsampling network draws, and the two would agree on them. ``discriminator`` is the width of its first layer.

    ``role`` is what an adapter is for: a ``domain``, or one of the two of a guided pair, ``pixel`` or ``semantic``.

    How: ``lr`` rises over ``warmup`` steps, then stays or falls on a cosine (``schedule``) that reaches zero at ``horizon``
    (0: at the last step), and over the last ``cooldown`` steps goes to zero linearly. ``muon`` takes the weights of
    convolutions with ``lr`` and leaves the rest, and a discriminator, to Adam with ``lr_rest``. ``clip`` bounds the norm of
    the gradient (0: no bound). The weights used are the exponential average with decay ``ema`` (0: the last). ``steps``, or
    ``epochs`` over the pictures where that is not 0.

    When to stop: every ``validate_every`` steps ``metric`` is measured on ``held_out`` pictures (0: about 15% of them); the
    best weights are kept, and after ``patience`` measurements without a better one training ends (0: never early). ``psnr_y``
    is on Y, ``psnr`` over RGB or, for unfolding networks, in their task's protocol.
    """

    method: Literal["lora", "full"] = "lora"
    targets: tuple[str, ...] = ("*",)
    rank: str = "8"
    alpha: float = 0.0
    form: Literal["conv", "reshape"] = "conv"
    rslora: bool = False
    dora: bool = False
    role: Role = "domain"
    degradation: str = "bicubic"
    patch: int = 32
    batch: int = 16
    micro: int = 0
    resize: int = 0
    zoom: float = 1.0
    noisy: float = 0.0
    loss: PixelKind = "l1"
    content: float = 1.0
    perceptual: float = 0.0
    perceptual_net: PerceptualKind = "auto"
    jitter: float = 0.0
    adversarial: float = 0.0
    discriminator: int = 64
    grid: float = 0.0
    norm_penalty: float = 0.0
    distil: float = 0.0
    prompt: str = ""
    optimizer: Literal["adam", "muon"] = "adam"
    lr: float = 3e-3
    lr_rest: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.99
    decay: float = 0.0
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: int = 20
    horizon: int = 0
    cooldown: int = 0
    clip: float = 0.0
    ema: float = 0.99
    steps: int = 1000
    epochs: int = 0
    metric: Literal["psnr_y", "psnr", "lpips"] = "psnr_y"
    validate_every: int = 100
    patience: int = 6
    held_out: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, kind in _KINDS.items():
            _check(name, kind, getattr(self, name))
        if self.content == self.perceptual == self.adversarial == 0:
            raise InputError("a recipe with content, perceptual and adversarial all 0 has nothing to minimise; set one of them")
        if self.zoom > 1:
            raise InputError(f"zoom = {self.zoom:g} is out of range; use 1 or less, because enlarged pictures hold no more detail")
        if not self.targets:
            raise InputError("a recipe with no targets trains nothing; give targets such as *")

    def rate(self, step: int, steps: int) -> float:
        """The factor on the learning rates at ``step`` of ``steps``."""
        factor = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        if self.schedule == "cosine":
            factor *= 0.5 * (1 + math.cos(math.pi * min(1.0, step / (self.horizon or steps))))
        return factor * (min(1.0, (steps - step) / min(self.cooldown, steps)) if self.cooldown else 1.0)

    def total_steps(self, pictures: int) -> int:
        """How many steps a training on so many pictures takes."""
        return math.ceil(self.epochs * pictures / self.batch) if self.epochs else self.steps

    def as_dict(self) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def write(self, path: Path) -> None:
        """As TOML or JSON, by the suffix of ``path``."""
        values = self.as_dict()
        if _suffix(path) == ".json":
            text = json.dumps(values, indent=2) + "\n"
        else:
            # JSON's values are TOML's, but for escapes of surrogate pairs and a bare DEL.
            text = "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items())
            text = text.replace("\x7f", "\\u007f")
        path.write_text(text, encoding="utf-8")


_KINDS: Mapping[str, Any] = typing.get_type_hints(Recipe)
_LEAST: Mapping[str, float] = {"zoom": 0.05, "discriminator": 1, "patch": 4, "batch": 1, "steps": 1, "validate_every": 1}
_BELOW: Mapping[str, float] = {"jitter": 1, "ema": 1, "beta1": 1, "beta2": 1}


def _check(name: str, kind: Any, value: Any) -> None:
    if typing.get_origin(kind) is Literal:
        if value not in typing.get_args(kind):
            raise InputError(f"{name} = {value!r} is not known. {near(str(value), typing.get_args(kind))}")
    elif isinstance(kind, types.GenericAlias):
        if not (isinstance(value, tuple) and all(isinstance(item, str) for item in value)):
            raise InputError(f"{name} = {value!r} must be a list of names")
    elif type(value) is not kind:
        raise InputError(f"{name} = {value!r} must be of type {kind.__name__}")
    elif kind in (int, float):
        least, below = _LEAST.get(name, 0), _BELOW.get(name, math.inf)
        if not least <= value < below:
            bound = f"{least:g} or more" + (f" and below {below:g}" if below < math.inf else "")
            raise InputError(f"{name} = {value!r} is out of range; use {bound}")


def read_recipe(path: Path) -> Recipe:
    """A recipe from a TOML or JSON file; fields that are not there keep their defaults.

    Raises:
        InputError: not such a file, an unknown field, or a value of the wrong type or out of range.
    """
    suffix = _suffix(path)
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise InputError(f"the recipe {path} cannot be read: {error.strerror}; check the path") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"the recipe {path} is not {suffix[1:].upper()} ({error}); mend it") from error
    if not isinstance(content, dict):
        raise InputError(f"the recipe {path} is not a table of fields; mend it")
    return changed(Recipe(), content)


def changed(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """``recipe`` with other values; text is read as the type of its field, as a command line needs.

    Raises:
        InputError: an unknown field, or a value of the wrong type or out of range.
    """
    known = {field.name for field in fields(Recipe)}
    for name in values:
        if name not in known:
            raise InputError(f"a recipe has no field {name!r}. {near(name, known)}")
    return replace(recipe, **{name: _read(name, value) for name, value in values.items()})


def _read(name: str, value: Any) -> Any:
    kind = _KINDS[name]
    if isinstance(kind, types.GenericAlias):
        items = value.split(",") if isinstance(value, str) else value
        return tuple(items) if isinstance(items, (list, tuple)) else items
    if name == "rank":
        return str(value)
    if kind is bool and isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower(), value)
    if kind in (int, float) and isinstance(value, (str, int)) and not isinstance(value, bool):
        try:
            return kind(value)
        except ValueError:
            return value
    return value


def _suffix(path: Path) -> str:
    if path.suffix.lower() not in (".toml", ".json"):
        raise InputError(f"the recipe {path} must be named .toml or .json")
    return path.suffix.lower()
