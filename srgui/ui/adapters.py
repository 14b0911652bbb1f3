"""The Adapters tab: what is there and what it is good for; import, export, rename and remove."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from srgui.errors import InputError, SrguiError
from srgui.lora.catalogue import SHIPPED, export_adapter, find_adapter, import_adapters, remove_adapter, rename_adapter, scan
from srgui.lora.files import PICKLES
from srgui.models.cards import DEFAULT_MODEL
from srgui.models.load import SUFFIXES
from srgui.restorers import open_adapted
from srgui.ui.cards import details_html, table_html
from srgui.ui.form import folder_named, model_choices
from srgui.ui.parts import status_html
from srgui.ui.stack import refreshed
from srgui.ui.upscale import Chosen
from srgui.ui.work import Status

_SHIPPED = "It came with srgui and stays as it is; export it and import a copy to change it."
_SCRIPT = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-adapter]");
  if (button) trigger("select", { value: button.dataset.adapter });
});
"""
_SEE = "() => document.querySelector('#adapter-ask').scrollIntoView({ block: 'nearest' })"
_PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


class _Parts(NamedTuple):
    """What shows which adapter is chosen, in the order of :func:`_show`."""

    table: gr.HTML
    chosen: gr.State
    card: gr.Column
    details: gr.HTML
    export: gr.DownloadButton
    name: gr.Textbox
    rename: gr.Button
    remove: gr.Button
    ask: gr.Row
    status: gr.HTML


def adapters_tab(exports: Path, page: gr.Blocks, tab: gr.Tab, upscale: Chosen) -> None:
    """Lay out ``tab`` and bind its events; the choice on the Upscale tab follows what is done here.

    Args:
        exports: a folder of the server's own, for files to download.
    """
    chosen = gr.State(None)
    table = gr.HTML(apply_default_css=False, elem_id="adapters", elem_classes="figures", js_on_load=_SCRIPT)
    with gr.Column(visible=False, elem_id="adapter", elem_classes="framed") as card:
        details = gr.HTML(apply_default_css=False, elem_id="adapter-details", elem_classes="figures")
        with gr.Row(elem_classes="actions", equal_height=True):
            export = gr.DownloadButton("Export", scale=0, min_width=110, elem_id="adapter-export")
            name = gr.Textbox("", show_label=False, container=False, max_lines=1, scale=1, min_width=140, elem_id="adapter-name")
            rename = gr.Button("Rename", scale=0, min_width=110, elem_id="adapter-rename")
            remove = gr.Button("Remove…", scale=0, min_width=110, elem_id="adapter-remove")
        with gr.Row(visible=False, elem_classes="ask", elem_id="adapter-ask") as ask:
            gr.HTML("<p>Delete this adapter for good?</p>")
            really = gr.Button("Delete it", variant="stop", scale=0, min_width=110, elem_id="adapter-really")
            keep = gr.Button("Keep it", scale=0, min_width=110, elem_id="adapter-keep")
        status = gr.HTML(elem_id="adapter-status")
    parts = _Parts(table, chosen, card, details, export, name, rename, remove, ask, status)
    outputs = [*parts, upscale.adapters]
    stacked = [upscale.model, upscale.adapters]

    def choose(event: gr.EventData) -> tuple[Any, ...]:
        return _show(exports, str(event.value))

    table.select(choose, None, list(parts), queue=False, **_PRIVATE)
    for event in (tab.select, page.load):
        event(partial(_refresh, exports), [chosen, *stacked], outputs, queue=False, **_PRIVATE)
    gr.on([rename.click, name.submit], partial(_rename, exports), [chosen, name, *stacked], outputs, queue=False, **_PRIVATE)
    asked = remove.click(lambda: gr.update(visible=True), None, ask, queue=False, **_PRIVATE)
    asked.then(None, None, None, js=_SEE, api_visibility="private")
    keep.click(lambda: gr.update(visible=False), None, ask, queue=False, **_PRIVATE)
    really.click(partial(_remove, exports), [chosen, *stacked], outputs, queue=False, **_PRIVATE)
    with gr.Accordion("Import an adapter", open=False, elem_id="adapter-import"):
        inputs, start, told = _importing()
    start.click(partial(_import, exports), [*inputs, *stacked], [told, *outputs], concurrency_id="model", **_PRIVATE)


