"""Small pieces of HTML: progress, forecast, the table of measurements."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence

import numpy as np

from srgui.images import encode_png
from srgui.metrics import Scores
from srgui.protocol import Forecast
from srgui.ui.work import Done, Order, Status, lpips

Size = tuple[int, int]


def status_html(status: Status | None, *, error: bool = False) -> str:
    """A line of text and, while something runs, a progress bar with the time left."""
    if status is None:
        return "<div class='status' role='status' aria-live='polite'></div>"
    bar = ""
    if not status.finished and not error:
        value = "" if status.fraction is None else f" value='{status.fraction:.3f}'"
        bar = f"<progress max='1'{value}></progress>"
    left = f" · about {duration(status.left)} left" if status.left is not None and not status.finished else ""
    kind = "status error" if error else "status"
    role = "alert" if error else "status"
    return f"<div class='{kind}' role='{role}' aria-live='polite'><span>{html.escape(status.text)}{left}</span>{bar}</div>"


def png_uri(samples: np.ndarray) -> str:
    """(H, W, 3) uint8 as the address of an image that holds them."""
    data = base64.b64encode(encode_png(np.ascontiguousarray(samples))).decode("ascii")
    return f"data:image/png;base64,{data}"


def forecast_text(costs: Sequence[Forecast] | None, sizes: Sequence[tuple[Size, Size]] = (), pictures: int = 1) -> str:
    """What a run will make and cost, before it is started; ``costs`` may be those of only some of the ``pictures``."""
    if not costs:
        return "<p>Drop a picture to see what it will take.</p>"
    tiles, memory = sum(cost.tiles for cost in costs), max(cost.memory for cost in costs)
    tiles = tiles * pictures // len(costs)
    seconds = sum(cost.seconds for cost in costs) * pictures / len(costs)
    host = max(cost.host for cost in costs)
    main = f" and {size_text(host)} of main memory" if host else ""
    took = f"<p>about {duration(seconds)}, {tiles} tile{'s' if tiles != 1 else ''}, {size_text(memory)}{main}</p>{_move(costs)}"
    if pictures == 1:
        (height, width), (new_height, new_width) = sizes[0]
        return f"<p>{width} × {height} → <b>{new_width} × {new_height}</b></p>{took}"
    return f"<p>{pictures} pictures</p>{took}"


def _move(costs: Sequence[Forecast]) -> str:
    """What a slider will cost after the run, where it is more than a blend in the browser."""
    longest = max(costs, key=lambda cost: cost.move)
    if not longest.move:
        return ""
    first = f"; the first, to unequal scales, {duration(longest.first_move)} more" if longest.first_move else ""
    return f"<p>Then a move of a slider takes about {duration(longest.move)}{first}</p>"


def measured_html(done: Sequence[Done], order: Order) -> str:
    """The table under the viewer: scores with their protocol, notes and errors, a row per picture."""
    scored = any(outcome.scores for outcome in done)
    head = ["Picture", "PSNR", "SSIM", "LPIPS", "LR consistency"] if scored else ["Picture", "LR consistency"]
    rows = []
    for outcome in done:
        name = html.escape(outcome.name)
        if outcome.error is not None:
            rows.append(f"<tr class='failed'><th>{name}</th><td colspan='{len(head) - 1}'>{html.escape(outcome.error)}</td></tr>")
            continue
        notes = f"<small>{html.escape('; '.join(outcome.notes))}</small>" if outcome.notes else ""
        consistent = f"{outcome.consistency:.1f} dB" if outcome.consistency is not None else ""
        cells = _cells(outcome.scores, outcome.bicubic) if scored else ""
        rows.append(f"<tr><th>{name} {notes}</th>{cells}<td>{consistent}</td></tr>")
    header = "".join(f"<th scope='col'>{title}</th>" for title in head)
    return f"<table><thead><tr>{header}</tr></thead><tbody>{''.join(rows)}</tbody></table><p>{_protocol(order, scored)}</p>"


def size_text(size: int) -> str:
    """Bytes, for people."""
    if size >= 1e9:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.0f} MB" if size >= 1e7 else f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{max(1, round(size / 1e3))} kB"


def duration(seconds: float) -> str:
    """Seconds, for people."""
    if seconds < 1.5:
        return "1 s"
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _cells(scores: Scores | None, bicubic: Scores | None) -> str:
    if scores is None or bicubic is None:
        return "<td>–</td>" * 3
    formats = {"psnr_y": "{:.2f} dB", "ssim_y": "{:.4f}", "lpips": "{:.4f}"}
    cells = []
    for key, form in formats.items():
        value, other = scores[key], bicubic[key]
        text = "not available" if value is None else form.format(value)
        beside = "" if other is None else f"<small>bicubic {form.format(other)}</small>"
        cells.append(f"<td>{text} {beside}</td>")
    return "".join(cells)


def _protocol(order: Order, scored: bool) -> str:
    consistency = "LR consistency: the result shrunk again (bicubic) against the picture you gave, PSNR over RGB, higher is closer."
    if not scored:
        return consistency
    found = lpips()
    made = f" LR made from the HR: {order.degradation}, seed 0." if order.reference == "make" else ""
    net = html.escape(found) if isinstance(found, str) else f"LPIPS ({found.net}): lower is better."
    border = max(1, round(order.outscale))
    return f"PSNR and SSIM on Y (BT.601), result rounded to 8 bits, {border} pixels cropped.{made} {net} {consistency}"
