"""Downloads: progress, resume, digest, atomic rename; every failure is one clear error and leaves no half file in use."""

from __future__ import annotations

import json
import os
import shutil
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from srgui.errors import DownloadError, ModelError, OutputError, near
from srgui.models.cards import Card, Part, all_cards, models_folder, new_model_name, read_card
from srgui.models.load import file_digest, load_network
from srgui.protocol import Run

_CHUNK = 2**20
_TIMEOUT = 20
HUB_FILES = (  # what is used of a Stable Diffusion in diffusers' layout
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
)


def download_model(model: str, run: Run) -> Card:
    """Fetch the missing parts of a model of the catalogue into the user's models folder.

    Raises:
        ModelError: no such model. DownloadError: see :func:`download`.
    """
    cards = all_cards()
    if model not in cards:
        raise ModelError(f"unknown model {model!r}. {near(model, cards)}")
    for part in cards[model].parts.values():
        if not part.path.exists():
            download_folder(part, run) if part.hub else download(part, run)
    return cards[model]


def download(part: Part, run: Run) -> None:
    """Fetch ``part.url`` to ``part.path``; an interrupted download is resumed.

    A digest that is not known beforehand is recorded beside the file, and a later download that differs is refused.

    Raises:
        DownloadError: no URL, no network, an HTTP error, a full disk, or another digest than expected.
        Cancelled: the part that was fetched is kept for resuming.
    """
    if part.url is None:
        raise DownloadError(f"{part.path.name} is missing and its card names no URL; copy the file to {part.path}")
    partial = part.path.with_name(part.path.name + ".part")
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        _fetch(part.url, partial, run)
        expected = part.sha256 or _recorded(part.path)
        digest = file_digest(partial)
        if expected and digest != expected:
            partial.unlink()
            raise DownloadError(
                f"{part.url} has sha256 {digest[:12]}..., not {expected[:12]}...; the file was changed and is not used, "
                "try again or ask where the model comes from"
            )
        _record(part.path, digest)
        os.replace(partial, part.path)
    except HTTPError as error:
        raise DownloadError(f"{part.url} could not be downloaded (HTTP {error.code} {error.reason}); try again later") from error
    except (URLError, HTTPException, TimeoutError, ConnectionError) as error:
        reason = " ".join(str(getattr(error, "reason", None) or error or type(error).__name__).split())
        raise DownloadError(f"{part.url} could not be downloaded ({reason}); check the network and try again") from error
    except OSError as error:
        raise DownloadError(
            f"{part.path} cannot be written: {error.strerror}; free some space, or set SRGUI_HOME to another folder"
        ) from error


def download_folder(part: Part, run: Run) -> None:
    """Fetch the Stable Diffusion ``part.hub`` from Hugging Face, or from ``HF_ENDPOINT``, into the folder ``part.path``.

    The folder appears when it is complete; files that are there already are not fetched again.

    Raises:
        DownloadError: as :func:`download`.
    """
    where = f"{os.environ.get('HF_ENDPOINT', 'https://huggingface.co').rstrip('/')}/{part.hub}/resolve/main"
    partial = part.path.with_name(part.path.name + ".part")
    for name in HUB_FILES:
        file = partial / name
        if not file.exists():
            download(Part(file, f"{where}/{name}"), run)
    try:
        os.replace(partial, part.path)
    except OSError as error:
        raise DownloadError(f"{part.path} cannot be written: {error.strerror}; check its folder's permissions") from error


def _fetch(url: str, partial: Path, run: Run) -> None:
    have = partial.stat().st_size if partial.exists() else 0
    request = Request(url, headers={"User-Agent": "srgui", **({"Range": f"bytes={have}-"} if have else {})})
    try:
        response = urlopen(request, timeout=_TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code != 416 or not have:
            raise
        if error.headers.get("Content-Range") != f"bytes */{have}":  # what is here belongs to another file
            partial.unlink()
            _fetch(url, partial, run)
        return  # nothing is left to fetch
    with response:
        resumed = response.status == 206
        total = (response.length or 0) + (have if resumed else 0)
        done = have if resumed else 0
        with open(partial, "ab" if resumed else "wb") as file:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                run.progress("bytes", done, max(total, done))
        if done < total:
            raise DownloadError(f"{url} broke off after {done} of {total} bytes; try again to resume")


def add_model(path: Path, name: str | None = None) -> Card:
    """Copy a weight file into the user's models folder under a card of its own.

    Args:
        name: the id; by default the file's stem.

    Raises:
        ModelError: it is not an SR network, or the id is taken or not a plain name.
        OutputError: the models folder cannot be written.
    """
    import torch

    identity = name or path.stem
    new_model_name(identity)
    network = load_network(path, torch.device("cpu"))
    folder, file = models_folder() / identity, f"model{path.suffix.lower()}"  # the file's own name may not be a plain one
    card = {
        "schema": 1,
        "id": identity,
        "family": "srcnn" if network.architecture == "SRCNN" else "spandrel",
        "scale": network.scale,
        "parts": {"weights": {"file": file, "sha256": network.digest}},
        "title": path.stem,
        "licence": "unknown",
        "description": f"{network.architecture}, {network.parameters:,} parameters, added from a file",
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)  # without a card it is what an interrupted copy left
        shutil.copyfile(path, folder / file)
        (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"{folder} cannot be written: {reason}; free some space, or set SRGUI_HOME to another folder") from error
    return read_card(folder)


def _digest_file(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _recorded(path: Path) -> str | None:
    return _digest_file(path).read_text().strip() if _digest_file(path).exists() else None


def _record(path: Path, digest: str) -> None:
    _digest_file(path).write_text(digest + "\n")
