"""The Lab tab: measure a picture by known physics, reconstruct it, and look into the stages of the solver."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
import numpy as np

from srgui.errors import Cancelled, InputError, SrguiError
from srgui.images import SUFFIXES
from srgui.protocol import Progress, Run
from srgui.ui.experiment import Asked, Experiment, Task, alternatives, experiment
from srgui.ui.findings import Point, compared_html, kernel_html, measurement_html, parameters_html, spectrum_html, stages_html
from srgui.ui.parts import status_html
from srgui.ui.sessions import Sessions, lab_of
from srgui.ui.shelf import Entry, Layer, PictureLayer, new_id
from srgui.ui.spot import spot, spot_value
from srgui.ui.stream import stream
from srgui.ui.upscale import example_paths
from srgui.ui.viewer import viewer, viewer_value
from srgui.ui.work import Status
from srgui.unfolding.files import UNKNOWN, find, settings
from srgui.unfolding.kernels import NAMES

TASKS = {"Super-resolution": "sr", "Compressive sensing": "cs", "Spectral imaging": "cassi"}
_ABOUT = {
    "sr": "A picture is blurred and only every 2nd, 3rd or 4th pixel kept; the network undoes it.",
    "cs": "Each block of 32 × 32 pixels is seen through a few weighted sums only; the network finds the picture again.",
    "cassi": "A coded mask and a prism put 28 colours into one grey snapshot (CASSI). The spectra of photographs are made up.",
}
_NOTHING = "<strong>Nothing is reconstructed yet</strong><span>Choose a picture, and press Reconstruct</span>"
_ALONE = "no other network for this is here (python -m srgui models add FOLDER takes one that unfold train or compare left)"
_FILE, _DRAWN = "file", "drawn"
_KINDS = ["Gaussian"] * 4 + ["tilted Gaussian"] * 4 + ["motion"] * 4
_KERNELS = [
    *((f"{name}: {kind}", name) for name, kind in zip(NAMES, _KINDS, strict=True)),
    ("a file of my own", _FILE),
    ("drawn below", _DRAWN),
]
_SIDE = 25  # pixels of a kernel that is drawn
_PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
# On a narrow page the result lies below the controls.
_SEE = """() => {
  if (window.matchMedia("(max-width: 860px)").matches && !document.querySelector("#lab-status .error"))
    document.querySelector("#lab-viewer").scrollIntoView({ behavior: "smooth" });
}"""

# The sketchpad takes no stroke until its brush is chosen: choose it as soon as it is there.
_DRAW = """(kernel) => {
  if (kernel !== "drawn") return;
  const until = Date.now() + 10000;
  const choose = () => {
    const brush = document.querySelector("#lab-drawn button[aria-label='Brush']");
    if (brush) brush.click();
    else if (Date.now() < until) setTimeout(choose, 100);
  };
  choose();
}"""


class _Form(NamedTuple):
    """The values of the controls."""

    task: Task
    picture: str | None
    real: bool
    unknown: bool
    kernel: str
    own: str | None
    drawn: Any
    scale: int
    sigma: float
    ratio: str | None
    mask: str | None
    bare: bool


def lab_tab(sessions: Sessions) -> None:
    """Lay out the tab and bind its events."""
    with gr.Row(equal_height=False, elem_classes="desk"):
        with gr.Column(scale=0, min_width=340, elem_classes="controls"):
            form = _controls()
            with gr.Column(elem_id="lab-go"):
                with gr.Row(elem_classes="actions"):
                    start = gr.Button("Reconstruct", variant="primary", elem_id="lab-start", min_width=110)
                    compare = gr.Button("Compare", elem_id="lab-compare", min_width=100)
                    cancel = gr.Button("Cancel", elem_id="lab-cancel", scale=0, min_width=70)
                status = gr.HTML(status_html(None), elem_id="lab-status")
        with gr.Column(scale=1, min_width=320, elem_classes="outcome"):
            shown = _outcome(sessions)
    outputs = [status, *shown]
    for button, every in ((start, False), (compare, True)):
        begun = button.click(sessions.bind(_begin), None, [status, start, compare], queue=False, **_PRIVATE)
        work = sessions.bind(partial(_start, every=every))
        done = begun.then(work, list(form), outputs, concurrency_id="model", concurrency_limit=1, **_PRIVATE)
        done.then(_end, None, [start, compare], queue=False, **_PRIVATE).then(None, None, None, js=_SEE, **_PRIVATE)
    cancel.click(sessions.bind(lambda sessions, session: sessions.cancel(lab_of(session))), None, None, queue=False, **_PRIVATE)


def _controls() -> _Form:
    """What an experiment is made of; returns the components in the places of their values."""
    task = gr.Radio(list(TASKS.items()), value="sr", label="Task", info=_ABOUT["sr"], elem_id="lab-task")
    picture = gr.File(label="Picture", file_types=[*SUFFIXES, ".mat"], height=110, elem_id="lab-picture")
    examples = gr.Dataset(
        components=[gr.Image(visible=False, render=False)],
        samples=[[str(path)] for path in example_paths()],
        type="index",
        label="Examples",
        elem_id="lab-examples",
    )
    with gr.Column(elem_id="lab-sr", elem_classes="controls") as sr:
        real = gr.Checkbox(
            False,
            label="Enlarge the picture as it is",
            info="Otherwise it is blurred and shrunk first, so that the result can be compared with it.",
            elem_id="lab-real",
        )
        unknown = gr.Checkbox(
            False, label="The blur is unknown", info="The network is not told the kernel and the noise.", elem_id="lab-unknown"
        )
        kernel = gr.Dropdown(_KERNELS, value="K3", label="Blur kernel", elem_id="lab-kernel")
        seen = gr.HTML(kernel_html("K3"), elem_id="lab-kernel-seen")
        own = gr.File(label="Kernel", file_types=[".npy", ".txt", ".csv", *SUFFIXES], height=130, visible=False, elem_id="lab-own")
        drawn = gr.Sketchpad(
            label="Draw the kernel, black on white",
            canvas_size=(_SIDE * 10, _SIDE * 10),
            image_mode="L",
            height=340,
            visible=False,
            elem_id="lab-drawn",
        )
        scale = gr.Radio([("×2", 2), ("×3", 3), ("×4", 4)], value=2, label="Scale", elem_id="lab-scale")
        sigma = gr.Slider(0, 25, value=0, step=0.5, label="Noise", info="Of 255 levels.", elem_id="lab-sigma")
    ratio = gr.Dropdown(_ratios(), label="Measurements per 100 pixels", visible=False, elem_id="lab-ratio")
    mask = gr.File(
        label="Mask of your own (.mat, .npy, picture)",
        file_types=[".mat", ".npy", *SUFFIXES],
        height=130,
        visible=False,
        elem_id="lab-mask",
    )
    bare = gr.Checkbox(
        False, label="Leave the LoRA sets off", info="The shared denoiser alone, in every stage.", elem_id="lab-bare"
    )
    task.change(_of_task, task, [task, sr, ratio, mask], queue=False, **_PRIVATE)
    examples.click(lambda index: str(example_paths()[index]), examples, picture, **_PRIVATE)
    blur: Any = (_of_blur, [real, unknown, kernel], [kernel, seen, own, drawn, sigma])
    real.change(lambda real: real, real, unknown, queue=False, **_PRIVATE).then(*blur, queue=False, **_PRIVATE)
    for control in (unknown, kernel):
        control.change(*blur, queue=False, **_PRIVATE)
    kernel.change(None, kernel, None, js=_DRAW, **_PRIVATE)
    controls: Any = task, picture, real, unknown, kernel, own, drawn, scale, sigma, ratio, mask, bare
    return _Form(*controls)


def _outcome(sessions: Sessions) -> list[Any]:
    """Where a result is looked into; returns the components that one fills."""
    view = viewer(sessions.shelf, elem_id="lab-viewer", empty=_NOTHING)
    network = gr.Radio([], label="Network", visible=False, elem_id="lab-network")
    stage = gr.Slider(
        0, 1, value=1, step=1, label="Stage", info="0 is where the solver starts.", visible=False, elem_id="lab-stage"
    )
    band = gr.Slider(0, 28, value=0, step=1, label="Band", info="0: all, in pseudo-colour.", visible=False, elem_id="lab-band")
    with gr.Row(elem_id="lab-seen"):
        curve = gr.HTML(elem_id="lab-curve")
        measured = gr.HTML(elem_id="lab-measured")
    with gr.Row(visible=False, elem_id="lab-spectra") as spectra:
        point = spot("Choose the point whose spectrum is shown.", elem_id="lab-point")
        lines = gr.HTML(elem_id="lab-spectrum")
        at = gr.State((0, 0))
    table = gr.HTML(apply_default_css=False, elem_id="lab-parameters", elem_classes="figures")
    where, seen = [network, stage, band, at], [view, point, lines]
    for slider, anew in ((stage, False), (band, True)):
        scrub = sessions.bind(partial(_scrub, anew=anew))
        slider.input(scrub, where, seen, trigger_mode="always_last", queue=False, **_PRIVATE)
    network.input(sessions.bind(_choose), where, [*seen, stage, curve], queue=False, **_PRIVATE)
    look = sessions.bind_event(_spectrum)  # "always_last" loses the second of two quick moves
    point.select(look, [network, stage], [lines, at], trigger_mode="multiple", queue=False, **_PRIVATE)
    return [view, network, stage, band, curve, measured, spectra, point, lines, at, table]


def _ratios() -> list[str]:
    """The settings of compressive sensing that have weights; none where the network is not there."""
    try:
        return list(settings(find("srgui-lorun-cs")))
    except SrguiError:
        return []


def _of_task(task: Task) -> tuple[Any, ...]:
    ratios = _ratios()
    return (
        gr.update(info=_ABOUT[task]),
        gr.update(visible=task == "sr"),
        gr.update(visible=task == "cs", choices=ratios, value=ratios[0] if ratios else None),
        gr.update(visible=task == "cassi"),
    )


def _of_blur(real: bool, unknown: bool, kernel: str) -> tuple[Any, ...]:
    """Of a real picture with an unknown blur there is nothing to say."""
    needed, named = not (real and unknown), kernel not in (_FILE, _DRAWN)
    return (
        gr.update(visible=needed),
        gr.update(value=kernel_html(kernel) if named else "", visible=needed and named),
        gr.update(visible=needed and kernel == _FILE),
        gr.update(visible=needed and kernel == _DRAWN),
        gr.update(visible=needed),
    )


def _begin(sessions: Sessions, session: str) -> tuple[Any, ...]:
    """Show at once that the click was heard, and take no second one meanwhile."""
    busy = sessions.queue(lab_of(session))
    text = "Waiting for another run to finish…" if busy else "Starting…"
    return status_html(Status(text)), *(gr.update(interactive=False),) * 2


def _end() -> tuple[Any, Any]:
    return gr.update(interactive=True), gr.update(interactive=True)


def _start(sessions: Sessions, session: str, *controls: Any, every: bool) -> Iterator[tuple[Any, ...]]:
    """Run an experiment with one network, or ``every`` one that can, telling how far it is."""
    rest = (gr.skip(),) * 11
    try:
        with sessions.running(lab_of(session)) as run:
            for told in _run(_asked(_Form(*controls)), every, run):
                if isinstance(told, Status):
                    yield status_html(told), *rest
                else:
                    yield status_html(_done(told, every)), *_shown(sessions, session, told)
    except Cancelled:
        yield status_html(Status("Cancelled.", finished=True)), *rest
    except SrguiError as error:
        yield status_html(Status(_said(error, _Form(*controls))), error=True), *rest


def _said(error: SrguiError, form: _Form) -> str:
    """What went wrong, with files called as the visitor called them, not by where they were uploaded to."""
    text = str(error)
    for file in (form.picture, form.own, form.mask):
        text = text.replace(file, Path(file).name) if file else text
    return text


def _asked(form: _Form) -> Asked:
    """What the controls ask for.

    Raises:
        InputError: something is missing.
    """
    if not form.picture:
        raise InputError("there is no picture yet; drop one into the box on the left, or take an example")
    sr = form.task == "sr"
    real, unknown = sr and form.real, sr and form.unknown
    asked = Asked(form.task, Path(form.picture), None, real, int(form.scale), bare=form.bare)
    if sr and not (real and unknown):
        asked = replace(asked, kernel=_kernel(form), sigma=float(form.sigma))
    setting = UNKNOWN if unknown else form.ratio if form.task == "cs" else None
    return replace(asked, setting=setting, mask=Path(form.mask) if form.mask and form.task == "cassi" else None)


def _kernel(form: _Form) -> str | np.ndarray:
    if form.kernel == _FILE and not form.own:
        raise InputError("there is no file of a kernel yet; drop one, or choose another kernel")
    return _ink(form.drawn) if form.kernel == _DRAWN else str(form.own) if form.kernel == _FILE else form.kernel


def _ink(drawn: Any) -> np.ndarray:
    """What was drawn, black on white, as numbers (25, 25).

    Raises:
        InputError: nothing was.
    """
    canvas = None if drawn is None else drawn.get("composite")
    ink = np.zeros((_SIDE, _SIDE)) if canvas is None else 255.0 - np.asarray(canvas, dtype=np.float64)
    height, width = (length // _SIDE * _SIDE for length in ink.shape)
    if height and width:
        ink = ink[:height, :width].reshape(_SIDE, height // _SIDE, _SIDE, width // _SIDE).mean(axis=(1, 3))
    if not ink.any():
        raise InputError("no kernel is drawn yet; draw one, or choose another kernel")
    return ink


def _run(asked: Asked, every: bool, run: Run) -> Iterator[Status | list[Experiment]]:
    def work(tell: Callable[[Status | list[Experiment]], None]) -> None:
        tell(Status("Measuring…"))
        asks, found = alternatives(asked) if every else [asked], list[Experiment]()
        for number, one in enumerate(asks):

            def report(stage: Progress, number: int = number) -> None:
                which = f"Network {number + 1} of {len(asks)}, stage" if every else "Stage"
                share = (number + stage.done / stage.total) / len(asks)
                tell(Status(f"{which} {stage.done} of {stage.total}…", share))

            found.append(experiment(one, run.child(report)))
        tell(found)

    yield from stream(work, run)


def _done(found: Sequence[Experiment], every: bool) -> Status:
    notices = list(dict.fromkeys(notice for one in found for notice in one.notices))
    done = f"Done: {len(found)} networks" if len(found) > 1 else f"Done: {len(found[0].stages) - 1} stages"
    alone = [_ALONE] if every and len(found) == 1 else []
    return Status("; ".join([done, *alone, *notices]) + ".", finished=True)


def _shown(sessions: Sessions, session: str, found: Sequence[Experiment]) -> tuple[Any, ...]:
    first, many = found[0], len(found) > 1
    last, scenes = len(first.stages) - 1, first.asked.task == "cassi"
    middle = first.stages[0].shape[-1] // 2, first.stages[0].shape[-2] // 2
    sessions.shelf.drop(lab_of(session))
    entry = Entry(lab_of(session), first.name, _layers(first, last, 0), labels=_labels(first, last, many))
    sessions.keep_experiments(session, found, sessions.shelf.put(entry))
    return (
        viewer_value([entry]),
        gr.update(visible=many, choices=[(one.network, number) for number, one in enumerate(found)], value=0),
        gr.update(visible=True, maximum=last, value=last),
        gr.update(visible=scenes, maximum=first.design.bands, value=0),
        stages_html(first),
        measurement_html(first),
        gr.update(visible=scenes),
        spot_value(first.picture(last).rgb, middle) if scenes else None,
        spectrum_html(first, last, middle) if scenes else "",
        middle,
        compared_html(found) if many else parameters_html(first.design),
    )


def _layers(found: Experiment, stage: int, band: int) -> dict[str, Layer]:
    layers: dict[str, Layer] = {"lr": PictureLayer(found.picture(0, band)), "sr": PictureLayer(found.picture(stage, band))}
    original = found.original(band)
    return {**layers, "hr": PictureLayer(original)} if original is not None else layers


def _labels(found: Experiment, stage: int, many: bool) -> dict[str, str]:
    name = f"{found.network}, stage" if many else "Stage"
    return {"lr": "Start", "sr": f"{name} {stage} of {len(found.stages) - 1}", "hr": "Truth"}


def _scrub(
    sessions: Sessions, session: str, network: int | None, stage: int, band: int, at: Point, *, anew: bool
) -> tuple[Any, Any, Any]:
    """Show another stage of the experiment, or ``anew`` what changes its start and the truth too: another network or band."""
    nothing = (gr.skip(),) * 3
    kept = sessions.experiments(session)
    if kept is None:
        return nothing
    found, entry = kept
    one = found[network or 0]
    scenes = one.asked.task == "cassi"
    stage, band = min(int(stage), len(one.stages) - 1), int(band) if scenes else 0
    labels = _labels(one, stage, len(found) > 1)
    # a viewer keeps all that it has of an id, but the result
    identity = new_id() if anew else entry.id
    shown = replace(entry, id=identity, layers=_layers(one, stage, band), labels=labels, version=entry.version + 1)
    if not sessions.shelf.renew(shown, entry.id):
        return nothing
    sessions.keep_experiments(session, found, shown)
    view = viewer_value([shown])
    return (view, spot_value(one.picture(stage, band).rgb, at), spectrum_html(one, stage, at)) if scenes else (view, *nothing[1:])


def _choose(sessions: Sessions, session: str, network: int, stage: int, band: int, at: Point) -> tuple[Any, ...]:
    """Show what another network made of the measurement."""
    kept = sessions.experiments(session)
    if kept is None:
        return (gr.skip(),) * 5
    one = kept[0][network]
    last = len(one.stages) - 1
    return *_scrub(sessions, session, network, last, band, at, anew=True), gr.update(maximum=last, value=last), stages_html(one)


def _spectrum(sessions: Sessions, session: str, event: gr.EventData, network: int | None, stage: int) -> tuple[Any, Any]:
    """The spectrum at the point that was chosen, after the stage that is shown; and the point."""
    kept = sessions.experiments(session)
    if kept is None:
        return gr.skip(), gr.skip()
    found = kept[0][network or 0]
    column, row = (int(number) for number in event.value["at"])
    return spectrum_html(found, min(int(stage), len(found.stages) - 1), (column, row)), (column, row)
