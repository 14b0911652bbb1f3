"""The tiny decoder: a small network that shows roughly what the VAE would decode, at once.

Any of diffusers' AutoencoderTiny whose latents are those of the base; for Stable Diffusion 1 and 2 that is TAESD.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import torch
from torch import nn

from srgui.diffusion.base import Precision, classes, from_pretrained, frozen
from srgui.errors import ModelError
from srgui.models.cards import Card, models_folder

HUB = "madebyollin/taesd"
_FILES = ("config.json", "diffusion_pytorch_model.safetensors")


def open_tiny(card: Card, channels: int, device: torch.device) -> nn.Module | None:
    """The tiny decoder for a model, None where none is on the machine.

    It is the folder that the card names as its part ``tiny``, else ``taesd`` in the user's models folder, else what the Hugging
    Face cache has of :data:`HUB`; of the latter two, only if it takes latents of so many ``channels``.

    Raises:
        ModelError: it cannot be used.
    """
    named = card.parts.get("tiny")
    folder = named.path if named is not None else _found(channels)
    if folder is None:
        return None
    if named is not None and (found := _channels(folder)) != channels:
        what = "is no tiny decoder in diffusers' layout" if found is None else f"takes latents of {found} channels"
        raise ModelError(f"{folder} {what}, and the base has {channels} channels; take it off the card of {card.id}")
    return _load(folder, (folder / _FILES[1]).stat().st_mtime_ns, str(device))


def _found(channels: int) -> Path | None:
    places = [models_folder() / "taesd", _cached()]
    return next((place for place in places if place is not None and _channels(place) == channels), None)


def _cached() -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    files = [try_to_load_from_cache(HUB, name) for name in _FILES]
    return Path(files[0]).parent if all(isinstance(file, str) for file in files) else None  # type: ignore[arg-type]


def _channels(folder: Path) -> int | None:
    """Of the latents that the decoder in ``folder`` takes; None where there is none, or only half of one."""
    if not all((folder / name).is_file() for name in _FILES):
        return None
    try:
        return int(json.loads((folder / _FILES[0]).read_text(encoding="utf-8"))["latent_channels"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


@lru_cache(maxsize=1)
def _load(folder: Path, _mtime: int, device: str) -> nn.Module:
    place, (kind,) = torch.device(device), classes("diffusers", "AutoencoderTiny")
    return frozen(from_pretrained(kind, folder, torch_dtype=Precision.on(place).vae), place)
