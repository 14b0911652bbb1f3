"""A page of its own to give away: the comparison viewer with the pictures and what was measured, in one HTML file."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Sequence
from string import Template
from typing import Any

from srgui import __version__
from srgui.errors import InputError, MetricUnavailable
from srgui.images import encode_png
from srgui.places import ASSETS
from srgui.protocol import Box, Run
from srgui.survey import as_lists
from srgui.ui.parts import measured_html
from srgui.ui.shelf import Entry
from srgui.ui.viewer import markup, scripts, viewer_value
from srgui.ui.work import Done, Order

LARGEST = 24e6  # pixels of all results in a page
_STEERED = 3e6  # pixels of the results up to which the sliders go along: they need three pictures more


def share_page(done: Sequence[Done], order: Order, how: str) -> str:
    """The page as HTML; it refers to no other file and to no host.

    Args:
        how: the line under the title.

    Raises:
        InputError: there is no result, or the results are too large for a page.
    """
    entries = [outcome.entry for outcome in done if outcome.entry is not None]
    if not entries:
        raise InputError("there is no result to share yet; upscale a picture first")
    pixels = sum(height * width for height, width in (entry.layers["sr"].size for entry in entries))
    if pixels > LARGEST:
        raise InputError(f"{pixels / 1e6:.0f} megapixels are too many for one page; share up to {LARGEST / 1e6:.0f}")
    value, images = viewer_value(entries), {}
    for item, entry in zip(value["items"], entries, strict=True):
        item["guide"] = _guide(entry) if pixels <= _STEERED else None
        kept = [name for name in entry.layers if item["guide"] or not name.startswith("corner")]
        item["layers"] = {name: item["layers"][name] for name in kept}
        images[entry.id] = {name: _png(entry, name) for name in kept}
    folder = ASSETS / "ui"
    title = entries[0].name if len(entries) == 1 else f"{len(entries)} pictures"
    return Template((folder / "share.html").read_text(encoding="utf-8")).substitute(
        title=html.escape(title),
        how=html.escape(how),
        version=__version__,
        style=(folder / "viewer.css").read_text(encoding="utf-8"),
        viewer=markup(),
        measured=measured_html(done, order),
        script=scripts("share"),
        value=_json(value),
        images=_json(images),
    )


def _guide(entry: Entry) -> dict[str, Any] | None:
    """What the sliders need, PSNR in closed form among it."""
    if entry.guide is None or entry.survey is None:
        return None
    try:
        gram = as_lists(entry.survey.forms(Run()))["psnr"]
    except MetricUnavailable:
        gram = None
    return {**entry.guide, "gram": gram}


def _png(entry: Entry, name: str) -> str:
    layer = entry.layers[name]
    png = encode_png(layer.read(Box(0, 0, *layer.size), 0), entry.icc)
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _json(content: object) -> str:
    """JSON that no name of a file can break out of a script with."""
    return json.dumps(content).replace("<", "\\u003c")