def _importing() -> tuple[list[Any], gr.Button, gr.HTML]:
    with gr.Row():
        with gr.Column(min_width=280):
            file = gr.File(label="A file", file_types=sorted({*SUFFIXES, *PICKLES}), height=130, elem_id="adapter-file")
            folder = gr.Textbox(
                "", label="or a folder on this computer", info="As peft writes them.", max_lines=1, elem_id="adapter-folder"
            )
        with gr.Column(min_width=280):
            base = gr.Dropdown(model_choices(), value=DEFAULT_MODEL, label="The model it is for", elem_id="adapter-base")
            name = gr.Textbox("", label="Name", info="Else the file's.", max_lines=1, elem_id="adapter-new-name")
            start = gr.Button("Import", variant="primary", elem_id="adapter-start")
    told = gr.HTML(elem_id="adapter-import-status")
    return [file, folder, base, name], start, told


def _show(exports: Path, name: str | None, told: str = "") -> tuple[Any, ...]:
    """The table, and the card of ``name`` where that is there; as :class:`_Parts` has them."""
    cards, problems = scan()
    if name not in cards:
        name = None
    table = table_html(cards, problems, name)
    hidden = gr.update(visible=False)
    if name is None:
        return table, None, gr.update(visible=bool(told)), "", hidden, hidden, hidden, hidden, hidden, told
    own = not (SHIPPED / name).is_dir()
    button = gr.update(visible=True, interactive=own)
    file, problem = _exported(exports, name)
    told = told or problem or ("" if own else f"<p>{_SHIPPED}</p>")
    export = gr.update(visible=True, value=file, interactive=file is not None)
    field = gr.update(visible=True, value=name, interactive=own)
    return table, name, gr.update(visible=True), details_html(name, cards[name]), export, field, button, button, hidden, told


def _exported(exports: Path, name: str) -> tuple[str | None, str]:
    """The adapter as one file that can be downloaded, made anew when it has changed; or what is wrong with it."""
    try:
        path = find_adapter(name).path
        stamp = path.stat().st_mtime_ns if path is not None else 0
        folder = exports / f"{name}-{stamp}"
        file = folder / f"{name}.safetensors"
        if not file.exists():
            folder.mkdir(parents=True, exist_ok=True)
            export_adapter(name, file)
    except SrguiError as error:
        return None, _error(str(error))
    except OSError as error:
        return None, _error(f"{name} cannot be exported: {error.strerror}; free some space")
    return str(file), ""


def _refresh(exports: Path, chosen: str | None, model: str, stacked: list[str] | None) -> tuple[Any, ...]:
    return *_show(exports, chosen), refreshed(model, stacked)


def _rename(exports: Path, chosen: str, name: str, model: str, stacked: list[str] | None) -> tuple[Any, ...]:
    name = name.strip()
    if name == chosen:
        return *_show(exports, chosen), gr.skip()
    try:
        rename_adapter(chosen, name)
    except SrguiError as error:
        parts = _show(exports, chosen, _error(str(error)))
        return *parts, refreshed(model, stacked)
    stacked = [name if each == chosen else each for each in stacked or []]
    return *_show(exports, name, _done(f"{chosen} is now called {name}.")), refreshed(model, stacked)


def _remove(exports: Path, chosen: str, model: str, stacked: list[str] | None) -> tuple[Any, ...]:
    try:
        remove_adapter(chosen)
        told = _done(f"{chosen} is removed.")
    except SrguiError as error:
        told = _error(str(error))
    return *_show(exports, chosen, told), refreshed(model, stacked)


def _import(
    exports: Path,
    file: str | None,
    folder: str,
    base: str,
    name: str,
    model: str,
    stacked: list[str] | None,
) -> tuple[Any, ...]:
    """Bring in an adapter of srgui, peft, kohya or diffusers, or PiSA-SR's pair."""
    try:
        path = Path(file) if file else folder_named(folder)
        if path is None:
            raise InputError("there is nothing to import yet; choose a file, or name a folder")
        to = open_adapted(base)
        found = import_adapters(path, to.module, to.card.id, to.digest, to.scale, name.strip() or None)
    except SrguiError as error:
        text = str(error).replace(file, Path(file).name) if file else str(error)
        return _error(text), *[gr.skip()] * len(_Parts._fields), gr.skip()
    names = " and ".join(each.name for each in found)
    done = _done(f"{names} {'is' if len(found) == 1 else 'are'} ready, for {base}.")
    return done, *_show(exports, found[0].name), refreshed(model, stacked)


def _done(text: str) -> str:
    return status_html(Status(text, finished=True))


def _error(text: str) -> str:
    return status_html(Status(text), error=True)
