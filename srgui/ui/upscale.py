"""The Upscale tab: the main job on one screen."""

from __future__ import annotations

import html
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from srgui.degradations import DEGRADATIONS
from srgui.device import available
from srgui.errors import InputError, SrguiError
from srgui.images import SUFFIXES, read_picture
from srgui.inference.outscale import check_outscale, size_at
from srgui.models.cards import DEFAULT_MODEL, Card, all_cards, find_card
from srgui.places import ASSETS
from srgui.protocol import Run
from srgui.restorers import family_of, open_restorer
from srgui.ui.gauge import Gauge
from srgui.ui.guide import read_setting
from srgui.ui.options import option_panel, read_options, written
from srgui.ui.parts import forecast_text, measured_html, status_html
from srgui.ui.restore import Restored, restored
from srgui.ui.results import download_of, share, steer
from srgui.ui.sessions import Sessions
from srgui.ui.shelf import Entry, PictureLayer
from srgui.ui.stack import adapter_stack, choose, read_stack
from srgui.ui.viewer import viewer, viewer_value
from srgui.ui.work import Order, Status, fulfil

FORMATS = {"PNG": "png", "JPEG": "jpg", "WebP": "webp", "TIFF": "tiff"}
REFERENCES = {
    "No reference": "none",
    "I also have the HR picture": "hr",
    "My picture is the HR: shrink it first": "make",
}
DEGRADATION_HELP = (
    "bicubic: antialiased; camera: blur, noise, JPEG; realworld: the Real-ESRGAN chain; kernels: blur, then every 4th pixel."
)
SCALES = ["1.5", "2", "3", "4", "6", "8"]
API = """Upscale pictures.

model: id of a model on this machine. scale: times larger. reference: none, hr (files in hr), or make (the pictures are HR and are
shrunk first, by degradation). format: png, jpg, webp or tiff. tile: side in pixels of the picture, 0 chooses it. adapters:
[[name, strength], ...] of adapters on this machine that fit the model, strength 1 as trained; [] for none.
Returns the viewer's value, the status, the table of measurements, and the file (of several pictures a zip)."""
_FETCH = "() => document.querySelector('#shared').click()"
_HEARD = "() => document.dispatchEvent(new Event('srgui-cancelled'))"
_SHOWN = 12  # of the pictures dropped, so many are read at once, to be shown and to tell what all of them will take


class Chosen(NamedTuple):
    """What other tabs change: which model and which adapters are chosen."""

    model: gr.Dropdown
    adapters: gr.Dropdown


def model_choices() -> list[tuple[str, str]]:
    """Models that can run now, by title."""
    return [(f"{card.title} ×{card.scale}", card.id) for card in all_cards().values() if card.present]


