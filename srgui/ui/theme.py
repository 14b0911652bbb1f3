"""The look: one theme with a light and a dark side, system fonts only, so that nothing is fetched from another host."""

from __future__ import annotations

import gradio as gr

from srgui.places import ASSETS

_SANS = ["ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"]
_MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace"]


def theme() -> gr.themes.Base:
    return gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.zinc,
        radius_size=gr.themes.sizes.radius_md,
        spacing_size=gr.themes.sizes.spacing_md,
        font=_SANS,
        font_mono=_MONO,
    ).set(
        body_background_fill="*neutral_100",
        body_background_fill_dark="*neutral_950",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        block_border_width="1px",
        block_shadow="none",
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        block_info_text_color="*neutral_500",
        block_info_text_color_dark="*neutral_400",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_500",
        button_primary_text_color="white",
    )


def style() -> str:
    names = ("srgui.css", "viewer.css", "plane.css", "train.css")
    return "\n".join((ASSETS / "ui" / name).read_text(encoding="utf-8") for name in names)


def script() -> str:
    """A JavaScript function for ``launch(js=...)``."""
    source = (ASSETS / "ui" / "page.js").read_text(encoding="utf-8")
    return f"() => {{ {source}\nlisten(); }}"
