"""The command line: the same verbs as the interface. Slow packages are imported inside the commands that need them."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from srgui import __version__
from srgui.errors import InputError, SrguiError
from srgui.models.cards import DEFAULT_MODEL, check_name, find_card, scan

if TYPE_CHECKING:
    from srgui.inference.batch import Task
    from srgui.protocol import Run

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Image super-resolution that you can tune.",
)
models_app = typer.Typer(no_args_is_help=True, help="List, inspect, download and add models.")
app.add_typer(models_app, name="models")

Model = Annotated[str, typer.Option("--model", "-m", help="Id of a model, or path to a card or a weight file.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Tile = Annotated[str, typer.Option(help="Side of a tile in LR pixels, or auto.")]
Pixel = Annotated[
    float | None, typer.Option(help="Strength of the network's change, 0 to 1.5: 0 is bicubic, 1 (the default) the network.")
]
Semantic = Annotated[float | None, typer.Option(help="Strength of generated detail, for models with a semantic adapter.")]


def main() -> None:
    """Run the command line; errors that a user can mend are one line and exit code 2."""
    try:
        app()
    except SrguiError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:  # of the machine, where nothing closer to it says more
        print(f"error: {error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(2)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False) -> None:
    if version:
        print(f"srgui {__version__}")
        raise typer.Exit


@app.command()
def upscale(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT...", help="Pictures, or folders (their pictures, not those of folders in them).")
    ],
    out: Annotated[str, typer.Option("-o", "--out", metavar="OUT", help="A file, or a folder (ends in a separator).")],
    model: Model = DEFAULT_MODEL,
    pixel: Pixel = None,
    semantic: Semantic = None,
    outscale: Annotated[float | None, typer.Option(help="Factor of the result, up to 16; by default the model's.")] = None,
    tile: Tile = "auto",
    device: Device = "auto",
    format: Annotated[str, typer.Option(help="Format of files put into a folder: png, jpg, webp or tiff.")] = "png",
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of JPEG and WebP; WebP at 100 is lossless.")] = 95,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
) -> None:
    """Upscale pictures. Bit depth, alpha, ICC profile and EXIF are kept; the settings are embedded in the result."""
    from srgui.inference.batch import expand, outputs, upscale_files
    from srgui.inference.outscale import check_outscale
    from srgui.restorers import open_restorer

    files = expand(inputs)
    values = _values(pixel, semantic)
    restorer = open_restorer(model, device=device, tile=_tile(tile))
    factor = restorer.info.scale if outscale is None else outscale
    check_outscale(factor, restorer.info.scale)
    tasks = outputs(files, out, factor, format)
    with _progress() as run:
        failed = upscale_files(restorer, tasks, values, factor, run, quality=quality, overwrite=overwrite, told=_tell)
    _finish(len(tasks), failed)


@app.command()
def evaluate(
    hr_dir: Annotated[Path, typer.Argument(help="Folder of HR pictures.")],
    lr_dir: Annotated[Path | None, typer.Option(help="Folder of LR pictures of the same names.")] = None,
    degradation: Annotated[str, typer.Option(help="How LR is made: bicubic, camera or realworld.")] = "bicubic",
    seed: Annotated[int, typer.Option(help="Of the degradation.")] = 0,
    model: Model = DEFAULT_MODEL,
    pixel: Pixel = None,
    semantic: Semantic = None,
    lpips_net: Annotated[str, typer.Option(help="auto, alex, vgg or squeeze.")] = "auto",
    save: Annotated[Path | None, typer.Option(help="Folder for <stem>_lr.png and <stem>_sr.png.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the scores to this file.")] = None,
    tile: Tile = "auto",
    device: Device = "auto",
) -> None:
    """PSNR and SSIM (on Y, crop = scale) and LPIPS of a model on a folder of HR pictures, beside bicubic."""
    from srgui.degradations import DEGRADATIONS
    from srgui.errors import near
    from srgui.evaluation import Protocol, summary
    from srgui.evaluation import evaluate as measure
    from srgui.images import list_pictures
    from srgui.inference.guidance import resolve
    from srgui.protocol import Setting
    from srgui.restorers import open_restorer

    if degradation not in DEGRADATIONS:
        raise InputError(f"unknown degradation {degradation!r}. {near(degradation, DEGRADATIONS)}")
    paths = list_pictures(hr_dir)
    restorer = open_restorer(model, device=device, tile=_tile(tile))
    values = resolve(_values(pixel, semantic), restorer.info.controls)
    lpips, lpips_text = _lpips(lpips_net)
    with _progress() as run:
        measured, failed = measure(
            restorer, paths, Protocol(degradation, seed), Setting(values), run, lr_dir=lr_dir, lpips=lpips, save=save
        )
    settings = {
        "model": restorer.info.id,
        "model_sha256": restorer.info.digest,
        "scale": restorer.info.scale,
        "values": dict(values),
        "degradation": degradation if lr_dir is None else None,
        "lr_dir": str(lr_dir) if lr_dir is not None else None,
        "seed": seed,
        "channel": "Y",
        "crop_border": restorer.info.scale,
        "data_range": 1.0,
        "lpips": lpips_text,
        "version": __version__,
    }
    report = summary(measured, settings)
    if measured:
        _print_scores(report)
    if json_file is not None and measured:
        _write_json(json_file, report)
    _finish(len(paths), failed)


@models_app.command("list")
def models_list() -> None:
    """The models that come with srgui, your own, and those that can be downloaded."""
    cards, problems = scan()
    for problem in problems:
        print(f"warning: {problem}", file=sys.stderr)
    for card in cards.values():
        state = "ready" if card.present else "download" if card.downloadable else "incomplete"
        print(f"{card.id:28} x{card.scale}  {state:10} {card.licence:14} {card.title}")


@models_app.command("show")
def models_show(model: str) -> None:
    """Everything a model's card says."""
    card = find_card(model)
    fields = {
        "id": card.id,
        "title": card.title,
        "description": card.description,
        "family": card.family,
        "scale": card.scale,
        "licence": card.licence,
        "source": card.source,
        "trained on": card.trained_on,
        **{f"part {role}": f"{part.path}{'' if part.path.exists() else ' (not here)'}" for role, part in card.parts.items()},
        "metrics": card.metrics,
        "training": card.training,
    }
    for name, value in fields.items():
        if value:
            print(f"{name + ':':14} {json.dumps(value) if isinstance(value, dict) else value}")