def upscale_tab(sessions: Sessions) -> Chosen:
    """Lay out the tab and bind its events."""
    with gr.Row(equal_height=False, elem_id="desk", elem_classes="desk"):
        with gr.Column(scale=0, min_width=340, elem_id="panel", elem_classes="controls"):
            pictures = gr.File(label="Pictures", file_count="multiple", file_types=list(SUFFIXES), height=120, elem_id="pictures")
            problem = gr.HTML(elem_id="problem", elem_classes="problem")
            again = gr.HTML(elem_id="restored", elem_classes="note")
            examples = gr.Dataset(
                components=[gr.Image(visible=False, render=False)],
                samples=[[str(path)] for path in example_paths()],
                type="index",
                label="Examples",
                elem_id="examples",
            )
            model = gr.Dropdown(
                model_choices(), value=DEFAULT_MODEL, label="Model", info=find_card(DEFAULT_MODEL).description, elem_id="model"
            )
            stack = adapter_stack(model)
            pair = gr.Checkbox(
                True,
                label="Restore and add detail",
                info="For noise, blur and JPEG, with two sliders. Off: the plain model, for clean pictures.",
                visible=_may_be_plain(find_card(DEFAULT_MODEL)),
                elem_id="pair",
            )
            options = option_panel(model)
            with gr.Row(elem_id="shape", elem_classes="actions"):
                scale = gr.Dropdown(
                    SCALES, value="4", label="Scale", allow_custom_value=True, info="Times larger.", min_width=100, elem_id="scale"
                )
                kind = gr.Dropdown(
                    list(FORMATS.items()),
                    value="png",
                    label="Save as",
                    info="PNG, TIFF: lossless.",
                    min_width=140,
                    elem_id="format",
                )
            quality = gr.Slider(
                1, 100, value=95, step=1, label="Quality", info="WebP at 100 is lossless.", visible=False, elem_id="quality"
            )
            with gr.Accordion("Measure against a reference", open=False):
                reference = gr.Radio(list(REFERENCES.items()), value="none", show_label=False, container=False, elem_id="reference")
                hr = gr.File(
                    label="HR reference, same name",
                    file_count="multiple",
                    file_types=list(SUFFIXES),
                    height=110,
                    visible=False,
                    elem_id="hr",
                )
                degradation = gr.Dropdown(
                    list(DEGRADATIONS),
                    value="bicubic",
                    label="How to shrink",
                    info=DEGRADATION_HELP,
                    visible=False,
                    elem_id="degradation",
                )
            with gr.Accordion("Speed and memory", open=False):
                tile = gr.Number(
                    0,
                    label="Tile size",
                    info="In pixels of the picture; 0 chooses it from free memory.",
                    precision=0,
                    elem_id="tile",
                )
                devices = available()
                device = gr.Dropdown(["auto", *devices], value="auto", label="Device", visible=len(devices) > 1, elem_id="device")
            forecast = gr.HTML(forecast_text(None), elem_id="forecast", elem_classes="forecast")
            with gr.Row(elem_id="actions", elem_classes="actions"):
                start = gr.Button("Upscale", variant="primary", interactive=False, elem_id="start")
                cancel = gr.Button("Cancel", interactive=False, elem_id="cancel")
        with gr.Column(scale=1, min_width=320, elem_id="result", elem_classes="outcome"):
            view = viewer(sessions.shelf, gauge=Gauge(sessions.shelf, sessions.busy, sessions.running))
            with gr.Row(elem_id="outcome"):
                status = gr.HTML(status_html(None), elem_id="status")
                sharing = gr.Button("Share as a page", visible=False, scale=0, min_width=190, elem_id="share")
                download = gr.DownloadButton(
                    "Download", visible=False, variant="primary", scale=0, min_width=250, elem_id="download"
                )
            shared = gr.DownloadButton("The page", visible="hidden", elem_id="shared")
            stale = gr.HTML(elem_id="stale", elem_classes="note")
            measured = gr.HTML(apply_default_css=False, elem_id="measured")

    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    sizes, made, scales, before = gr.State([]), gr.State(None), gr.State({}), gr.State(None)
    shown = [view, problem, sizes, status, measured, download, made, stale, again, before]
    pictures.change(sessions.bind(_show), pictures, shown, **private)
    controls = [model, scale, stack.chosen, stack.value, pair, tile, scales, *options.values]
    before.change(_restore, [before, model], [*controls, before], queue=False, **private)
    weighed = [pictures, sizes, model, scale, reference, stack.chosen]
    for component in (sizes, model, scale, reference, stack.chosen):
        component.change(_forecast, weighed, [forecast, start], trigger_mode="always_last", **private)
    model.change(_describe, [model, before], [scale, model, pair, before], **private)
    examples.click(lambda index: [str(example_paths()[index])], examples, pictures, **private)
    reference.change(
        lambda choice: (
            gr.update(visible=choice == "hr"),
            gr.update(visible=choice == "make"),
            gr.update(interactive=choice != "make"),
        ),
        reference,
        [hr, degradation, scale],
        **private,
    )
    kind.change(lambda choice: gr.update(visible=choice in ("jpg", "webp")), kind, quality, **private)
    inputs = [
        pictures,
        model,
        scale,
        reference,
        hr,
        degradation,
        kind,
        quality,
        tile,
        device,
        stack.value,
        pair,
        scales,
        *options.values,
    ]
    outputs = [view, status, measured, download]
    settings = [model, scale, reference, hr, degradation, kind, quality, stack.value, pair, *options.values]
    for component in settings:
        component.change(_stale, [made, *settings], stale, queue=False, trigger_mode="always_last", **private)
    begun = start.click(
        sessions.bind(_begin), settings, [status, start, cancel, download, measured, made, stale], queue=False, **private
    )
    ran = begun.then(
        sessions.bind(_upscale),
        inputs,
        outputs,
        api_name="upscale",
        api_description=API,
        concurrency_id="model",
        concurrency_limit=1,
        show_progress="hidden",
    )
    ran.then(_end, None, [start, cancel], queue=False, **private)
    view.select(
        sessions.bind_event(steer),
        None,
        [*outputs, scales],
        trigger_mode="multiple",
        concurrency_id="model",
        **private,
    )
    download.change(lambda file: gr.update(visible=bool(file)), download, sharing, queue=False, **private)
    asked = sharing.click(sessions.bind(share), None, [shared, status], concurrency_id="model", **private)
    asked.success(None, None, None, js=_FETCH, api_visibility="private")
    heard = cancel.click(sessions.bind(_cancel), None, status, queue=False, **private)
    heard.then(None, None, None, js=_HEARD, api_visibility="private")
    return Chosen(model, stack.chosen)


