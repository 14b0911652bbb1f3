"""Reading every picture before a training: what can be used, what is wrong with the rest, and which are held out."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

import numpy as np

from srgui.degradations import check_degradation, rng_for
from srgui.errors import InputError
from srgui.images import list_pictures, read_picture

Kind = Literal["unreadable", "too-small", "size-mismatch", "wrong-scale", "duplicate", "no-partner"]
Size = tuple[int, int]

_LARGEST_SCALE = 16
_REASONS = 3
_SHARE, _MOST = 0.15, 16  # held out unless told otherwise


@dataclass(frozen=True)
class Item:
    """A picture to train on: the HR file, its size, the LR file if there is one, and sha256 of the size and the 8-bit samples.

    ``zoom`` is the factor by which it is shrunk before it is shown.
    """

    path: Path
    height: int
    width: int
    lr_path: Path | None
    sha256: str
    zoom: float = 1.0


@dataclass(frozen=True)
class Finding:
    """Why ``path`` is left out; ``problem`` is one line that names it, the reason and the remedy."""

    path: Path
    kind: Kind
    problem: str


@dataclass
class Inventory:
    """What :func:`inspect` found: ``items`` in natural order of their names, and a finding for every file that is left out."""

    scale: int
    patch: int
    items: list[Item] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For people: the count, then every problem."""
        known = len(self.items)
        count = f"{known} {'picture' if known == 1 else 'pictures'} can be used (x{self.scale}, LR patches of {self.patch})"
        left = f"; {len(self.findings)} left out:" if self.findings else ""
        return [count + left, *(finding.problem for finding in self.findings)]

    def as_json(self) -> dict[str, Any]:
        """``scale``, ``patch``, and lists of ``items`` and ``findings`` with the fields of :class:`Item` and :class:`Finding`."""
        return {
            "scale": self.scale,
            "patch": self.patch,
            "items": [
                {**vars(item), "path": str(item.path), "lr_path": str(item.lr_path) if item.lr_path else None}
                for item in self.items
            ],
            "findings": [{**vars(finding), "path": str(finding.path)} for finding in self.findings],
        }

    def usable(self) -> list[Item]:
        """The items.

        Raises:
            InputError: there is none; the message holds the first problems.
        """
        if not self.items:
            reasons = "; ".join(finding.problem for finding in self.findings[:_REASONS])
            more = len(self.findings) - _REASONS
            raise InputError(f"no picture can be used: {reasons}{f'; and {more} more' if more > 0 else ''}")
        return self.items


def inspect(
    hr: Sequence[Path],
    *,
    scale: int,
    patch: int,
    degradation: str = "bicubic",
    lr_dir: Path | None = None,
    pair_by: Literal["name", "order"] = "name",
) -> Inventory:
    """Decode every picture once and sort out what cannot be trained on.

    Args:
        hr: folders of pictures, and picture files.
        patch: side of an LR patch, pixels.
        degradation: how LR will be made where there is no ``lr_dir``; only checked here.
        lr_dir: LR pictures. An HR whose sides are no multiples of ``scale`` fits an LR of the sides divided and rounded down.
        pair_by: ``name``: HR and LR of one file name, else of one stem; ``order``: both in natural order of their names.

    Raises:
        InputError: an unknown degradation, a folder that is missing or holds no picture, or unequal counts to pair by order.
    """
    check_degradation(degradation)
    paths = _listed(hr)
    inventory = Inventory(scale, patch)
    partners: dict[Path, Path] = {}
    if lr_dir is not None:
        partners = _partners(paths, lr_dir, pair_by, inventory)
        paths = [path for path in paths if path in partners]
    seen: dict[str, Path] = {}
    for path in paths:
        found = _examine(path, partners.get(path), inventory)
        if isinstance(found, Item) and found.sha256 in seen:
            problem = (
                f"{path} is the same picture as {seen[found.sha256]}, so that a held-out copy cannot be trained on; remove one"
            )
            found = Finding(path, "duplicate", problem)
        if isinstance(found, Finding):
            inventory.findings.append(found)
        else:
            seen[found.sha256] = path
            inventory.items.append(found)
    return inventory


