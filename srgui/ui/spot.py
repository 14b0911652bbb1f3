"""A picture in which one sample is chosen; its script is in assets/ui/spot.js."""

from __future__ import annotations

from typing import Any

import gradio as gr
import numpy as np

from srgui.places import ASSETS
from srgui.ui.parts import png_uri
from srgui.ui.viewer import as_script

_MARKUP = """<div class="spot" tabindex="0" role="group" aria-label="{label} Arrow keys move the point, with Shift by ten." hidden>
<img alt="" draggable="false"><i aria-hidden="true"></i></div>"""


def spot(label: str, elem_id: str) -> gr.HTML:
    """What shows :func:`spot_value`; its ``select`` event carries ``{"at": [column, row]}``.

    Args:
        label: a sentence that says what the point is for.
    """
    return gr.HTML(
        value=None,
        html_template=f"<p>{label}</p>{_MARKUP.format(label=label)}",
        js_on_load=f"{as_script(ASSETS / 'ui' / 'spot.js')}\nspot(element, props, watch, trigger);",
        apply_default_css=False,
        elem_id=elem_id,
    )


def spot_value(samples: np.ndarray, at: tuple[int, int]) -> dict[str, Any]:
    """(H, W, 3) uint8 with the point at (column, row)."""
    height, width = samples.shape[:2]
    return {"src": png_uri(samples), "size": [width, height], "at": list(at)}