def example_paths() -> list[Path]:
    """The pictures that come with srgui."""
    return sorted(path for path in (ASSETS / "examples").glob("*") if path.suffix in SUFFIXES)


def _show(sessions: Sessions, session: str, pictures: list[str] | None) -> tuple[Any, ...]:
    """Show what was dropped and what is wrong with it."""
    problems, entries, found = [], [], []
    for path in [Path(path) for path in pictures or []][:_SHOWN]:
        try:
            picture = read_picture(path)
        except SrguiError as error:
            problems.append(str(error).replace(str(path), path.name))
            continue
        found.append(picture)
        icc = None if picture.grey else picture.icc
        entries.append(sessions.shelf.put(Entry(session, path.name, {"lr": PictureLayer(picture)}, icc)))
    alerts = "".join(f"<p role='alert'>{html.escape(text)}</p>" for text in problems)
    before, told = restored(found)
    sizes = [picture.size for picture in found]
    return viewer_value(entries), alerts, sizes, status_html(None), "", gr.update(visible=False), None, "", told, before


def _restore(before: Restored | None, model: str) -> tuple[Any, ...]:
    """Set the controls as they were when a dropped result was made."""
    if before is None:
        return (gr.skip(),) * (8 + len(written(model, {})))
    stack = choose(before.model, [name for name, _ in before.stack])
    values = before.model, before.scale, stack, before.stack, before.pair, before.tile, before.sent
    values = *values, *written(before.model, before.options)
    return *values, before if before.model != model else None


def _describe(model: str, before: Restored | None) -> tuple[str, Any, Any, None]:
    """What depends on the model; its scale too, unless it is chosen for the sake of a result that was made at another."""
    card = find_card(model)
    scale = before.scale if before is not None and before.model == model else str(card.scale)
    return scale, gr.update(info=card.description or card.title), gr.update(visible=_may_be_plain(card)), None


def _may_be_plain(card: Card) -> bool:
    """Whether a person can choose between a model with its pair and without."""
    return bool(card.pair) and not family_of(card).paired


