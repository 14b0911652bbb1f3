"""Several files in one go: which outputs they get, and one failing input does not stop the others."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from srgui.errors import Cancelled, InputError, SrguiError
from srgui.images import FORMATS, check_output, list_pictures, read_picture
from srgui.inference.guidance import complete
from srgui.inference.made import Made
from srgui.inference.picture import PreparedPicture
from srgui.protocol import Option, Restorer, Run, Setting


@dataclass(frozen=True)
class Task:
    input: Path
    output: Path


def expand(inputs: Sequence[Path]) -> list[Path]:
    """Inputs with folders replaced by the pictures in them.

    Raises:
        InputError: a folder holds no picture.
    """
    # os.path, here and below, because Path.is_dir raises for a name that is too long
    return [file for path in inputs for file in (list_pictures(path) if os.path.isdir(path) else [path])]  # noqa: PTH112


def outputs(inputs: Sequence[Path], out: str, outscale: float, format: str = "png") -> list[Task]:
    """Name the output of each input.

    ``out`` is a folder if it is one, ends in a separator, or there are several inputs; files in it are named
    ``<stem>_x<outscale>.<format>``, and of inputs with the same stem each keeps its suffix in the name.

    Raises:
        InputError: a format that is not written, or the same input twice.
    """
    if f".{format}" not in FORMATS:
        raise InputError(f"format {format!r} is not written; use {', '.join(suffix[1:] for suffix in FORMATS)}")
    folder = Path(out)
    if len(inputs) == 1 and not os.path.isdir(folder) and not out.endswith((os.sep, "/")):  # noqa: PTH112
        return [Task(inputs[0], folder)]
    return [Task(path, folder / f"{name}_x{outscale:g}.{format}") for path, name in zip(inputs, names(inputs), strict=True)]


def names(paths: Sequence[Path]) -> list[str]:
    """What files made from ``paths`` are called: the stem, or the whole name where several have the same stem.

    Raises:
        InputError: two would be called the same.
    """
    stems = Counter(path.stem for path in paths)
    found = [path.name if stems[path.stem] > 1 else path.stem for path in paths]
    twice = [name for name, count in Counter(found).items() if count > 1]
    if twice:
        raise InputError(f"several inputs are named {twice[0]}; give them one at a time, or into different folders")
    return found


def upscale_files(
    restorer: Restorer,
    tasks: Sequence[Task],
    setting: Setting,
    outscale: float,
    run: Run,
    *,
    options: Mapping[str, Option] | None = None,
    quality: int = 95,
    overwrite: bool = False,
    told: Callable[[Task, tuple[str, ...]], None] = lambda task, notes: None,
) -> list[tuple[Path, str]]:
    """Upscale each task's input into its output.

    Args:
        setting: values of the restorer's controls; those not given keep their defaults.
        options: of the restorer, likewise.
        told: called with each task that is done and the notes of its reading.

    Returns:
        The inputs that failed, each with the reason.

    Raises:
        InputError: the restorer has no such control, or a value is outside its range.
        Cancelled: the outputs already written stay, the one in the making does not.
    """
    setting = complete(setting, restorer.info.controls)
    settings = Made.by(restorer.info, setting, outscale, options).as_json()
    sources = [task.input for task in tasks]
    failed = []
    for index, task in enumerate(tasks):
        if len(tasks) > 1:
            run.progress("pictures", index, len(tasks))
        try:
            check_output(task.output, overwrite=overwrite, inputs=sources)
            picture = read_picture(task.input)
            prepared = PreparedPicture(restorer, picture, outscale, run, options)
            try:
                lost = prepared.save(task.output, setting, run, settings=settings, quality=quality, overwrite=overwrite)
            finally:
                prepared.close()
            told(task, (*picture.notes, *lost))
        except Cancelled:
            raise
        except SrguiError as error:
            failed.append((task.input, str(error)))
    if len(tasks) > 1:
        run.progress("pictures", len(tasks), len(tasks))
    return failed
