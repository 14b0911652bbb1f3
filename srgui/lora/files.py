"""Adapter files: a folder of peft's two files and a card, or all of it in one ``.safetensors`` file."""

from __future__ import annotations

import json
import os
import pickle
import re
import secrets
import shutil
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from srgui.errors import AdapterError, OutputError
from srgui.lora.adapter import Adapter
from srgui.lora.card import AdapterCard, parse_card, read_card
from srgui.lora.delta import Factors, Layer
from srgui.lora.formats import Settings, from_tensors, read_settings, to_peft

TENSORS, CONFIG, CARD = "adapter_model.safetensors", "adapter_config.json", "card.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True)
class Foreign:
    """An adapter as it came: factors, settings, and a card if it is one of ours."""

    factors: Mapping[str, Factors]
    settings: Settings
    card: AdapterCard | None


def read_adapter(path: Path) -> Adapter:
    """Read an adapter that srgui wrote: a folder, or an exported ``.safetensors`` file.

    Raises:
        AdapterError: it is none, is damaged or hostile, or its parts contradict each other.
    """
    found = read_foreign(path, None)
    if found.card is None:
        raise AdapterError(f"{path} has no card; bring it in with: python -m srgui adapters import {path}")
    if found.card.form != found.settings.form:
        raise AdapterError(f"the card of {path} says {found.card.form}, and its tensors are in the form {found.settings.form}")
    return Adapter(found.factors, found.card, found.settings.rslora)


def read_foreign(path: Path, layers: Mapping[str, Layer] | None) -> Foreign:
    """Read an adapter of peft, kohya or diffusers: a folder, a ``.safetensors`` file, or a pickle that holds only tensors.

    Args:
        layers: those of the network it is for (:func:`srgui.lora.targets.adaptable`), to resolve names.

    Raises:
        AdapterError: it is none, or is damaged or hostile.
    """
    folder = _folder_of(path)
    if folder is not None:
        file = next((folder / name for name in (TENSORS, "adapter_model.bin") if (folder / name).is_file()), None)
        if file is None:
            raise AdapterError(f"{path} holds no {TENSORS}; choose the folder or the file of an adapter")
        tensors, config = read_tensors(file)[0], _read_json(folder / CONFIG) if (folder / CONFIG).exists() else None
        card = read_card(folder) if (folder / CARD).exists() else None
    else:
        tensors, metadata = read_tensors(path)
        config = _parse(metadata["adapter_config"], path) if "adapter_config" in metadata else _of_diffusers(metadata, path)
        card = parse_card(metadata["card"], path, path) if "card" in metadata else None
    try:
        settings = Settings() if config is None else read_settings(config)
        return Foreign(from_tensors(tensors, settings, layers), settings, card)
    except AdapterError as error:
        raise AdapterError(f"{path} cannot be used: {error}") from error


def card_of(path: Path) -> AdapterCard:
    """The card of an adapter that srgui wrote, without its tensors.

    Raises:
        AdapterError: there is none, or it is wrong.
    """
    folder = _folder_of(path)
    if folder is not None:
        return read_card(folder)
    metadata = read_tensors(path, only_metadata=True)[1]
    if "card" not in metadata:
        raise AdapterError(f"{path} has no card; bring it in with: python -m srgui adapters import {path}")
    return parse_card(metadata["card"], path, path)