def _forecast(
    pictures: list[str] | None, sizes: list[tuple[int, int]], model: str, scale: str, reference: str, adapters: list[str] | None
) -> tuple[str, Any]:
    """What upscaling will make and cost, and whether it can be started."""
    if not sizes:
        return forecast_text(None), gr.update(interactive=False)
    try:
        restorer = open_restorer(model, adapters=[(name, 1.0) for name in adapters or []])
        factor = _factor(scale)
        if reference == "make":
            factor = float(restorer.info.scale)
            sizes = [(height // restorer.info.scale, width // restorer.info.scale) for height, width in sizes]
        check_outscale(factor, restorer.info.scale)
        costs = [restorer.forecast(max(1, height), max(1, width)) for height, width in sizes]
    except SrguiError as error:
        return f"<p role='alert' class='error'>{html.escape(str(error))}</p>", gr.update(interactive=False)
    text = forecast_text(costs, [((height, width), size_at(height, width, factor)) for height, width in sizes], len(pictures or []))
    return text, gr.update(interactive=True)


def _stale(made: list[Any] | None, *settings: Any) -> str:
    """Whether the result that is shown was made with other settings."""
    return "<p>The settings have changed since this result.</p>" if made is not None and made != list(settings) else ""


def _begin(sessions: Sessions, session: str, *settings: Any) -> tuple[Any, ...]:
    """Show at once that the click was heard, and whether there is a queue."""
    busy = sessions.queue(session)
    return (
        status_html(Status("Waiting for another upscale to finish…" if busy else "Starting…")),
        gr.update(interactive=False),
        gr.update(interactive=True),
        gr.update(visible=False),
        "",
        list(settings),
        "",
    )


def _end() -> tuple[Any, Any]:
    return gr.update(interactive=True), gr.update(interactive=False)


def _cancel(sessions: Sessions, session: str) -> Any:
    return status_html(Status("Cancelling after this tile…")) if sessions.cancel(session) else gr.skip()


def _upscale(
    sessions: Sessions,
    session: str,
    pictures: list[str] | None,
    model: str,
    scale: str,
    reference: str,
    hr: list[str] | None,
    degradation: str,
    kind: str,
    quality: int,
    tile: int,
    device: str,
    adapters: list[Any] | None = None,
    pair: bool = False,
    scales: dict[str, Any] | None = None,
    *options: Any,
) -> Iterator[tuple[Any, ...]]:
    """Upscale pictures: what the button does and the API endpoint ``/upscale``."""
    try:
        if not pictures:
            raise InputError("there is no picture yet; drop one into the box on the left")
        folder = sessions.folder / secrets.token_hex(8)
        folder.mkdir(parents=True)
        making = reference == "make"
        order = Order(
            pictures=[Path(path) for path in pictures],
            model=model,
            outscale=float(open_restorer(model, device=device).info.scale) if making else _factor(scale),
            folder=folder,
            owner=session,
            reference=reference,  # type: ignore[arg-type]
            hr=[Path(path) for path in hr or []],
            degradation=degradation,
            format=kind,
            quality=int(quality),
            tile=int(tile) or None,
            device=device,
            adapters=read_stack(adapters or []),
            pair=pair,
            setting=read_setting(scales),
            options=read_options(model, options),
        )
        with sessions.running(session) as run:
            yield from _updates(order, sessions, session, run)
    except SrguiError as error:
        yield gr.skip(), status_html(Status(str(error)), error=True), gr.skip(), gr.skip()


def _updates(order: Order, sessions: Sessions, session: str, run: Run) -> Iterator[tuple[Any, ...]]:
    shown = 0
    for status in fulfil(order, sessions.shelf, run):
        sessions.keep(session, order, status.done)
        entries = [done.entry for done in status.done if done.entry is not None]
        view = viewer_value(entries, len(entries) - 1) if len(entries) > shown else gr.skip()
        shown = len(entries)
        table = measured_html(status.done, order) if status.done else gr.skip()
        yield view, status_html(status), table, download_of(status, order) if status.finished else gr.skip()


def _factor(text: str) -> float:
    try:
        return float(str(text).strip().lstrip("×x"))
    except ValueError as error:
        raise InputError(f"the scale {text!r} is not a number; choose one like 2 or 4") from error