def split(items: Sequence[Item], held_out: int | None, seed: int) -> tuple[list[Item], list[Item]]:
    """Divide into (training, validation), each in natural order of the names.

    Which pictures are held out depends on ``seed`` and the names alone, not on where they lie or in which order they were listed.

    Args:
        held_out: how many; None for about 15%, at least 1 and at most 16.

    Raises:
        InputError: fewer than 2 items, or none would be left on one side.
    """
    if len(items) < 2:
        raise InputError(
            f"{len(items)} usable picture is too few to hold one out for validation; give more pictures or a validation folder"
        )
    count = min(_MOST, max(1, round(_SHARE * len(items)))) if held_out is None else held_out
    if not 0 < count < len(items):
        raise InputError(f"{count} of {len(items)} pictures cannot be held out; give 1 to {len(items) - 1}, or a validation folder")
    drawn = sorted(items, key=lambda item: (rng_for(seed, f"held out/{item.path.name}").random(), item.sha256))
    chosen = {item.sha256 for item in drawn[:count]}
    ordered = sorted(items, key=lambda item: (natural(item.path.name), item.sha256))
    return [item for item in ordered if item.sha256 not in chosen], [item for item in ordered if item.sha256 in chosen]


def natural(name: str) -> tuple[list[str | int], str]:
    """A key that sorts ``2.png`` before ``10.png``."""
    parts = re.split(r"(\d+)", name.casefold())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name


def _listed(sources: Sequence[Path]) -> list[Path]:
    found = [path for source in sources for path in (list_pictures(source) if not source.is_file() else [source])]
    unique = {path.resolve(): path for path in reversed(found)}
    return sorted(unique.values(), key=lambda path: (natural(path.name), str(path)))


def _partners(hr: Sequence[Path], lr_dir: Path, pair_by: Literal["name", "order"], inventory: Inventory) -> dict[Path, Path]:
    """HR path -> LR path; those without one are noted in ``inventory``."""
    lr = _listed([lr_dir])
    if pair_by == "order":
        if len(hr) != len(lr):
            raise InputError(
                f"{len(hr)} HR and {len(lr)} LR pictures cannot be paired by order; remove those without a partner, or pair by name"
            )
        return dict(zip(hr, lr, strict=True))
    partners: dict[Path, Path] = {}
    for key in (attrgetter("name"), attrgetter("stem")):
        taken = set(partners.values())
        free = {key(path): path for path in reversed(lr) if path not in taken}
        for path in hr:
            if path not in partners and key(path) in free:
                partners[path] = free.pop(key(path))
    for path in (path for path in hr if path not in partners):
        problem = f"{path} has no LR picture named {path.stem} in {lr_dir}; add it, or pair by order"
        inventory.findings.append(Finding(path, "no-partner", problem))
    for path in (path for path in lr if path not in set(partners.values())):
        problem = f"{path} has no HR picture named {path.stem}; add it, or pair by order"
        inventory.findings.append(Finding(path, "no-partner", problem))
    return partners


def _examine(path: Path, lr_path: Path | None, inventory: Inventory) -> Item | Finding:
    scale, patch = inventory.scale, inventory.patch
    samples: dict[Path, np.ndarray] = {}
    for file in (path, lr_path) if lr_path is not None else (path,):
        try:
            samples[file] = read_picture(file).as_uint8()
        except InputError as error:
            return Finding(file, "unreadable", str(error))
    rgb = samples[path]
    height, width = rgb.shape[:2]
    if lr_path is not None:
        finding = _mismatch(path, (height, width), lr_path, samples[lr_path].shape[:2], scale)
        if finding is not None:
            return finding
    largest = min(height, width) // scale
    if largest < patch:
        remedy = f" or a patch of at most {largest}" if largest else ""
        problem = (
            f"{path} is {width} x {height}, too small for LR patches of {patch} at x{scale}; "
            f"give at least {patch * scale} x {patch * scale}{remedy}"
        )
        return Finding(path, "too-small", problem)
    digest = hashlib.sha256(f"{height}x{width}:".encode() + np.ascontiguousarray(rgb).tobytes()).hexdigest()
    return Item(path, height, width, lr_path, digest)


def _mismatch(path: Path, hr: Size, lr_path: Path, lr: tuple[int, ...], scale: int) -> Finding | None:
    """``hr``, ``lr``: (height, width)."""

    def at(factor: int) -> Size:
        return hr[0] // factor, hr[1] // factor

    if at(scale) == lr:
        return None
    other = next((factor for factor in range(1, _LARGEST_SCALE + 1) if at(factor) == lr), None)
    if other is not None:
        problem = f"{path} and {lr_path} are x{other}, the model is x{scale}; give a model of x{other}, or LR pictures of x{scale}"
        return Finding(path, "wrong-scale", problem)
    expected = at(scale)
    problem = (
        f"{lr_path} is {lr[1]} x {lr[0]}; for {path} of {hr[1]} x {hr[0]} at x{scale} it must be {expected[1]} x {expected[0]}; "
        "look whether they are of one picture"
    )
    return Finding(path, "size-mismatch", problem)
