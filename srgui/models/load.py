"""Weight files -> :class:`Network`, through spandrel; nothing but weights is ever unpickled."""

from __future__ import annotations

import hashlib
import pickle
import re
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from srgui.errors import ModelError
from srgui.models.network import Network
from srgui.models.srcnn import RADIUS as SRCNN_RADIUS
from srgui.models.srcnn import SRCNN

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")


def load_network(path: Path, device: torch.device) -> Network:
    """Load an SR network of any architecture spandrel knows, or this repository's SRCNN.

    The same file is loaded once per device; a file that has changed is loaded anew.

    Raises:
        ModelError: not a weight file, holds code, of no known architecture, or not a super-resolution network.
    """
    try:
        stamp = path.stat()
    except OSError as error:
        raise ModelError(f"the weights {path} cannot be read: {error.strerror}") from error
    return _load(path.resolve(), str(device), stamp.st_mtime_ns, stamp.st_size)


@lru_cache(maxsize=4)
def _load(path: Path, device: str, _mtime: int, _size: int) -> Network:
    network = from_state_dict(read_state_dict(path), path)
    network.module.to(torch.device(device)).to(memory_format=torch.channels_last)
    return replace(network, digest=file_digest(path))


def file_digest(path: Path) -> str:
    """sha256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_state_dict(path: Path) -> dict[str, Any]:
    """The tensors in a ``.safetensors`` or PyTorch file; a pickle that holds more than weights is refused, not run.

    Raises:
        ModelError: it is not such a file, or holds code.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ModelError(f"{path} is not a weight file; expected a name ending in {', '.join(SUFFIXES)}")
    try:
        if path.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL (\S+)", str(error))
        if code:
            raise ModelError(f"{path} holds code ({code.group(1)}) and was not opened; get a .safetensors file") from error
        raise ModelError(f"{path} is not a weight file: it cannot be unpickled; get it again") from error
    except (SafetensorError, RuntimeError, OSError, ValueError, EOFError, LookupError, AttributeError, TypeError) as error:
        raise ModelError(f"{path} is not a weight file or is damaged: {_first_line(error)}; get it again") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds a {type(content).__name__}, not weights by name; choose an SR model")
    return content


def from_state_dict(weights: dict[str, Any], name: object = "the state dict") -> Network:
    """Build the network a state dict belongs to, on the CPU, without a digest.

    Raises:
        ModelError: no known architecture fits, or it is not a super-resolution network.
    """
    if set(weights) == {f"conv{i}.{kind}" for i in (1, 2, 3) for kind in ("weight", "bias")} | {"scale"}:
        return _srcnn(weights, name)
    try:
        from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError, canonicalize_state_dict
    except RuntimeError as error:  # torchvision's compiled operators do not fit this torch
        raise ModelError(
            f"torch and torchvision come from different builds ({_first_line(error)}); "
            "install both from one place: pip install --force-reinstall torch torchvision"
        ) from error

    try:
        found = ModelLoader(device="cpu").load_from_state_dict(canonicalize_state_dict(weights))
    except UnsupportedModelError as error:
        first = ", ".join(str(key) for key in list(weights)[:3])
        raise ModelError(f"{name} fits no architecture that spandrel knows (first keys: {first}); choose an SR model") from error
    except (RuntimeError, KeyError, ValueError, IndexError, AssertionError, TypeError, AttributeError) as error:
        raise ModelError(f"{name} is incomplete or damaged: {_first_line(error)}; get it again") from error
    if not isinstance(found, ImageModelDescriptor) or found.purpose != "SR" or found.scale < 2:
        purpose = found.purpose.lower() if found.purpose != "SR" else "restoration"
        kind = f"{found.architecture.name} model for {purpose} at x{found.scale}"
        raise ModelError(f"{name} is a {kind}, not for super-resolution; choose an SR model")
    if found.input_channels not in (1, 3) or found.input_channels != found.output_channels:
        raise ModelError(f"{name} takes {found.input_channels} and gives {found.output_channels} channels; 3 or 1 are supported")
    size = found.size_requirements
    module = found.model
    return Network(
        module=_frozen(module),
        architecture=found.architecture.name,
        scale=found.scale,
        channels=found.input_channels,
        radius=_radius(found.architecture.id, module),
        multiple_of=size.multiple_of,
        minimum=max(1, size.minimum),
        half=found.supports_half,
        tags=tuple(found.tags),
    )


def _srcnn(weights: dict[str, Tensor], name: object) -> Network:
    try:
        scale = int(weights["scale"])
        module = SRCNN(scale)
        module.load_state_dict({key: value for key, value in weights.items() if key != "scale"})
    except (RuntimeError, ValueError, TypeError) as error:
        raise ModelError(f"{name} is not an SRCNN 9-1-5: {_first_line(error)}; get it again") from error
    if not 2 <= scale <= 16:
        raise ModelError(f"{name} is an SRCNN for x{scale}, and 2 to 16 are supported; get it again")
    return Network(_frozen(module), "SRCNN", scale, radius=SRCNN_RADIUS)


def _frozen(module: nn.Module) -> nn.Module:
    return module.eval().requires_grad_(False)


def _radius(architecture: str, module: nn.Module) -> int | None:
    """The receptive radius of architectures whose every layer is a 3x3 convolution at LR size; None for all others."""
    if architecture == "Compact":
        return sum(isinstance(layer, nn.Conv2d) for layer in module.modules())
    return None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
