"""The adapters on this machine: those that come with srgui, and the user's, which can be added, renamed and removed."""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from torch import nn

from srgui.errors import AdapterError, OutputError, near
from srgui.lora.adapter import Adapter, check_fits
from srgui.lora.card import AdapterCard, Base, read_card
from srgui.lora.delta import Factors
from srgui.lora.files import PICKLES, Foreign, card_of, read_adapter, read_foreign, read_tensors, write_adapter, write_file
from srgui.lora.formats import alpha_of, most_common
from srgui.lora.pisa import is_pisa, read_pisa
from srgui.lora.targets import adaptable
from srgui.places import PLAIN_NAME, ROOT, home, is_plain_name

SHIPPED = ROOT / "adapters"


def adapters_folder() -> Path:
    """Where the user's own adapters are."""
    return home() / "adapters"


def scan() -> tuple[dict[str, AdapterCard], list[str]]:
    """All cards by name, the shipped first, and what is wrong with those that cannot be read: one disables only itself."""
    cards: dict[str, AdapterCard] = {}
    problems = []
    for root in (SHIPPED, adapters_folder()):
        for path in sorted(root.glob("*/card.json")):
            name = path.parent.name
            if name in cards or not is_plain_name(name):  # what an interrupted writing left begins with a dot
                continue
            try:
                cards[name] = read_card(path.parent)
            except AdapterError as error:
                problems.append(str(error))
    return cards, problems


def all_adapters() -> dict[str, AdapterCard]:
    """Cards by name, as far as they can be read."""
    return scan()[0]


def find_adapter(name: str) -> AdapterCard:
    """The card for a name, or for a path to an adapter's folder or exported file.

    Raises:
        AdapterError: there is no such adapter (near names are listed), or its card is wrong.
    """
    if is_plain_name(name):
        for root in (SHIPPED, adapters_folder()):
            if (root / name).is_dir():
                return read_card(root / name)
    path = Path(os.path.expanduser(name))  # noqa: PTH111 - Path.expanduser raises for a user that is not there
    if os.path.exists(path):  # noqa: PTH110 - Path.exists raises for a name that is too long
        return card_of(path)
    raise _unknown(name)


def _unknown(name: str) -> AdapterError:
    cards = all_adapters()
    return AdapterError(f"unknown adapter {name!r}. {near(name, cards) if cards else 'There is none yet: train or import one.'}")


def load_adapter(name: str) -> Adapter:
    """The adapter for a name or a path; see :func:`find_adapter`.

    Raises:
        AdapterError: there is none, or it is damaged or hostile.
    """
    card = find_adapter(name)
    return read_adapter(Path(name) if card.path is None else card.path)


def named(name: str, digest: str) -> str:
    """The name that the adapter of this digest (:attr:`Adapter.digest`) has here: ``name``, or another after a renaming.

    Raises:
        AdapterError: it is not on this machine.
    """
    known = all_adapters()
    for each in [name] * (name in known) + [other for other in known if other != name]:
        with suppress(AdapterError):  # a damaged one is not the one that is looked for
            if load_adapter(each).digest == digest:
                return each
    here = f"the adapter {name!r} on this machine is another one" if name in known else f"there is no adapter {name!r} here"
    raise AdapterError(f"{here}; import the one that was used (sha256 {digest[:12]}…)")


def new_name(name: str) -> str:
    """``name``, if a new adapter can be called so: it becomes a folder's name.

    Raises:
        AdapterError: it is not a plain name, or taken.
    """
    if not is_plain_name(name):
        raise AdapterError(f"{name!r} cannot be an adapter's name; {PLAIN_NAME}")
    if any(os.path.lexists(root / name) for root in (SHIPPED, adapters_folder())):
        raise AdapterError(f"an adapter {name!r} exists already; choose another name, or rename or remove that one")
    return name


def save_adapter(adapter: Adapter, name: str) -> AdapterCard:
    """Write a new adapter of the user, complete or not at all, and return its card as it can be found.

    Raises:
        AdapterError: the name is taken or not plain. OutputError: it cannot be written.
    """
    folder = adapters_folder() / new_name(name)
    write_adapter(adapter, folder)
    return read_card(folder)


