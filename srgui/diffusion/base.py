"""Stable Diffusion as a base: UNet, VAE and text encoder from a folder in diffusers' layout, loaded once and never written."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from srgui.diffusion.memory import Costs, costs_of
from srgui.errors import ModelError
from srgui.models.cards import Card
from srgui.models.load import file_digest
from srgui.models.requirements import check_packages

_IMPORTING = threading.Lock()
PARTS = ("unet", "vae", "text_encoder")
_MISFITS = ("class_embed_type", "addition_embed_type", "encoder_hid_dim_type")  # UNets that want more than a prompt


@dataclass(frozen=True)
class Precision:
    """In which type each part computes. The VAE overflows in float16 and shows bfloat16's three digits: it stays in float32."""

    unet: torch.dtype
    vae: torch.dtype = torch.float32

    @classmethod
    def on(cls, device: torch.device) -> Precision:
        """float16 for the UNet on CUDA, as PiSA-SR was published; float32 on the CPU, where half is slower."""
        return cls(torch.float16 if device.type == "cuda" else torch.float32)


@dataclass(frozen=True, eq=False)
class StableDiffusion:
    """A base whose parts fit each other. ``unet`` and ``vae`` are on ``device``; the text encoder stays on the CPU.

    Attributes:
        folder: where the text encoder and its tokenizer are read from, when a prompt is first encoded.
        digest: sha256 of all its files' digests.
    """

    unet: nn.Module
    vae: nn.Module
    folder: Path
    digest: str
    device: torch.device
    precision: Precision
    _prompts: dict[str, Tensor] = field(default_factory=dict)
    _lock: Any = field(default_factory=threading.Lock)

    @property
    def factor(self) -> int:
        """Pixels per latent on a side."""
        return vae_factor(self.vae)

    @cached_property
    def costs(self) -> Costs:
        """What its parts cost per latent."""
        return costs_of(self.unet, self.vae, self.factor)

    @property
    def bytes(self) -> int:
        """That the parameters of the UNet and the VAE take."""
        return sum(p.numel() * p.element_size() for part in (self.unet, self.vae) for p in part.parameters())

    @property
    def channels(self) -> int:
        """Of a latent."""
        return int(self.vae.config.latent_channels)  # type: ignore[union-attr, arg-type]

    @property
    def scaling(self) -> float:
        """What a latent of the VAE is multiplied with before the UNet sees it (0.18215)."""
        return float(self.vae.config.scaling_factor)  # type: ignore[union-attr, arg-type]

    def prompt(self, text: str) -> Tensor:
        """The text encoder's last hidden state (1, tokens, width), of the UNet's type and on its device.

        Raises:
            ModelError: the text encoder or its tokenizer cannot be loaded, or is too narrow or wide for the UNet.
        """
        with self._lock:
            if text not in self._prompts:
                self._prompts[text] = _encoded(self.folder, text, int(self.unet.config.cross_attention_dim))  # type: ignore[union-attr, arg-type]
        return self._prompts[text].to(self.device, self.precision.unet)


def vae_factor(vae: Any) -> int:
    return int(2 ** (len(vae.config.block_out_channels) - 1))


