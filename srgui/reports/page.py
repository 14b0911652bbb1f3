"""A report as Markdown, from what is in its JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

_SCORES = (("psnr_y", ".2f"), ("ssim_y", ".4f"), ("lpips", ".4f"))


def markdown(report: Mapping[str, Any]) -> str:
    """``report.md`` of a report as :meth:`srgui.reports.study.Study.report` gives it."""
    settings = report["settings"]
    blocks = [
        f"# {report['title']}",
        f"{report['about']} {report['published']}",
        f"Here it is done with {settings['model']} (x{settings['scale']}) on the pictures named below.",
        "## Parameters",
        _parameters(report["parameters"]),
    ]
    for data in report["data"]:
        blocks += _data_set(data)
    return "\n\n".join([*blocks, "## Protocol", *_protocol(settings)]) + "\n"


def _parameters(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = []
    for row in rows:
        numbers = f"{row['total']:,}", f"{row['trainable']:,}", f"{row['trainable'] / row['total']:.1%}", f"{row['modules']}"
        cells.append((f"{row['network']}, {row['method']}", *numbers))
    return _table(("network", "parameters", "trained", "share", "on layers"), cells)


def _data_set(data: Mapping[str, Any]) -> list[str]:
    blocks = [
        f"## {data['name']}",
        f"{data['pictures']} pictures to learn from, {len(data['held_out'])} held out: {', '.join(data['held_out'])}.",
        "\n".join(f"- {_training(training)}" for training in data["trainings"]),
    ]
    for table in data["tables"]:
        blocks += _scores(table)
    columns = " | ".join(data["strips"]["columns"])
    pictures = [f"![{columns}]({quote(file)})" for file in data["strips"]["files"]]
    return [*blocks, f"From left to right: {columns}.", *pictures]


def _training(training: Mapping[str, Any]) -> str:
    recipe = training["recipe"]
    what = f"LoRA of rank {recipe['rank']}" if recipe["method"] == "lora" else "the weights themselves"
    targets = recipe["targets"]
    layers = "all layers" if list(targets) == ["*"] else _few(targets)
    shown = f"whole pictures of {recipe['resize']} x {recipe['resize']}" if recipe["resize"] else f"LR patches of {recipe['patch']}"
    kept = (
        f"the weights of step {training['best_step']}" if training["best_step"] else "none was better than the start, which is kept"
    )
    stopped = f"; {training['stopped']}" if training["stopped"] else ""
    return (
        f"**{training['method']}** (preset {training['preset']}): {what} on {training['modules']} layers ({layers}), "
        f"loss {training['loss']}, lr {recipe['lr']:g}, {recipe['batch']} at a time, {shown}; {training['steps']} steps in "
        f"{training['minutes']} minutes, {kept} (by {recipe['metric']} on held-out pictures){stopped}."
    )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{names[0]} to {names[-1]}"


def _scores(table: Mapping[str, Any]) -> list[str]:
    count = table["pictures"]
    head = ("method", "PSNR-Y, dB", "SSIM-Y", "LPIPS", "seconds per picture")
    rows = []
    for row in table["rows"]:
        scores = (_number(row[key], spec) for key, spec in _SCORES)
        rows.append((row["method"], *scores, _number(row["seconds"], ".3g")))
    verdicts = [f"- {gain['method']}: {gain['verdict']}" for gain in table["gains"]]
    left_out = [f"- Left out: {one['name']} ({one['reason']})" for one in table["left_out"]]
    heading = f"### {table['name']} ({count} picture{'s' if count > 1 else ''})"
    return [heading, _table(head, rows), "\n".join([*verdicts, *left_out])]


def _protocol(settings: Mapping[str, Any]) -> list[str]:
    lpips = settings["lpips"]
    lpips = f"LPIPS with {lpips}" if not lpips.startswith("LPIPS") else lpips
    return [
        f"HR is cropped to a multiple of {settings['scale']}; LR is made by the degradation {settings['degradation']} with seed "
        f"{settings['seed']}. SR is rounded to 8 bits; PSNR and SSIM are on Y of BT.601 with {settings['crop_border']} pixels "
        f"cropped on every side, as means over the pictures. {lpips}. Seconds are the median over the pictures, the methods one "
        f"after the other on each, on {settings['device']} with {settings['threads']} threads; they hold for this machine only.",
        f"srgui {settings['srgui']}, torch {settings['torch']}, {settings['model']} with weights of sha256 "
        f"{settings['model_sha256']}.",
    ]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The first column is text, the others are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _number(value: float | None, spec: str) -> str:
    if value is None:
        return ""
    return format(value, spec) if math.isfinite(value) else "exact"