@models_app.command("download")
def models_download(models: list[str]) -> None:
    """Fetch models of the catalogue into your models folder."""
    from srgui.models.download import download_model

    for model in models:
        with _progress() as run:
            card = download_model(model, run)
        print(f"{card.id} is ready")


@models_app.command("add")
def models_add(
    file: Path, name: Annotated[str | None, typer.Option(help="Id to give it; by default the file's name.")] = None
) -> None:
    """Copy a weight file of any architecture spandrel knows into your models folder."""
    from srgui.models.download import add_model

    card = add_model(file, name)
    print(f"{card.id} is ready (x{card.scale}, {card.description})")


@app.command("train-base")
def train_base_command(
    folders: Annotated[list[Path], typer.Argument(metavar="HR_DIR...", help="Folders of HR pictures; the first gives validation.")],
    name: Annotated[str, typer.Option(help="Id of the model to write into your models folder.")],
    network: Annotated[str, typer.Option(help="Recipe: compact, compact-cooldown or srcnn.")] = "compact",
    start: Annotated[
        str | None, typer.Option(help="Model to go on from, as compact-cooldown does: an id or a weight file.")
    ] = None,
    options: Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the recipe.")] = None,
    work: Annotated[Path | None, typer.Option(help="Folder of checkpoints; by default runs/<name>. Resumed if there.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads.")] = None,
    device: Device = "auto",
) -> None:
    """Train a base model from nothing. The bundled models were made with this; their cards give the recipe."""
    import torch

    from srgui.device import pick
    from srgui.training.base import parse_recipe, train_base, write_model

    check_name(name)  # before the hours, not after
    recipe = parse_recipe(network, options or [])
    if threads:
        torch.set_num_threads(threads)
    result = train_base(
        recipe,
        folders,
        work or Path("runs") / name,
        pick(device),
        lambda line: print(json.dumps(line), flush=True),
        find_card(start).parts["weights"].path if start else None,
    )
    card = write_model(name, recipe, result)
    print(f"{card.id} is ready: validation Y-PSNR {result.report['validation_psnr_y']} dB")


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for other machines.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port; by default the first free one from 7860.")] = None,
    auth: Annotated[str | None, typer.Option(metavar="USER:PASSWORD", help="Ask for a name and a password.")] = None,
) -> None:
    """Start the page; what app.py does."""
    from srgui.ui.app import launch

    launch(host=host, port=port, auth=_auth(auth))


def _auth(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    user, colon, password = text.partition(":")
    if not user or not colon or not password:
        raise InputError(f"--auth {text!r} is not a name, a colon and a password; such as --auth me:secret")
    return user, password


def _tile(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal():
        raise InputError(f"--tile {text!r} must be auto or a number of LR pixels")
    return int(text)


def _values(pixel: float | None, semantic: float | None) -> dict[str, float]:
    return {name: value for name, value in (("pixel", pixel), ("semantic", semantic)) if value is not None}


def _lpips(net: str) -> tuple[Any, str]:
    from srgui.errors import MetricUnavailable
    from srgui.metrics import load_lpips

    if net not in ("auto", "alex", "vgg", "squeeze"):
        raise InputError(f"unknown LPIPS network {net!r}; use auto, alex, vgg or squeeze")
    try:
        lpips = load_lpips(net)  # type: ignore[arg-type]
    except MetricUnavailable as reason:
        print(reason, file=sys.stderr)
        return None, str(reason)
    return lpips, lpips.net


def _print_scores(report: dict[str, Any]) -> None:
    print(f"{'picture':28} {'PSNR-Y':>8} {'SSIM-Y':>8} {'LPIPS':>8}   bicubic: PSNR-Y SSIM-Y LPIPS")
    rows = [(image["name"], image, image["bicubic"]) for image in report["images"]]
    for name, model, bicubic in [*rows, ("mean", report["mean"], report["bicubic"])]:
        print(f"{name[:28]:28} {_cells(model)}            {_cells(bicubic)}")
    settings = report["settings"]
    net = settings["lpips"]
    lpips = net if net.startswith("LPIPS") else f"LPIPS: {net}"
    print(f"Y of BT.601, {settings['crop_border']} pixels cropped, 8 bits; {lpips}")


def _cells(scores: dict[str, Any]) -> str:
    formats = {"psnr_y": "8.3f", "ssim_y": "8.4f", "lpips": "8.4f"}
    return " ".join(format(scores[key], spec) if scores[key] is not None else f"{'-':>8}" for key, spec in formats.items())


def _write_json(path: Path, content: dict[str, Any]) -> None:
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


def _tell(task: Task, notes: tuple[str, ...]) -> None:
    print(f"{task.output}{' (' + '; '.join(notes) + ')' if notes else ''}")


def _finish(total: int, failed: list[tuple[Path, str]]) -> None:
    for path, reason in failed:
        print(f"error: {reason if str(path) in reason else f'{path}: {reason}'}", file=sys.stderr)
    if failed:
        raise typer.Exit(2 if len(failed) == total else 1)


@contextmanager
def _progress() -> Iterator[Run]:
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
