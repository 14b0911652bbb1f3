"""The Train tab: a folder of good pictures, one button, and a small adapter that says whether it helps."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from srgui.degradations import CUSTOM
from srgui.device import available
from srgui.errors import SrguiError
from srgui.images import SUFFIXES
from srgui.models.cards import find_card
from srgui.protocol import Run
from srgui.training import jobs
from srgui.training.presets import PRESETS, preset, presets_for
from srgui.ui.form import (
    Form,
    Place,
    check,
    forecast_html,
    inventory_html,
    kept,
    model_choices,
    model_for,
    name_problem,
    preset_choices,
    suggestion,
    under_choices,
)
from srgui.ui.parts import status_html
from srgui.ui.sessions import Sessions
from srgui.ui.stream import stream
from srgui.ui.upscale import Chosen
from srgui.ui.watch import TURN, first, look, watch_panel
from srgui.ui.work import Status

DEGRADATIONS = {
    "Clean, only small (bicubic)": "bicubic",
    "From a camera: slight blur, noise, JPEG (camera)": "camera",
    "From the web, of unknown history (realworld)": "realworld",
    "Blurred by the kernels of papers (kernels)": "kernels",
    "In a way of my own (custom)": CUSTOM,
}
_FIRST = "domain"
_PLACES: tuple[Place, ...] = ("pictures", "name", "settings")
_OF_PRESET = ("preset", "under", "degradation", "model", "rank", "steps", "lr", "batch", "patch", "held_out")
_SCROLL = "() => document.querySelector('.problem p, #job-status').scrollIntoView({ behavior: 'smooth', block: 'center' })"
# The choices may change while an event with a former value waits for its turn; what was sent is checked with the form.
_LATE: dict[str, Any] = {"allow_custom_value": True}
_PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


def train_tab(sessions: Sessions, page: gr.Blocks, tabs: gr.Tabs, upscale: Chosen) -> None:
    """Lay out the tab and bind its events; "Use it" goes to the Upscale tab in ``tabs``."""
    with gr.Row(equal_height=False, elem_classes="desk"):
        with gr.Column(scale=0, min_width=340, elem_classes="controls"):
            form, shown, start = _form()
        with gr.Column(scale=1, min_width=320, elem_classes="outcome"):
            watch = watch_panel(sessions, tabs, upscale)
    inputs = [form[name] for name in Form.__dataclass_fields__]
    checked = [shown["pictures"], shown["settings"], shown["report"], shown["forecast"]]

    def weigh(event: Callable[..., Any]) -> None:
        seen = event(_preflight, inputs, checked, trigger_mode="always_last", concurrency_limit=4, **_PRIVATE)
        seen.success(_measure, inputs, shown["forecast"], concurrency_id="model", trigger_mode="always_last", **_PRIVATE)

    for name, component in form.items():
        if isinstance(component, gr.File):
            weigh(component.change)
        elif name not in ("name", "title", "licence", "preset", "model"):
            text = isinstance(component, (gr.Textbox, gr.Number))
            # A dropdown tells of an input whenever it is left, of a change only when there is one.
            for event in (component.submit, component.blur) if text else (component.change,):
                weigh(event)
    for event in (form["pictures"].change, form["folder"].input):
        event(lambda: "", None, shown["pictures"], queue=False, **_PRIVATE)
    both = [form["preset"], form["model"]]
    weigh(form["model"].change(_of_model, both, [form["preset"], form["under"]], queue=False, **_PRIVATE).then)
    weigh(form["preset"].change(_of_preset, both, [form[name] for name in _OF_PRESET], queue=False, **_PRIVATE).then)
    # Gradio tells of an input only when something else happens on the page, so the last one is told by leaving the field.
    for event in (form["name"].input, form["name"].blur):
        event(_name_alert, form["name"], shown["name"], queue=False, trigger_mode="multiple", **_PRIVATE)
    form["degradation"].change(
        lambda choice: gr.update(visible=choice == CUSTOM), form["degradation"], form["ranges"], queue=False, **_PRIVATE
    )
    problems, started = [shown[place] for place in _PLACES], gr.State(None)
    begun = start.click(lambda: gr.update(value="Starting…", interactive=False), None, start, queue=False, **_PRIVATE)
    ran = begun.then(_start, inputs, [*problems, form["name"], started], concurrency_limit=4, **_PRIVATE)
    ran.then(sessions.bind(look), [started, watch.log, watch.seen], watch.outputs, **TURN, **_PRIVATE)
    ended = ran.then(lambda: gr.update(value="Start training", interactive=True), None, start, queue=False, **_PRIVATE)
    ended.then(None, None, None, js=_SCROLL, api_visibility="private")
    page.load(_fresh, None, [form["name"], form["preset"], form["model"], start], queue=False, **_PRIVATE)
    page.load(sessions.bind(first), None, watch.outputs, **TURN, **_PRIVATE)


def _form() -> tuple[dict[str, Any], dict[str, gr.HTML], gr.Button]:
    """The inputs by the names of :class:`Form`; where answers show; the button."""
    form: dict[str, Any] = {}
    shown: dict[str, gr.HTML] = {}
    form["pictures"] = gr.File(
        label="Good pictures of one kind",
        file_count="multiple",
        file_types=list(SUFFIXES),
        height=150,
        elem_id="train-pictures",
    )
    form["folder"] = gr.Textbox(
        "",
        label="or a folder of them on this computer",
        placeholder="such as ~/Pictures/scans",
        max_lines=1,
        elem_id="train-folder",
    )
    shown["pictures"] = gr.HTML(elem_id="train-pictures-problem", elem_classes="problem")
    shown["report"] = gr.HTML(elem_id="train-report", elem_classes="forecast")
    form["name"] = gr.Textbox(suggestion(), label="Name of the adapter", max_lines=1, elem_id="train-name")
    shown["name"] = gr.HTML(elem_id="train-name-problem", elem_classes="problem")
    first_model = PRESETS[_FIRST].model
    form["model"] = gr.Dropdown(model_choices(), value=first_model, label="Model to start from", elem_id="train-model")
    form["preset"] = gr.Dropdown(
        preset_choices(first_model),
        value=_FIRST,
        label="What to train",
        info=PRESETS[_FIRST].description,
        elem_id="train-preset",
        **_LATE,
    )
    form["under"] = gr.Dropdown(
        under_choices(PRESETS[_FIRST].model),
        value=None,
        label="On top of",
        info="The pixel adapter that lies beneath, frozen.",
        visible=False,
        elem_id="train-under",
        **_LATE,
    )
    form["degradation"] = gr.Dropdown(
        list(DEGRADATIONS.items()),
        value=PRESETS[_FIRST].recipe.degradation,
        label="How the pictures look that you will enlarge",
        info="It learns to undo this. Yours are made small and worse in this way to learn from.",
        elem_id="train-degradation",
    )
    form["ranges"] = gr.Textbox(
        "blur=0.4-1.2,noise=1-6,jpeg=60-95",
        label="Ranges",
        info="Blur in pixels, noise of 255 levels, JPEG quality; any may be left out.",
        max_lines=1,
        visible=False,
        elem_id="train-ranges",
    )
    with gr.Accordion("Advanced", open=False, elem_id="train-advanced"):
        form |= _advanced()
    shown["settings"] = gr.HTML(elem_id="train-settings-problem", elem_classes="problem")
    shown["forecast"] = gr.HTML(
        "<p>Choose pictures to see what it will take.</p>", elem_id="train-forecast", elem_classes="forecast"
    )
    start = gr.Button("Start training", variant="primary", interactive=False, elem_id="train-start")  # until the page is fresh
    return form, shown, start


def _advanced() -> dict[str, Any]:
    recipe, devices = PRESETS[_FIRST].recipe, available()
    found: dict[str, Any] = {}
    with gr.Row(elem_classes="actions"):
        found["rank"] = gr.Textbox(
            recipe.rank, label="Rank", info="Of LoRA: 8, or 10%.", max_lines=1, min_width=120, elem_id="train-rank"
        )
        found["steps"] = _number(recipe.steps, "Steps", "At most.", "train-steps")
    with gr.Row(elem_classes="actions"):
        found["lr"] = gr.Number(recipe.lr, label="Learning rate", info="At its peak.", min_width=120, elem_id="train-lr")
        found["batch"] = _number(recipe.batch, "Batch", "Patches per step.", "train-batch")
    with gr.Row(elem_classes="actions"):
        found["patch"] = _number(recipe.patch, "Patch", "LR pixels.", "train-patch")
        found["held_out"] = _number(recipe.held_out, "Held out", "0: about 15%.", "train-held-out")
    with gr.Row(elem_classes="actions"):
        found["lr_dir"] = _text("LR folder", "Real LR, not made.", "train-lr-dir")
        found["pair_by"] = gr.Dropdown(
            [("by name", "name"), ("by order", "order")], value="name", label="LR and HR", info="Paired so.", min_width=120
        )
    with gr.Row(elem_classes="actions"):
        found["val_dir"] = _text("Validation folder", "HR, held out.", "train-val-dir")
        found["val_lr_dir"] = _text("Its LR folder", "With real LR.", "train-val-lr-dir")
    with gr.Row(elem_classes="actions"):
        found["title"] = _text("Title", "Else the name.", "train-title")
        found["licence"] = _text("Licence", "For its card.", "train-licence")
    found["seed"] = _number(recipe.seed, "Seed", "Of the split and the patches.", "train-seed")
    found["device"] = gr.Dropdown(["auto", *devices], value="auto", label="Device", visible=len(devices) > 1)
    return found


def _number(value: int, label: str, info: str, elem_id: str) -> gr.Number:
    return gr.Number(value, label=label, info=info, precision=0, min_width=120, elem_id=elem_id)


def _text(label: str, info: str, elem_id: str) -> gr.Textbox:
    return gr.Textbox("", label=label, info=info, max_lines=1, min_width=120, elem_id=elem_id)


def _fresh() -> tuple[Any, ...]:
    presets = gr.update(choices=preset_choices(PRESETS[_FIRST].model))
    return suggestion(), presets, gr.update(choices=model_choices()), gr.update(interactive=True)


def _of_model(name: str, model: str) -> tuple[Any, Any]:
    """The presets that fit a model, the first of them if the one that was chosen does not; and what lies beneath."""
    choices = preset_choices(model)
    chosen = name if name in [value for _, value in choices] else choices[0][1]
    return gr.update(choices=choices, value=chosen), _under(chosen, model)


def _of_preset(name: str, before: str) -> tuple[Any, ...]:
    """The fields that a preset decides; steps are empty where it counts epochs."""
    if name not in presets_for(find_card(before).family):
        return (gr.skip(),) * len(_OF_PRESET)  # the form's check says so
    chosen, model = preset(name), model_for(name, before)
    recipe = chosen.recipe
    rank = gr.update(value=recipe.rank, visible=recipe.method == "lora")
    steps = (
        gr.update(value=None, info=f"Empty: {recipe.epochs} epochs.")
        if recipe.epochs
        else gr.update(value=recipe.steps, info="At most.")
    )
    rest = (recipe.lr, recipe.batch, recipe.patch, recipe.held_out)
    degradation = recipe.degradation if recipe.role != "domain" else gr.skip()
    return gr.update(info=chosen.description), _under(name, model), degradation, model, rank, steps, *rest


def _under(name: str, model: str) -> Any:
    """The choice of what lies beneath, shown where a preset trains on something."""
    choices = under_choices(model)
    return gr.update(choices=choices, value=choices[0][1] if choices else None, visible=preset(name).on_pixel)


def _preflight(*values: Any) -> Iterator[tuple[Any, ...]]:
    """Read the pictures, and say what is wrong with them and with the settings."""
    form = Form(*values)
    if not form.uploads and not form.folder.strip():
        # A field that is left for the start button asks for a check as well, which must not wipe out what starting had to say.
        yield gr.skip(), "", "", "<p>Choose pictures to see what it will take.</p>"
        return
    yield gr.skip(), gr.skip(), gr.skip(), status_html(Status("Reading the pictures…"))
    found = check(form)
    problems = (_alert(found.problems.get(place, "")) for place in ("pictures", "settings"))
    yield *problems, inventory_html(found, form), status_html(Status("Measuring some steps…")) if found.plan else ""


def _measure(*values: Any) -> Iterator[str]:
    """What the training will take, from a few real steps."""
    form = Form(*values)
    plan = check(form).plan if form.uploads or form.folder.strip() else None
    if plan is None:
        yield gr.skip()
        return

    def work(tell: Callable[[str], None]) -> None:
        tell(forecast_html(plan.counts(), plan.forecast(), plan.order.recipe))

    try:
        yield from stream(work, Run())
    except SrguiError as error:
        yield f"<p role='alert' class='error'>{html.escape(str(error))}</p>"


def _start(*values: Any) -> tuple[Any, ...]:
    """Make a job of the form and start it, or say what is wrong where it is: the problems, the next name, the job's name."""
    form = Form(*values)
    found = check(form)
    problems, name = found.problems, None
    if found.plan is not None and not problems:
        plain = found.plan.order.name
        try:
            order = kept(found.plan.order, form, jobs.Job(jobs.jobs_folder() / plain).pictures)
            jobs.create(plain, order.as_json(), form.uploads).start()
            name = plain
        except SrguiError as error:
            problems["settings"] = str(error)
    return *(_alert(problems.get(place, "")) for place in _PLACES), suggestion() if name else gr.skip(), name


def _name_alert(name: str) -> str:
    return _alert(name_problem(name.strip()))


def _alert(text: str) -> str:
    return f"<p role='alert'>{html.escape(text)}</p>" if text else ""