def import_adapter(
    path: Path, module: nn.Module, base_id: str, base_sha256: str | None, scale: int, name: str | None = None
) -> AdapterCard:
    """Copy an adapter of srgui, peft, kohya or diffusers among the user's, if it fits ``module``.

    Args:
        module: the network of the model ``base_id``, which enlarges by ``scale``; ``base_sha256`` that of its weight file.
        name: by default that of the folder or file.

    Raises:
        AdapterError: it is damaged or hostile, does not fit, or the name is taken or not plain.
        OutputError: it cannot be written.
    """
    name = new_name(name if name is not None else _name_of(path))
    found = read_foreign(path, adaptable(module))
    base = Base(base_id, base_sha256)
    card = found.card or _new_card(found, name, path, base, scale)
    if card.scale != scale:
        raise AdapterError(f"{path} is for x{card.scale}, and {base_id} is x{scale}; use it with {card.base.id}")
    adapter = Adapter(found.factors, card, found.settings.rslora)
    check_fits(module, adapter, base_sha256)
    if card.base.sha256 is None:
        adapter = replace(adapter, card=replace(card, base=base))
    return save_adapter(adapter, name)


def import_adapters(
    path: Path, module: nn.Module, base_id: str, base_sha256: str | None, scale: int, name: str | None = None
) -> list[AdapterCard]:
    """As :func:`import_adapter`, but PiSA-SR's file becomes two: ``name-pixel`` and ``name-semantic``, by default after the model.

    Raises:
        AdapterError, OutputError: as :func:`import_adapter`.
    """
    if path.suffix.lower() not in PICKLES or not is_pisa(read_tensors(path)[0]):
        return [import_adapter(path, module, base_id, base_sha256, scale, name)]
    pair = read_pisa(path, module, Base(base_id, base_sha256), scale)
    names = [new_name(f"{name or base_id}-{adapter.card.role}") for adapter in pair]
    return [save_adapter(adapter, each) for adapter, each in zip(pair, names, strict=True)]


def _name_of(path: Path) -> str:
    if path.stem == "adapter_model":
        path = path.parent
    return path.resolve().name if os.path.isdir(path) else path.stem  # noqa: PTH112 - see find_adapter


def _new_card(found: Foreign, name: str, path: Path, base: Base, scale: int) -> AdapterCard:
    parts: list[Factors] = list(found.factors.values())
    alphas = [alpha_of(part, found.settings.rslora) for part in parts]
    return AdapterCard(
        title=name,
        role="domain",
        base=base,
        scale=scale,
        rank=str(most_common(part.rank for part in parts)),
        form=found.settings.form,
        alpha=None if alphas == [part.rank for part in parts] else most_common(alphas),
        targets=tuple(found.factors),
        licence="unknown",
        description=f"imported from {path.name}",
    )


def export_adapter(name: str, out_file: Path) -> None:
    """Write an adapter as one ``.safetensors`` file, which must not exist yet.

    Raises:
        AdapterError: there is no such adapter. OutputError: the file exists or cannot be written.
    """
    write_file(load_adapter(name), out_file)


def rename_adapter(old: str, new: str) -> AdapterCard:
    """Give one of the user's adapters another name.

    Raises:
        AdapterError: there is none called ``old``, it came with srgui, or ``new`` is taken or not plain.
        OutputError: the folder cannot be renamed.
    """
    folder = own_adapter(old)
    target = adapters_folder() / new_name(new)
    try:
        folder.rename(target)
    except OSError as error:
        raise OutputError(f"{folder} cannot be renamed: {error.strerror}; check its permissions") from error
    return read_card(target)


def remove_adapter(name: str) -> None:
    """Delete one of the user's adapters.

    Raises:
        AdapterError: there is none of this name, or it came with srgui. OutputError: it cannot be deleted.
    """
    folder = own_adapter(name)
    doomed = folder.with_name(f".{secrets.token_hex(8)}")
    try:
        folder.rename(doomed)  # gone at once, even if deleting is interrupted
        shutil.rmtree(doomed)
    except OSError as error:
        raise OutputError(f"{folder} cannot be removed: {error.strerror}; check its permissions") from error


def own_adapter(name: str) -> Path:
    """The folder of one of the user's adapters.

    Raises:
        AdapterError: there is none of this name, or it came with srgui.
    """
    if is_plain_name(name):
        if (SHIPPED / name).is_dir():
            raise AdapterError(f"the adapter {name!r} came with srgui and stays as it is; import a copy under another name")
        if (adapters_folder() / name).is_dir():
            return adapters_folder() / name
    raise _unknown(name)