def write_adapter(adapter: Adapter, folder: Path) -> None:
    """Write ``folder``, which must not exist yet: complete, or not at all.

    Raises:
        OutputError: it exists, or cannot be written.
    """
    tensors, config = to_peft(adapter.factors, adapter.rslora)
    content = {TENSORS: save(tensors), CONFIG: _dump(config).encode(), CARD: adapter.card.as_json().encode()}
    staged = folder.with_name(f".{secrets.token_hex(8)}")
    try:
        if folder.exists():
            raise OutputError(f"{folder} exists already; choose another name, or remove it first")
        staged.mkdir(parents=True)
        for name, data in content.items():
            (staged / name).write_bytes(data)
        staged.rename(folder)
    except OSError as error:
        raise _not_written(folder, error) from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def write_file(adapter: Adapter, path: Path) -> None:
    """Write one ``.safetensors`` file, with configuration and card in its metadata: complete, or not at all.

    Raises:
        OutputError: it exists, has another suffix, or cannot be written.
    """
    if path.suffix.lower() != ".safetensors":
        raise OutputError(f"{path} must be named .safetensors")
    tensors, config = to_peft(adapter.factors, adapter.rslora)
    data = save(tensors, {"format": "pt", "adapter_config": _dump(config), "card": adapter.card.as_json()})
    staged = path.with_name(f".{secrets.token_hex(8)}")
    try:
        if path.exists():
            raise OutputError(f"{path} exists already; choose another name, or remove it first")
        staged.write_bytes(data)
        os.replace(staged, path)
    except OSError as error:
        raise _not_written(path, error) from error
    finally:
        with suppress(OSError):
            staged.unlink()


def _not_written(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path} cannot be written: {error.strerror or error}; free some space, or choose another folder")


def _folder_of(path: Path) -> Path | None:
    """The folder that an adapter is: ``path`` itself, or the one around it where ``path`` is a file in peft's layout."""
    if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises for a name that is too long
        return path
    return path.parent if path.stem == "adapter_model" and (path.parent / CONFIG).is_file() else None


def read_tensors(path: Path, only_metadata: bool = False) -> tuple[dict[str, Any], dict[str, str]]:
    """What a ``.safetensors`` file, or a pickle without code, holds by name, and the file's metadata.

    Raises:
        AdapterError: it is none, or is damaged or hostile.
    """
    try:
        if path.suffix.lower() == ".safetensors":
            with safe_open(path, framework="pt", device="cpu") as file:
                keys = [] if only_metadata else list(file.keys())
                return {key: file.get_tensor(key) for key in keys}, file.metadata() or {}
        if path.suffix.lower() in PICKLES:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of protocols that torch does not write; what it refuses is an error
                content = torch.load(path, map_location="cpu", weights_only=True)
            if isinstance(content, dict) and all(isinstance(key, str) for key in content):
                return content, {}
            raise AdapterError(f"{path} does not hold tensors by name; choose the file of an adapter")
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL (\S+)", str(error))
        held = f"holds code ({code.group(1)}) and was not opened" if code else "is no pickle of plain tensors and was not opened"
        raise AdapterError(f"{path} {held}; get a .safetensors file") from error
    except OSError as error:
        raise AdapterError(f"{path} cannot be read: {error.strerror or _first_line(error)}; check the path") from error
    except (SafetensorError, RuntimeError, ValueError, EOFError, LookupError, AttributeError, TypeError) as error:
        raise AdapterError(f"{path} is damaged or no file of tensors: {_first_line(error)}; get it again") from error
    raise AdapterError(f"{path} is no adapter; choose a folder, or a file named .safetensors or {', '.join(PICKLES)}")


def _first_line(error: Exception) -> str:
    """What a library says first, without the advice that may follow."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].split(". ")[0]


def _read_json(path: Path) -> Any:
    try:
        return _parse(path.read_text(encoding="utf-8"), path)
    except OSError as error:
        raise AdapterError(f"{path} cannot be read: {error.strerror}; check the folder") from error
    except ValueError as error:
        raise AdapterError(f"{path} is not JSON ({error}); get the adapter again") from error


def _parse(text: str, where: Path) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AdapterError(f"{where} has settings that are not JSON ({error}); get the adapter again") from error


def _of_diffusers(metadata: Mapping[str, str], path: Path) -> Any:
    """The settings that newer versions of diffusers put into a file, or None."""
    if "lora_adapter_metadata" not in metadata:
        return None
    content = _parse(metadata["lora_adapter_metadata"], path)
    if not isinstance(content, dict):
        raise AdapterError(f"{path} has settings that are not an object; get the adapter again")
    return {"peft_type": "LORA"} | {key.partition(".")[2]: value for key, value in content.items() if "." in key}


def _dump(config: Mapping[str, Any]) -> str:
    return json.dumps(config, indent=2) + "\n"
