"""The words of adapter files: keys and settings of peft, kohya and diffusers -> factors, and factors -> peft's.

peft's ``LoraConfig`` holds for every file: kohya's have an ``alpha`` tensor per layer instead, diffusers' may have neither.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from srgui.errors import AdapterError
from srgui.lora.delta import Factors, Form, Layer, is_transposed

_PREFIX = "base_model.model."
_TYPES: Mapping[str, Form] = {"LORA": "conv", "LORA_RESHAPE": "reshape"}  # peft knows only the first, and says so
_ROLES = {
    ".lora_A.weight": "lora_A",
    ".lora_B.weight": "lora_B",
    ".lora_magnitude_vector": "lora_magnitude",
    ".lora_A_reshape": "lora_A",
    ".lora_B_reshape": "lora_B",
    ".lora_down.weight": "lora_A",  # kohya
    ".lora_up.weight": "lora_B",
    ".alpha": "alpha",
    ".lora.down.weight": "lora_A",  # diffusers
    ".lora.up.weight": "lora_B",
    "_lora.down.weight": "lora_A",  # diffusers' attention processors
    "_lora.up.weight": "lora_B",
}
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga", "eva")  # initialisations of peft


@dataclass(frozen=True)
class Settings:
    """What of peft's ``LoraConfig`` decides the meaning of the tensors; None where a file does not say."""

    form: Form = "conv"
    rank: int | None = None
    alpha: float | None = None
    ranks: Mapping[str, float] = field(default_factory=dict)
    alphas: Mapping[str, float] = field(default_factory=dict)
    rslora: bool = False
    dora: bool | None = None
    targets: tuple[str, ...] | None = None
    transposed: frozenset[str] = frozenset()

    def rank_of(self, name: str) -> float | None:
        return _matching(self.ranks, name, self.rank)

    def scaling_of(self, name: str, rank: int, alpha: float | None) -> float:
        alpha = _matching(self.alphas, name, self.alpha) if alpha is None else alpha
        return (rank if alpha is None else alpha) / (math.sqrt(rank) if self.rslora else rank)


