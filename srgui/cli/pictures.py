"""Commands that run models on pictures: upscale, evaluate."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from srgui import __version__
from srgui.cli.common import (
    Adapters,
    Device,
    Model,
    Pixel,
    Semantic,
    Tile,
    finish,
    given_values,
    progress_bar,
    read_adapters,
    read_options,
    read_tile,
    write_json,
)
from srgui.errors import InputError
from srgui.models.cards import DEFAULT_MODEL

if TYPE_CHECKING:
    from srgui.inference.batch import Task
    from srgui.protocol import Option, Setting

app = typer.Typer()


@app.command()
def upscale(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT...", help="Pictures, or folders (their pictures, not those of folders in them).")
    ],
    out: Annotated[str, typer.Option("-o", "--out", metavar="OUT", help="A file, or a folder (ends in a separator).")],
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help=f"Id of a model, or path to a card or a weight file; by default {DEFAULT_MODEL}."),
    ] = None,
    adapter: Adapters = None,
    pixel: Pixel = None,
    semantic: Semantic = None,
    mask: Annotated[
        Path | None,
        typer.Option(help="A picture, stretched over the result: where it is white the masked scales hold. Turns on the pair."),
    ] = None,
    masked_pixel: Annotated[float | None, typer.Option(help="Fidelity in the mask; by default as outside.")] = None,
    masked_semantic: Annotated[float | None, typer.Option(help="Generated detail in the mask; by default 0.")] = None,
    like: Annotated[
        Path | None,
        typer.Option(help="A result of srgui: use its model, adapters, scales, mask, size and tile, but for what is given."),
    ] = None,
    outscale: Annotated[float | None, typer.Option(help="Factor of the result, up to 16; by default the model's.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="What a model wants to know beside the picture, such as prompt; may be repeated."),
    ] = None,
    tile: Tile = "auto",
    device: Device = "auto",
    format: Annotated[str, typer.Option(help="Format of files put into a folder: png, jpg, webp or tiff.")] = "png",
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of JPEG and WebP; WebP at 100 is lossless.")] = 95,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
) -> None:
    """Upscale pictures. Bit depth, alpha, ICC profile and EXIF are kept; the settings are embedded in the result."""
    from srgui.inference.batch import expand, outputs, upscale_files
    from srgui.inference.made import made
    from srgui.inference.outscale import check_outscale
    from srgui.restorers import open_restorer, reopen

    files = expand(inputs)
    kept: Mapping[str, Option] = {}
    setting = _setting(given_values(pixel, semantic), given_values(masked_pixel, masked_semantic), mask)
    if like is None:
        pair = bool(setting.values) or mask is not None
        restorer = open_restorer(
            model or DEFAULT_MODEL, adapters=read_adapters(adapter), pair=pair, device=device, tile=read_tile(tile)
        )
        factor = restorer.info.scale if outscale is None else outscale
    else:
        if adapter:
            raise InputError("--like brings the adapters of its file; leave --adapter out")
        before = made(like)
        side = read_tile(tile)
        restorer = reopen(before if side is None else replace(before, tile=side), model=model, device=device)
        setting, kept = _over(before.setting, setting), before.options
        factor = before.outscale if outscale is None else outscale
    check_outscale(factor, restorer.info.scale)
    options = {**kept, **read_options(option, restorer.info.options)}
    tasks = outputs(files, out, factor, format)
    with progress_bar() as run:
        failed = upscale_files(
            restorer, tasks, setting, factor, run, options=options, quality=quality, overwrite=overwrite, told=_tell
        )
    finish(len(tasks), failed)


def _setting(values: dict[str, float], masked: dict[str, float], mask: Path | None) -> Setting:
    from srgui.inference.mask import read_mask
    from srgui.protocol import Setting

    if mask is None:
        if masked:
            raise InputError("--masked-pixel and --masked-semantic hold in a mask; give one with --mask")
        return Setting(values)
    return Setting(values, masked or {"semantic": 0.0}, read_mask(mask))


def _over(before: Setting, given: Setting) -> Setting:
    """The setting of a result, with what is given in its place."""
    values = {**before.values, **given.values}
    kept = before if given.mask is None else given
    return replace(kept, values=values)


@app.command()
def evaluate(
    hr_dir: Annotated[Path, typer.Argument(help="Folder of HR pictures.")],
    lr_dir: Annotated[Path | None, typer.Option(help="Folder of LR pictures of the same names.")] = None,
    degradation: Annotated[str, typer.Option(help="How LR is made: bicubic, camera, realworld, kernels or custom:...")] = "bicubic",
    seed: Annotated[int, typer.Option(help="Of the degradation.")] = 0,
    model: Model = DEFAULT_MODEL,
    adapter: Adapters = None,
    pixel: Pixel = None,
    semantic: Semantic = None,
    lpips_net: Annotated[str, typer.Option(help="auto, alex, vgg or squeeze.")] = "auto",
    save: Annotated[Path | None, typer.Option(help="Folder for <stem>_lr.png and <stem>_sr.png.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the scores to this file.")] = None,
    tile: Tile = "auto",
    device: Device = "auto",
) -> None:
    """PSNR and SSIM (on Y, crop = scale) and LPIPS of a model on a folder of HR pictures, beside bicubic."""
    from srgui.degradations import check_degradation
    from srgui.evaluation import Protocol, summary
    from srgui.evaluation import evaluate as measure
    from srgui.images import list_pictures
    from srgui.inference.guidance import resolve
    from srgui.protocol import Setting
    from srgui.restorers import open_restorer

    check_degradation(degradation)
    paths = list_pictures(hr_dir)
    given = given_values(pixel, semantic)
    restorer = open_restorer(model, adapters=read_adapters(adapter), pair=bool(given), device=device, tile=read_tile(tile))
    values = resolve(given, restorer.info.controls)
    lpips, lpips_text = find_lpips(lpips_net)
    with progress_bar() as run:
        measured, failed = measure(
            restorer, paths, Protocol(degradation, seed), Setting(values), run, lr_dir=lr_dir, lpips=lpips, save=save
        )
    settings = {
        "model": restorer.info.id,
        "model_sha256": restorer.info.digest,
        "adapters": [asdict(adapter) for adapter in restorer.info.adapters],
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
        write_json(json_file, report)
    finish(len(paths), failed)


def find_lpips(net: str) -> tuple[Any, str]:
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


def _tell(task: Task, notes: tuple[str, ...]) -> None:
    print(f"{task.output}{' (' + '; '.join(notes) + ')' if notes else ''}")
