"""The comparison viewer as a Gradio component; its markup, style and script are in assets/ui/."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from string import Template
from typing import Any

import gradio as gr

from srgui.places import ASSETS
from srgui.ui.gauge import Gauge
from srgui.ui.shelf import Entry, Shelf

_MODULES = (
    "geometry",
    "tiles",
    "blend",
    "errors",
    "mask",
    "painter",
    "sketch",
    "steering",
    "brush",
    "blink",
    "loupe",
    "hand",
    "toolbar",
    "viewer",
)
_EMPTY = "<strong>Drop a picture anywhere</strong><span>or paste one from the clipboard, or try an example</span>"
_MEASURING = ("survey", "plane", "readout")


def viewer(shelf: Shelf, elem_id: str = "viewer", gauge: Gauge | None = None, empty: str = _EMPTY) -> gr.HTML:
    """A viewer of what :func:`viewer_value` names; it fetches its pixels from ``shelf``, measures and previews from ``gauge``."""

    def tile(request: dict[str, Any]) -> str | None:
        png = shelf.tile(request)
        return base64.b64encode(png).decode("ascii") if png is not None else None

    def sketch(request: dict[str, Any]) -> str | None:
        png = gauge.sketch(request) if gauge is not None else None
        return base64.b64encode(png).decode("ascii") if png is not None else None

    def forms(request: dict[str, Any]) -> Any:
        return gauge.forms(request) if gauge is not None else None

    def scores(request: dict[str, Any]) -> Any:
        return gauge.scores(request) if gauge is not None else None

    return gr.HTML(
        value=viewer_value([]),
        html_template=markup(empty),
        js_on_load=f"{scripts(*_MEASURING)}\nmeasure(mount(element, props, server, watch, trigger), server);",
        server_functions=[tile, *([sketch, forms, scores] if gauge is not None else [])],
        apply_default_css=False,
        elem_id=elem_id,
    )


def markup(empty: str = "") -> str:
    """The viewer's HTML; ``empty``: what it says while there is no picture, as HTML."""
    return Template((ASSETS / "ui" / "viewer.html").read_text(encoding="utf-8")).substitute(empty=empty)


def scripts(*more: str) -> str:
    """The viewer's modules, and ``more`` of assets/ui/, as one script."""
    return "\n".join(as_script(ASSETS / "ui" / f"{name}.js") for name in (*_MODULES, *more))


def as_script(module: Path) -> str:
    """A JavaScript module as plain statements, because Gradio runs a component's script as the body of a function."""
    return re.sub(r"^(export |import .*$)", "", module.read_text(encoding="utf-8"), flags=re.MULTILINE)


def viewer_value(entries: list[Entry], index: int = 0, *, full: bool = False) -> dict[str, Any]:
    """What the viewer shows; ``full`` starts at one sample to one pixel of the screen, not with the whole picture."""
    return {"items": [entry.as_item() for entry in entries], "index": index, "full": full}
