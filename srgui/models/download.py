"""Downloads: progress, resume, digest, atomic rename; every failure is one clear error and leaves no half file in use."""

from __future__ import annotations

import json
import os
import shutil
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from srgui.errors import DownloadError, ModelError, near
from srgui.models.cards import Card, Part, all_cards, models_folder
from srgui.models.load import file_digest, load_network
from srgui.protocol import Run

_CHUNK = 2**20
_TIMEOUT = 20


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
            download(part, run)
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
    except (URLError, HTTPException, TimeoutError, OSError) as error:
        reason = f"HTTP {error.code}" if isinstance(error, HTTPError) else getattr(error, "reason", None) or error
        raise DownloadError(f"{part.url} could not be downloaded ({reason}); check the network and try again") from error
    expected = part.sha256 or _recorded(part.path)
    digest = file_digest(partial)
    if expected and digest != expected:
        partial.unlink()
        raise DownloadError(f"{part.url} has sha256 {digest[:12]}..., not {expected[:12]}...; the file was changed and is not used")
    _record(part.path, digest)
    os.replace(partial, part.path)


def _fetch(url: str, partial: Path, run: Run) -> None:
    have = partial.stat().st_size if partial.exists() else 0
    request = Request(url, headers={"User-Agent": "srgui", **({"Range": f"bytes={have}-"} if have else {})})
    try:
        response = urlopen(request, timeout=_TIMEOUT)
    except HTTPError as error:
        if error.code == 416 and have:  # nothing is left to fetch
            return
        raise
    with response:
        resumed = response.status == 206
        total = int(response.headers.get("Content-Length", 0)) + (have if resumed else 0)
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
    """
    import torch

    identity = name or path.stem
    if identity != Path(identity).name or identity.startswith(".") or not identity:
        raise ModelError(f"{identity!r} is not a plain name; use letters, digits, dots, dashes")
    if identity in all_cards():
        raise ModelError(f"a model {identity!r} exists already; give another with --name")
    network = load_network(path, torch.device("cpu"))
    folder = models_folder() / identity
    folder.mkdir(parents=True)
    shutil.copyfile(path, folder / path.name)
    card = {
        "schema": 1,
        "id": identity,
        "family": "srcnn" if network.architecture == "SRCNN" else "spandrel",
        "scale": network.scale,
        "parts": {"weights": {"file": path.name, "sha256": network.digest}},
        "title": path.stem,
        "licence": "unknown",
        "description": f"{network.architecture}, {network.parameters:,} parameters, added from a file",
    }
    (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return all_cards()[identity]


def _digest_file(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _recorded(path: Path) -> str | None:
    return _digest_file(path).read_text().strip() if _digest_file(path).exists() else None


def _record(path: Path, digest: str) -> None:
    _digest_file(path).write_text(digest + "\n")