def load_base(folder: Path, device: torch.device, precision: Precision | None = None) -> StableDiffusion:
    """Load the base in ``folder``, or take it from memory if it was the last one and has not changed.

    Raises:
        ModelError: diffusers or transformers is missing, the folder is no Stable Diffusion in diffusers' layout, a file is
            damaged, or the parts do not fit each other or PiSA-SR.
    """
    check_packages("pisa-sr")
    _check_layout(folder)
    stamps = tuple((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in _files(folder))
    return _load(folder.resolve(), str(device), precision or Precision.on(device), stamps)


@lru_cache(maxsize=1)
def _load(folder: Path, device: str, precision: Precision, _stamps: tuple[tuple[str, int, int], ...]) -> StableDiffusion:
    AutoencoderKL, UNet2DConditionModel = classes("diffusers", "AutoencoderKL", "UNet2DConditionModel")  # noqa: N806

    _check_configs(folder)
    unet = from_pretrained(UNet2DConditionModel, folder / "unet", torch_dtype=precision.unet)
    vae = from_pretrained(AutoencoderKL, folder / "vae", torch_dtype=precision.vae)
    place = torch.device(device)
    return StableDiffusion(frozen(unet, place), frozen(vae, place), folder, folder_digest(folder), place, precision)


def meta_unet(folder: Path) -> nn.Module:
    """The UNet of a base without its weights: shapes only, to check adapters against.

    Raises:
        ModelError: as :func:`load_base`.
    """
    check_packages("pisa-sr")
    _check_layout(folder)
    (unet,) = classes("diffusers", "UNet2DConditionModel")
    return _on_meta(unet, _read_json(folder / "unet" / "config.json"), folder / "unet")


def meta_base(card: Card) -> StableDiffusion:
    """The base of a card without its weights, to be counted: shaped by its folder, else by the card's ``network``.

    Raises:
        ModelError: as :func:`load_base`, or neither says how it is shaped.
    """
    check_packages("pisa-sr")
    AutoencoderKL, UNet2DConditionModel = classes("diffusers", "AutoencoderKL", "UNet2DConditionModel")  # noqa: N806

    folder = base_of(card)
    here = folder.is_dir()
    if here:
        _check_layout(folder)
        _check_configs(folder)
    elif not card.network:
        raise ModelError(f"the base {folder} is not on this machine, nor its shape on the card of {card.id}; {card.remedy}")
    shapes = [_read_json(folder / part / "config.json") if here else dict(card.network[part]) for part in ("unet", "vae")]
    unet, vae = (_on_meta(kind, s, folder) for kind, s in zip((UNet2DConditionModel, AutoencoderKL), shapes, strict=True))
    meta, digest = torch.device("meta"), folder_digest(folder) if here else ""
    return StableDiffusion(unet, vae, folder, digest, meta, Precision(torch.float32))


def _on_meta(kind: Any, config: dict[str, Any], folder: Path) -> nn.Module:
    try:
        with torch.device("meta"):
            found: nn.Module = kind.from_config(config)
    except (TypeError, ValueError, KeyError, NotImplementedError) as error:
        raise _broken(folder, error) from error
    return found.eval().requires_grad_(False)


def base_digest(card: Card) -> str | None:
    """The digest of a card's base as adapters name it; None where it names none."""
    return folder_digest(card.parts["base"].path) if "base" in card.parts else None


def adapted_part(card: Card) -> tuple[nn.Module, str]:
    """What adapters for a model of this room lie on, its UNet without weights, and the digest of its base.

    Raises:
        ModelError: as :func:`load_base`, or the card names no base.
    """
    folder = base_of(card)
    return meta_unet(folder), folder_digest(folder)


def base_of(card: Card) -> Path:
    """The folder that a card names as its base.

    Raises:
        ModelError: it names none.
    """
    if "base" not in card.parts:
        raise ModelError(f"the card of {card.id} names no part 'base', which {card.family} needs; mend its card")
    return card.parts["base"].path


def folder_digest(folder: Path) -> str:
    """sha256 over the names and digests of a base's files."""
    found = hashlib.sha256()
    for path in _files(folder):
        found.update(f"{path.relative_to(folder).as_posix()} {_digest_of(path)}\n".encode())
    return found.hexdigest()


def _digest_of(path: Path) -> str:
    status = path.stat()
    return _remembered(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=256)
def _remembered(path: Path, _mtime: int, _size: int) -> str:
    return file_digest(path)


def _files(folder: Path) -> list[Path]:
    """What decides the result: configurations and weights of the three parts, and the tokenizer."""
    kept = (".json", ".safetensors", ".txt")
    found = (path for part in (*PARTS, "tokenizer") for path in (folder / part).glob("*") if path.suffix in kept)
    return sorted(found)


def _check_layout(folder: Path) -> None:
    missing = [part for part in PARTS if not (folder / part / "config.json").is_file()]
    missing += [] if (folder / "tokenizer").is_dir() else ["tokenizer"]
    if missing:
        raise ModelError(
            f"{folder} is no Stable Diffusion in diffusers' layout: {', '.join(missing)} missing; "
            "choose a folder with unet, vae, text_encoder and tokenizer"
        )


def _check_configs(folder: Path) -> None:
    """See that the parts fit each other before gigabytes are read."""
    unet, vae, text = (_read_json(folder / part / "config.json") for part in PARTS)
    problems = []
    for key in ("in_channels", "out_channels"):
        if unet.get(key, 4) != vae.get("latent_channels", 4):
            problems.append(f"its UNet has {key} {unet.get(key, 4)}, and its VAE {vae.get('latent_channels', 4)} latent channels")
    if unet.get("cross_attention_dim") != text.get("hidden_size"):
        problems.append(
            f"its UNet takes text of width {unet.get('cross_attention_dim')}, and its encoder's is {text.get('hidden_size')}"
        )
    problems += [f"its UNet needs {key} {unet[key]}" for key in _MISFITS if unet.get(key)]
    schedule = folder / "scheduler" / "scheduler_config.json"
    kind = _read_json(schedule).get("prediction_type", "epsilon") if schedule.is_file() else "epsilon"
    if kind != "epsilon":
        problems.append(f"it predicts {kind}, and one step needs epsilon")
    if problems:
        raise ModelError(f"{folder} cannot be the base of PiSA-SR: {'; '.join(problems)}; use Stable Diffusion 2.1-base")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _broken(path, error) from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} is not an object; get the base again")
    return content


