"""What several commands share: options, the progress bar, how a command ends."""

from __future__ import annotations

import json
import math
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from srgui.errors import Cancelled, InputError, SrguiError

if TYPE_CHECKING:
    from srgui.protocol import Option, Run

Model = Annotated[str, typer.Option("--model", "-m", help="Id of a model, or path to a card or a weight file.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Tile = Annotated[str, typer.Option(help="Side of a tile in LR pixels, or auto.")]
Pixel = Annotated[
    float | None, typer.Option(help="Fidelity, 0 to 1.5: 0 is bicubic, 1 (the default) the network. Turns on the model's pair.")
]
Semantic = Annotated[float | None, typer.Option(help="Generated detail, 0 to 1.5 (1 by default). Turns on the model's pair.")]

Adapters = Annotated[
    list[str] | None,
    typer.Option(
        "--adapter",
        "-a",
        metavar="NAME[:STRENGTH]",
        help="An adapter, by name or path; can be repeated.",
    ),
]
Fields = Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the recipe.")]


def read_tile(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal():
        raise InputError(f"--tile {text!r} must be auto or a number of LR pixels")
    return int(text)


def given_values(pixel: float | None, semantic: float | None) -> dict[str, float]:
    return {name: value for name, value in (("pixel", pixel), ("semantic", semantic)) if value is not None}


def write_json(path: Path, content: dict[str, Any]) -> None:
    from srgui.errors import OutputError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(_finite(content), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}; choose another name or folder") from error


def _finite(content: Any) -> Any:
    """JSON has no infinity, which is the PSNR of equal pictures: it becomes null."""
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def finish(total: int, failed: list[tuple[Path, str]]) -> None:
    for path, reason in failed:
        print(f"error: {reason if str(path) in reason else f'{path}: {reason}'}", file=sys.stderr)
    if failed:
        raise typer.Exit(2 if len(failed) == total else 1)


@contextmanager
def progress_bar() -> Iterator[Run]:
    """A run whose progress is a bar on the terminal; Ctrl-C cancels it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    from srgui.protocol import Progress, Run

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    # Redirected, what is printed would go to stderr: right beside the bar on a terminal, wrong into a pipe.
    redirect = sys.stdout.isatty()
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal, redirect_stdout=redirect) as bar:
        rows: dict[str, Any] = {}

        def report(progress: Progress) -> None:
            if progress.what not in rows:
                rows[progress.what] = bar.add_task(progress.what)
            bar.update(rows[progress.what], completed=progress.done, total=progress.total)

        run = Run(report)
        try:
            yield run
        except KeyboardInterrupt:
            raise SrguiError("interrupted; nothing half-written is left") from None


@contextmanager
def stopping(run: Run) -> Iterator[None]:
    """Ctrl-C lets a training keep its checkpoint first."""
    former = signal.signal(signal.SIGINT, lambda *_: run.cancel())
    try:
        yield
    except Cancelled:
        raise SrguiError("stopped; the same command goes on from here") from None
    finally:
        signal.signal(signal.SIGINT, former)


def read_adapters(texts: list[str] | None) -> list[tuple[str, float]]:
    """``NAME[:STRENGTH]`` as (name, strength).

    Raises:
        InputError: a strength is not a number.
    """
    return [_adapter(text) for text in texts or []]


def _adapter(text: str) -> tuple[str, float]:
    name, colon, strength = text.rpartition(":")
    if not colon or "/" in strength or "\\" in strength:  # C:\folder is a path
        return text, 1.0
    try:
        return name, float(strength)
    except ValueError as error:
        raise InputError(f"--adapter {text!r}: the strength {strength!r} is not a number; such as {name}:0.8") from error


def read_options(texts: list[str] | None, known: Mapping[str, Option]) -> dict[str, Option]:
    """``NAME=VALUE`` as options of a model, each of the type of its default.

    Raises:
        InputError: the model has no such option, or the value is of another type.
    """
    found: dict[str, Option] = {}
    for name, value in read_fields(texts, "--option", "prompt=a cat").items():
        if name not in known:
            raise InputError(f"this model has no option {name!r}; it has {', '.join(known) or 'none, leave it out'}")
        kind = type(known[name])
        read = {"true": True, "false": False}.get(value.lower()) if kind is bool else _number(value, kind)
        if read is None:
            raise InputError(f"--option {name}={value!r} must be {'true or false' if kind is bool else kind.__name__}")
        found[name] = read
    return found


def _number(value: str, kind: type) -> Option | None:
    try:
        return cast("Option", kind(value))
    except ValueError:
        return None


def read_fields(options: list[str] | None, flag: str = "--set", example: str = "lr=1e-3") -> dict[str, str]:
    """``FIELD=VALUE`` as field -> value.

    Raises:
        InputError: there is no equals sign.
    """
    found = {}
    for option in options or []:
        key, equals, value = option.partition("=")
        if not equals:
            raise InputError(f"{flag} {option!r} is not FIELD=VALUE; such as {flag} {example}")
        found[key] = value
    return found
