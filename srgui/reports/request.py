"""What a person asks for when they ask for a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from srgui.errors import InputError
from srgui.images import list_pictures
from srgui.models.cards import DEFAULT_MODEL
from srgui.reports.kinds import Kind


@dataclass(frozen=True)
class DataSet:
    """HR pictures to train on, and those held out; None holds out some of the others."""

    name: str
    pictures: Path
    val_dir: Path | None


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        bench: folders of HR pictures that are measured beside those held out.
        changes: fields of the recipes.
        out: the folder of the report, its pictures and the checkpoints of its trainings.
    """

    kind: Kind
    data: tuple[DataSet, ...]
    out: Path
    bench: tuple[Path, ...] = ()
    model: str = DEFAULT_MODEL
    changes: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"
    workers: int = 1


def data_sets(folders: Sequence[Path]) -> tuple[DataSet, ...]:
    """A data set is a folder of HR pictures, or one with the folders ``train`` and, if some are held out, ``val``.

    Raises:
        InputError: a folder is missing or holds no picture, or two have the same name.
    """
    found = tuple(_data_set(folder.resolve()) for folder in folders)
    for name, count in Counter(data.name for data in found).items():
        if count > 1:
            raise InputError(f"{count} data sets are called {name}, and each needs a folder of its own; rename one")
    for data in found:
        for folder in (data.pictures, data.val_dir):
            if folder is not None:
                list_pictures(folder)
    return found


def _data_set(folder: Path) -> DataSet:
    if not (folder / "train").is_dir():
        return DataSet(folder.name, folder, None)
    val = folder / "val"
    return DataSet(folder.name, folder / "train", val if val.is_dir() else None)
