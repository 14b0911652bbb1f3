"""What can be done with results: steer them, share them, download them."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Iterator
from typing import Any

import gradio as gr

from srgui.errors import InputError, SrguiError
from srgui.models.cards import find_card
from srgui.ui.guide import read_setting
from srgui.ui.parts import measured_html, size_text, status_html
from srgui.ui.sessions import Sessions
from srgui.ui.share import share_page
from srgui.ui.viewer import viewer_value
from srgui.ui.work import Order, Status, measure, scores_of


def steer(sessions: Sessions, session: str, event: gr.EventData) -> Iterator[tuple[Any, ...]]:
    """Make the results anew at the scales that a person has let go of in the viewer."""
    sent = dict(event.value)
    found = sessions.results(session)
    order, done = found or (None, [])
    # The picture may be one that another run has taken the place of meanwhile.
    if order is None or sent.get("id") not in {outcome.entry.id for outcome in done if outcome.entry is not None}:
        yield (*[gr.skip()] * 4, sent)
        return
    if any(control.cost == "decode" for outcome in done if outcome.steered for control in outcome.steered.info.controls):
        yield gr.skip(), status_html(Status("Rendering…")), gr.skip(), gr.skip(), sent
    begun = time.monotonic()
    changed = 0
    try:
        wanted = read_setting(sent)
        with sessions.running(session) as run:
            for outcome in done:
                if outcome.steered is not None and outcome.steered.steer(wanted, sessions.shelf, run):
                    steered = outcome.steered
                    outcome.entry = steered.entry
                    measure(steered.prepared, steered.setting, steered.hr, max(1, round(steered.outscale)), outcome, run)
                    if steered.entry.guide is not None:
                        steered.entry.guide["scores"] = scores_of(outcome)
                    changed += 1
    except SrguiError as error:
        yield gr.skip(), status_html(Status(str(error)), error=True), gr.skip(), gr.skip(), sent
        return
    if not changed:
        yield gr.skip(), status_html(None), gr.skip(), gr.skip(), sent
        return
    at = ", ".join(f"{name} {value:g}" for name, value in wanted.values.items())
    if wanted.masked:
        at += ", painted: " + ", ".join(f"{name} {value:g}" for name, value in wanted.masked.items())
    status = Status(f"Rendered at {at} in {time.monotonic() - begun:.1f} s.", done=done, finished=True)
    entries = [outcome.entry for outcome in done if outcome.entry is not None]
    view = viewer_value(entries, len(entries) - 1)
    yield view, status_html(status), measured_html(done, order), download_of(status, order), sent


def share(sessions: Sessions, session: str) -> tuple[Any, Any]:
    """Write a visitor's results as a page of their own: the file and the status."""
    order, done = sessions.results(session) or (None, [])
    try:
        if order is None:
            raise InputError("there is no result to share yet; upscale a picture first")
        file = order.folder / "comparison.html"
        file.write_text(share_page(done, order, f"{find_card(order.model).title} ×{order.outscale:g}"), encoding="utf-8")
    except SrguiError as error:
        return None, status_html(Status(str(error)), error=True)
    return str(file), gr.skip()


def download_of(status: Status, order: Order) -> Any:
    """The button to download what was made: a file, or a zip of several."""
    files = [done.file for done in status.done if done.file is not None]
    if not files:
        return gr.update(visible=False)
    if len(files) == 1:
        kind = files[0].suffix[1:].upper()
        return gr.update(visible=True, value=str(files[0]), label=f"Download {kind} · {size_text(files[0].stat().st_size)}")
    archive = order.folder / "upscaled.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as bundle:
        for number, file in enumerate(files, 1):
            twice = sum(other.name == file.name for other in files) > 1
            bundle.write(file, f"{number}-{file.name}" if twice else file.name)
    return gr.update(visible=True, value=str(archive), label=f"Download {len(files)} files · {size_text(archive.stat().st_size)}")
