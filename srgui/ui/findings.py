"""What the Lab says of experiments: curves, tables and small pictures, as HTML."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from srgui.images import to_samples
from srgui.places import ASSETS
from srgui.ui.curves import Curve, curve_html
from srgui.ui.experiment import Experiment, parameters, spectrum
from srgui.ui.parts import png_uri
from srgui.unfolding.design import Design
from srgui.unfolding.kernels import find_kernel

Point = tuple[int, int]  # column, row

_SHARING = {"single": "one denoiser", "block": "one per stage", "lorun": "one, and a LoRA per stage"}


def stages_html(found: Experiment) -> str:
    """PSNR stage by stage; nothing without a truth."""
    if not found.psnr:
        return ""
    points = [(float(stage), value) for stage, value in enumerate(found.psnr)]
    beside = ", ".join(f"{name} {_level(value)}" for name, value in found.beside.items())
    dashed, base = next(reversed(found.beside.items()), ("", math.inf))
    known = math.isfinite(base)
    title = f"PSNR after each stage: {_level(found.psnr[-1])}"
    title += f" ({beside}{f'; dashed: {dashed}' if known else ''})" if beside else ""
    return curve_html(Curve(title, "dB", points, len(points) - 1, base=base if known else None, axis="stages"))


def _level(value: float, unit: str = "") -> str:
    """A PSNR, which is infinite for equal pictures."""
    return f"{value:.2f}{unit}" if math.isfinite(value) else "exact"


def measurement_html(found: Experiment) -> str:
    image = image_html(found.measurement, "the measurement")
    what = "The measurement" + ": what each row of Φ sees, on its own scale" * (found.design.task == "cs")
    return f"<figure class='lab-measured'><figcaption>{what}</figcaption>{image}</figure>"


def kernel_html(kernel: str) -> str:
    """The picture of a kernel with a name."""
    found, _ = find_kernel(kernel)
    return image_html(to_samples((found / found.max()).expand(-1, 3, -1, -1), 8), f"the kernel {kernel}")


def spectrum_html(found: Experiment, stage: int, at: Point) -> str:
    """The spectrum at a pixel (column, row) after a stage, beside the truth."""
    column, row = at
    values, truth = spectrum(found, stage, row, column)
    beside = [] if truth is None else list(enumerate(truth, 1))
    title = f"Spectrum at {column}, {row} after stage {stage}" + (" (dashed: the truth)" if beside else "")
    return curve_html(Curve(title, "of full scale", list(enumerate(values, 1)), len(values), axis="bands", beside=beside))


def parameters_html(design: Design) -> str:
    """How many parameters the three ways to share denoisers take."""
    counts = parameters(design)
    rows = [
        (kind, kind, [name, f"{counts[kind]:,}", f"{counts[kind] / counts['block']:.0%}"], kind == design.sharing)
        for kind, name in _SHARING.items()
    ]
    widths, rank = ", ".join(map(str, design.widths)), html.escape(design.rank)
    about = f"{design.stages} stages, {design.denoiser}, widths {widths}, LoRA rank {rank}."
    return _table(["Stages", "Denoisers", "Parameters", "of block's"], rows) + f"<p>{about}</p>"


def compared_html(found: Sequence[Experiment]) -> str:
    """Networks on one measurement, and below, for SR, what was measured at an equal budget of training."""
    rows = []
    for one in found:
        counts = parameters(one.design)
        scores = ("–", "–") if one.ssim is None else (_level(one.psnr[-1], " dB"), f"{one.ssim:.4f}")
        share = f"{counts[one.design.sharing] / counts['block']:.0%}"
        cells = [*scores, _SHARING[one.design.sharing], f"{counts[one.design.sharing]:,}", share, f"{one.seconds:.1f}"]
        rows.append((one.network, one.title, cells, False))
    head = ["Network", "PSNR", "SSIM", "Denoisers", "Parameters", "of block's", "Seconds"]
    report = equal_budget() if found[0].asked.task == "sr" else None
    return _table(head, rows) + (_budget_html(report) if report else "")


@cache
def equal_budget() -> Mapping[str, Any] | None:
    """The report of the comparison that the small networks come from, as ``unfold compare`` wrote it; None without it."""
    path = ASSETS / "unfolding" / "equal-budget.json"
    found: Mapping[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    return found


def _budget_html(report: Mapping[str, Any]) -> str:
    settings, rows = report["settings"], report["rows"]
    widths = ", ".join(map(str, settings["design"]["widths"]))
    scores = "; ".join(f"{html.escape(row['variant'])}: {row['psnr']:.2f} dB, {row['parameters']:,} parameters" for row in rows)
    return (
        f"<p>The small networks (widths {widths}) learned for {settings['steps']:,} steps each, so they can be compared. "
        f"On benchmark pictures, x2, mean over K1 to K12: {scores}.</p>"
    )


def image_html(samples: np.ndarray, name: str) -> str:
    """(H, W, 3) uint8 as an image whose pixels stay squares."""
    return f"<img class='lab-pixels' src='{png_uri(samples)}' alt='{html.escape(name, quote=True)}'>"


def _table(head: Sequence[str], rows: Sequence[tuple[str, str, Sequence[str], bool]]) -> str:
    """``rows``: title, what stands under it, the cells, and whether it is marked."""
    titles = "".join(f"<th scope='col'>{title}</th>" for title in head)
    body = ""
    for title, under, cells, chosen in rows:
        small = f"<small>{html.escape(under)}</small>" if under and under != title else ""
        mark = " class='chosen'" if chosen else ""
        columns = "".join(f"<td>{cell}</td>" for cell in cells)
        body += f"<tr{mark}><th scope='row'>{html.escape(title)} {small}</th>{columns}</tr>"
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"