def classes(package: str, *names: str) -> tuple[Any, ...]:
    """What ``package``, diffusers or transformers, has by these names. They load their parts when these are first asked for, which
    fails where two threads ask at once."""
    with _IMPORTING:
        found = import_module(package)
        return tuple(getattr(found, name) for name in names)


def from_pretrained(kind: Any, folder: Path, **options: Any) -> Any:
    """A network of one of diffusers' or transformers' classes from its folder, read strictly and without the network.

    Raises:
        ModelError: the folder cannot be read, or weights are missing, extra or misshapen.
    """
    try:
        found, info = kind.from_pretrained(folder, local_files_only=True, use_safetensors=True, output_loading_info=True, **options)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, NotImplementedError) as error:
        raise _broken(folder, error) from error
    extra = [key for key in info["unexpected_keys"] if not key.endswith("position_ids")]  # a constant that old files hold
    wrong = [*info["missing_keys"], *extra, *(str(keys[0]) for keys in info["mismatched_keys"])]
    if wrong:
        raise ModelError(
            f"{folder} has {len(wrong)} missing, extra or misshapen weights ({', '.join(wrong[:3])}); get the base again"
        )
    return found


def _broken(path: Path, error: Exception) -> ModelError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return ModelError(f"{path} cannot be read: {lines[0].rstrip('.')}; get the base again")


def frozen(module: nn.Module, device: torch.device) -> nn.Module:
    """``module`` for use only, on ``device``."""
    return module.eval().requires_grad_(False).to(device)


@torch.no_grad()  # not inference mode: a training keeps what is encoded for its backward pass
def _encoded(folder: Path, text: str, width: int) -> Tensor:
    CLIPTextModel, CLIPTokenizer = classes("transformers", "CLIPTextModel", "CLIPTokenizer")  # noqa: N806
    (logging,) = classes("transformers.utils", "logging")
    logging.disable_progress_bar()
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise _broken(folder / "tokenizer", error) from error
    encoder = from_pretrained(CLIPTextModel, folder / "text_encoder", dtype=torch.float32).eval()
    ids = tokenizer(
        text, max_length=_tokens(tokenizer, encoder), padding="max_length", truncation=True, return_tensors="pt"
    ).input_ids
    state = encoder(ids)[0]
    if state.shape[-1] != width:
        raise ModelError(
            f"the text encoder of {folder} gives {state.shape[-1]} features, and its UNet takes {width}; get the base again"
        )
    encoded: Tensor = state
    return encoded


def _tokens(tokenizer: Any, encoder: Any) -> int:
    return int(min(tokenizer.model_max_length, encoder.config.max_position_embeddings))