def _matching(patterns: Mapping[str, float], name: str, default: float | None) -> float | None:
    """peft's rule: the first pattern that matches the whole name or what follows one of its dots."""
    return next((value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", name)), default)


def read_settings(config: Any) -> Settings:
    """The settings in an ``adapter_config.json``.

    Raises:
        AdapterError: a value that matters is missing or cannot be.
    """
    if not isinstance(config, dict):
        raise AdapterError("adapter_config.json is not an object; get the adapter again")
    kind, start = config.get("peft_type"), config.get("init_lora_weights")
    if not isinstance(kind, str) or kind not in _TYPES:
        raise AdapterError(f"an adapter of type {kind!r} is not supported; use LoRA")
    if isinstance(start, str) and start.startswith(_CHANGES_BASE):
        raise AdapterError(f"with {start} initialisation it needs a changed base; convert it to plain LoRA with peft")
    own = config.get("srgui", {})
    transposed = own.get("transposed", []) if isinstance(own, dict) else None
    targets = config.get("target_modules")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    ranks, alphas = config.get("rank_pattern") or {}, config.get("alpha_pattern") or {}
    rslora, dora = config.get("use_rslora", False), config.get("use_dora", False)
    checks = {
        "r": type(rank) is int and rank > 0,
        "lora_alpha": _is_positive(alpha),
        "rank_pattern": _is_pattern(ranks),
        "alpha_pattern": _is_pattern(alphas),
        "use_rslora": type(rslora) is bool,
        "use_dora": type(dora) is bool,
        "target_modules": targets is None or isinstance(targets, str) or _are_names(targets),
        "srgui": _are_names(transposed),
    }
    wrong = [key for key, right in checks.items() if not right]
    if wrong:
        raise AdapterError(f"adapter_config.json has unusable values for {', '.join(wrong)}; get the adapter again")
    listed = tuple(targets) if isinstance(targets, list) else None
    return Settings(_TYPES[kind], rank, alpha, ranks, alphas, rslora, dora, listed, frozenset(transposed or ()))


def _is_positive(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < math.inf


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_pattern(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_harmless(key) and _is_positive(number) for key, number in value.items())


def _is_harmless(pattern: str) -> bool:
    """Whether a regular expression from a file compiles, and cannot take exponential time: nothing repeated in a repetition."""
    if len(pattern) > 500 or len(re.findall(r"[*+?{]", pattern)) > 3 or re.search(r"\)[*+?{]", pattern):
        return False
    try:
        re.compile(f"({pattern})")
    except re.error:
        return False
    return True


def from_tensors(tensors: Mapping[str, Any], settings: Settings, layers: Mapping[str, Layer] | None = None) -> dict[str, Factors]:
    """Factors by layer name from the tensors of a file.

    Args:
        layers: those of the network, against which kohya's and diffusers' names are resolved; without it names are taken as
            peft writes them.

    Raises:
        AdapterError: a key is unknown or missing, or a tensor is not a finite floating-point number of two axes or more.
    """
    grouped = _by_layer(tensors, None if layers is None else _aliases(layers))
    needed = {"lora_A", "lora_B"} | ({"lora_magnitude"} if settings.dora else set())
    missing = [f"{role} of {name}" for name, roles in grouped.items() for role in sorted(needed - roles.keys())]
    missing += [f"tensors of {target}" for target in settings.targets or () if not any(_is_of(name, target) for name in grouped)]
    if missing:
        raise AdapterError(f"{len(missing)} are missing: {', '.join(missing[:3])}; get the adapter again")
    extra = [f"lora_magnitude of {name}" for name, roles in grouped.items() if settings.dora is False and "lora_magnitude" in roles]
    if settings.targets is not None:
        extra += [name for name in grouped if not any(_is_of(name, target) for target in settings.targets)]
    if extra:
        raise AdapterError(f"{len(extra)} are not in its settings: {', '.join(extra[:3])}; get the adapter again")
    return {name: _factors(name, roles, settings, layers) for name, roles in grouped.items()}


def _is_of(name: str, target: str) -> bool:
    return target == "all-linear" or name == target or name.endswith(f".{target}")


def _by_layer(tensors: Mapping[str, Any], aliases: Mapping[str, list[str]] | None) -> dict[str, dict[str, Tensor]]:
    grouped: dict[str, dict[str, Tensor]] = defaultdict(dict)
    unknown = []
    for key, tensor in tensors.items():
        end = next((end for end in _ROLES if key.endswith(end)), None)
        if end is None:
            unknown.append(key)
            continue
        name, role = key.removesuffix(end).removeprefix(_PREFIX), _ROLES[end]
        found = (aliases or {}).get(name, [name])
        if len(found) > 1:
            raise AdapterError(f"{key} may belong to {' or '.join(found)}; convert the adapter to peft's format")
        if role in grouped[found[0]]:
            unknown.append(key)
        grouped[found[0]][role] = _checked(key, tensor, role)
    if unknown or not grouped:
        names = ", ".join(str(key) for key in unknown[:3])
        raise AdapterError(f"{len(unknown)} keys are not those of LoRA: {names}; use another adapter" if unknown else "it is empty")
    return dict(grouped)


def _checked(key: str, tensor: Any, role: str) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise AdapterError(f"{key} is a {type(tensor).__name__}, not a tensor; get the adapter again")
    if role == "alpha":
        if tensor.numel() != 1 or not _is_positive(float(tensor)):
            raise AdapterError(f"{key} is not one number above 0; get the adapter again")
        return tensor
    if not tensor.is_floating_point() or (tensor.dim() < 2 and role != "lora_magnitude"):
        kind = str(tensor.dtype).removeprefix("torch.")
        raise AdapterError(f"{key} is {kind} of shape {tuple(tensor.shape)}, not a matrix of floats; get the adapter again")
    tensor = tensor.detach().to(torch.float32, copy=True).contiguous()
    if not bool(tensor.isfinite().all()):
        raise AdapterError(f"{key} has values that are NaN or infinite; get the adapter again")
    return tensor


def _factors(name: str, roles: Mapping[str, Tensor], settings: Settings, layers: Mapping[str, Layer] | None) -> Factors:
    down, up, magnitude = roles["lora_A"], roles["lora_B"], roles.get("lora_magnitude")
    said = settings.rank_of(name)
    rank = down.shape[0] if said is None else int(said)
    if rank != down.shape[0] and settings.form == "conv":
        raise AdapterError(f"{name} has rank {down.shape[0]}, and the settings say {rank}; get the adapter again")
    alpha = float(roles["alpha"]) if "alpha" in roles else None
    transposed = name in settings.transposed or (name in (layers or {}) and is_transposed((layers or {})[name]))
    flat = None if magnitude is None else magnitude.flatten()  # peft gives it the axes of a picture
    return Factors(down, up, rank, settings.scaling_of(name, rank, alpha), settings.form, transposed, flat)


def _aliases(layers: Iterable[str]) -> dict[str, list[str]]:
    """By every name that kohya, diffusers and peft have for a layer, the layers that may be meant."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in layers:
        parent, _, last = name.removesuffix(".0").rpartition(".")
        plain = {name, f"lora_unet_{name.replace('.', '_')}", f"{parent}.processor.{last}"}
        for alias in plain | {f"{prefix}.{alias}" for prefix in ("unet", "transformer") for alias in plain}:
            found[alias].append(name)
    return found | {name: [name] for name in layers}


def to_peft(factors: Mapping[str, Factors], rslora: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and configuration as peft writes them.

    ``reshape`` factors have keys and a ``peft_type`` of their own, so that peft refuses them instead of passing them over.
    It also refuses grouped (by shape) and transposed convolutions, of which ``srgui.transposed`` lists the latter.
    """
    tensors: dict[str, Tensor] = {}
    for name, part in factors.items():
        end = ".weight" if part.form == "conv" else "_reshape"
        tensors[f"{_PREFIX}{name}.lora_A{end}"] = part.A
        tensors[f"{_PREFIX}{name}.lora_B{end}"] = part.B
        if part.magnitude is not None:
            shape = (-1,) if part.A.dim() == 2 else (1, -1, *[1] * (part.A.dim() - 2))
            tensors[f"{_PREFIX}{name}.lora_magnitude_vector"] = part.magnitude.view(shape)
    ranks = {name: part.rank for name, part in factors.items()}
    alphas = {name: alpha_of(part, rslora) for name, part in factors.items()}
    rank, alpha = most_common(ranks.values()), most_common(alphas.values())
    transposed = [name for name, part in factors.items() if part.transposed]
    form = next(iter(factors.values())).form
    config = {
        "peft_type": next(kind for kind, of in _TYPES.items() if of == form),
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {_exactly(name): value for name, value in ranks.items() if value != rank},
        "alpha_pattern": {_exactly(name): value for name, value in alphas.items() if value != alpha},
        "target_modules": list(factors),
        "use_rslora": rslora,
        "use_dora": any(part.magnitude is not None for part in factors.values()),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "lora_dropout": 0.0,
        **({"srgui": {"transposed": transposed}} if transposed else {}),
    }
    return {key: tensor.contiguous() for key, tensor in tensors.items()}, config


def _exactly(name: str) -> str:
    return "^" + re.escape(name)


def alpha_of(part: Factors, rslora: bool) -> float:
    """The alpha that gives a layer its scaling, without the last rounding error."""
    alpha = float(f"{part.scaling * (math.sqrt(part.rank) if rslora else part.rank):.12g}")
    return int(alpha) if alpha.is_integer() else alpha


def most_common(values: Iterable[float]) -> float:
    return Counter(values).most_common(1)[0][0]
