"""Did it help? The answer in large words, with the table of held-out pictures that it rests on."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from srgui.errors import InputError
from srgui.metrics import Scores
from srgui.training.gain import Compared, Gain

_FREE_DB = 0.05  # a cost on ordinary photographs below which it counts as none
_COLUMNS = {"psnr_y": ("PSNR", "{:.2f} dB"), "ssim_y": ("SSIM", "{:.4f}"), "lpips": ("LPIPS", "{:.4f}")}


def gain_of(metrics: Mapping[str, Any]) -> Gain | None:
    """The gain that was measured, computed anew from the scores; None where they are missing or make no sense."""
    try:
        return Gain.from_json(metrics)
    except InputError:
        return None


def verdict_html(gain: Gain, cost: Mapping[str, Any], *, large: bool = True) -> str:
    """The verdict, the cost on other photographs, and the scores of every held-out picture before and after."""
    begin, _, reason = gain.verdict().partition(":")
    size = "verdict" if large else "verdict small"
    price = cost_text(cost)
    told = f"<p>{html.escape(price)}</p>" if price else ""
    return (
        f"<div class='{size} {gain.outcome}'><strong>{begin}</strong><p>{html.escape(reason.strip())}</p>{told}</div>"
        f"<details{' open' if large else ''}><summary>Every held-out picture</summary>{_table(gain)}</details>"
    )


def cost_text(cost: Mapping[str, Any]) -> str:
    """What it costs on ordinary photographs, in a sentence; empty where that was not measured."""
    change = cost.get("mean_gain_db")
    if not isinstance(change, (int, float)):
        return ""
    where = f"on ordinary photographs ({cost.get('on', '')})"
    if change < -_FREE_DB:
        return f"It costs {-change:.2f} dB {where}: take it off for those."
    return f"It costs nothing {where}: {change:+.2f} dB."


def scores_html(rows: Mapping[str, Scores | None], note: str) -> str:
    """A table of named scores, each compared with the first row, which is the base."""
    rows = {name: scores for name, scores in rows.items() if scores is not None}
    first = next(iter(rows.values()), None)
    if first is None:
        return ""
    head = "".join(f"<th scope='col'>{title}</th>" for title, _ in _COLUMNS.values())
    body = "".join(
        f"<tr><th scope='row'>{html.escape(name)}</th>{_cells(scores, None if scores is first else first)}</tr>"
        for name, scores in rows.items()
        if scores is not None
    )
    return f"<table><thead><tr><th scope='col'></th>{head}</tr></thead><tbody>{body}</tbody></table><p>{html.escape(note)}</p>"


def _cells(scores: Scores, base: Scores | None) -> str:
    return "".join(f"<td>{_cell(key, scores, base)}</td>" for key in _COLUMNS)


def _cell(key: str, scores: Scores, base: Scores | None) -> str:
    value, before = scores[key], None if base is None else base[key]
    form = _COLUMNS[key][1]
    if value is None:
        return "<small>not available</small>"
    change = "" if before is None else f" <small>{value - before:+.{2 if key == 'psnr_y' else 4}f}</small>"
    return form.format(value) + change


def _table(gain: Gain) -> str:
    head = "".join(f"<th scope='col'>{title}</th>" for title in ("Picture", "Gain", *(title for title, _ in _COLUMNS.values())))
    rows = "".join(_row(gain, picture) for picture in sorted(gain.pictures, key=lambda picture: -picture.gain))
    foot = "PSNR and SSIM on Y of the whole picture, in brackets without the adapter; LPIPS: lower is better."
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table><p>{foot}</p>"


def _row(gain: Gain, picture: Compared) -> str:
    mark = ""
    if len(gain.pictures) > 1:
        mark = "<small>best</small>" if picture is gain.best else "<small>worst</small>" if picture is gain.worst else ""
    cells = "".join(f"<td>{_before_after(key, picture)}</td>" for key in _COLUMNS)
    return f"<tr><th scope='row'>{html.escape(picture.name)} {mark}</th><td>{picture.gain:+.2f} dB</td>{cells}</tr>"


def _before_after(key: str, picture: Compared) -> str:
    form = _COLUMNS[key][1]
    before, after = picture.base[key], picture.adapted[key]
    if before is None or after is None:
        return "<small>not available</small>"
    return f"{form.format(after)} <small>({form.format(before)})</small>"
