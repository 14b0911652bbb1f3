"""The Models tab: what is there, what can be downloaded, and how to add one's own."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import gradio as gr

from srgui.diffusion.tiny import HUB
from srgui.errors import SrguiError
from srgui.models.cards import Card, all_cards, models_folder, scan
from srgui.models.download import add_model, download_model
from srgui.models.load import SUFFIXES
from srgui.models.requirements import REMEDY, missing_packages
from srgui.protocol import Progress
from srgui.ui.parts import status_html
from srgui.ui.sessions import Sessions
from srgui.ui.stream import stream
from srgui.ui.upscale import model_choices
from srgui.ui.work import Status


def models_tab(sessions: Sessions, chosen: gr.Dropdown) -> None:
    """Lay out the tab; ``chosen``, the model choice of the Upscale tab, is refreshed when a model arrives."""
    table = gr.HTML(_table(), apply_default_css=False, elem_id="models")
    with gr.Row():
        with gr.Column():
            missing = gr.Dropdown(_missing(), label="Download a known model", info="From its authors' releases.", elem_id="missing")
            fetch = gr.Button("Download", elem_id="fetch")
        with gr.Column():
            file = gr.File(label="Add a weight file of your own", file_types=list(SUFFIXES), height=130, elem_id="weights")
    status = gr.HTML(status_html(None), elem_id="models-status")
    options: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    outputs = [status, table, missing, chosen]
    fetch.click(sessions.bind(_download), missing, outputs, concurrency_limit=1, **options)
    file.upload(_add, file, outputs, concurrency_id="model", **options)


def _download(sessions: Sessions, session: str, model: str | None) -> Iterator[tuple[Any, ...]]:
    """Fetch a model of the catalogue, telling how far it is; leaving the page cancels, and a later try resumes."""
    if not model:
        yield status_html(Status("Choose a model first."), error=True), gr.skip(), gr.skip(), gr.skip()
        return
    with sessions.running(session) as run:

        def work(tell: Callable[[Status], None]) -> None:
            def report(progress: Progress) -> None:
                share = progress.done / max(1, progress.total)
                tell(Status(f"Downloading {model}, {progress.done / 1e6:.0f} of {progress.total / 1e6:.0f} MB", share))

            tell(Status(f"Downloading {model}…"))
            download_model(model, run.child(report))

        try:
            for status in stream(work, run):
                yield status_html(status), gr.skip(), gr.skip(), gr.skip()
        except SrguiError as error:
            yield status_html(Status(str(error)), error=True), gr.skip(), gr.skip(), gr.skip()
            return
    yield _refreshed(f"{model} is ready.")


def _add(path: str) -> tuple[Any, ...]:
    taken, stem = all_cards(), Path(path).stem
    name = next(n for n in (stem, *(f"{stem}-{i}" for i in count(2))) if n not in taken)
    try:
        card = add_model(Path(path), name)
    except SrguiError as error:
        return status_html(Status(str(error).replace(path, Path(path).name)), error=True), gr.skip(), gr.skip(), gr.skip()
    return _refreshed(f"{card.id} is ready: {card.description}.")


def _refreshed(text: str) -> tuple[Any, ...]:
    done = status_html(Status(text, finished=True))
    return done, _table(), gr.update(choices=_missing(), value=None), gr.update(choices=model_choices())


def _missing() -> list[tuple[str, str]]:
    return [(f"{card.title} ×{card.scale}", card.id) for card in all_cards().values() if not card.present and card.downloadable]


def _table() -> str:
    cards, problems = scan()
    rows = "".join(_row(card) for card in cards.values())
    rows += "".join(f"<tr class='failed'><td colspan='5'>{html.escape(problem)}</td></tr>" for problem in problems)
    head = "".join(f"<th scope='col'>{title}</th>" for title in ("Model", "Scale", "What it is", "Licence", "State"))
    place = html.escape(str(models_folder()))
    notes = f"<p>Your models are kept in {place}.</p>"
    if any(missing_packages(card.family) for card in cards.values()):
        notes += f"<p>Packages that some of these models need are not installed; {html.escape(REMEDY)}</p>"
    if any(card.family == "pisa-sr" and card.present for card in cards.values()):
        notes += (
            "<p>With a tiny decoder small previews of PiSA-SR follow the sliders: put the folder of "
            f"{html.escape(HUB)} (10 MB, from Hugging Face) into {place} as taesd.</p>"
        )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{notes}"


def _row(card: Card) -> str:
    state = "ready" if card.present else "can be downloaded" if card.downloadable else "files missing"
    if missing := missing_packages(card.family):
        state = f"needs {' and '.join(missing)}"
    link = card.source if card.source.startswith("https://") else ""
    title = html.escape(card.title)
    if link:
        title = f"<a href='{html.escape(link)}' target='_blank' rel='noopener'>{title}</a>"
    cells = [f"×{card.scale}", html.escape(card.description), html.escape(card.licence), state]
    return f"<tr><th>{title}<small>{html.escape(card.id)}</small></th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
