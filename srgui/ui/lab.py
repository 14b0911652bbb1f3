"""The Lab tab: measure a picture by known physics, reconstruct it, and look into the stages of the solver."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from srgui.errors import InputError, SrguiError
from srgui.images import SUFFIXES, encode_png, to_samples
from srgui.protocol import Progress, Run
from srgui.ui.curves import Curve, curve_html
from srgui.ui.experiment import Asked, Experiment, experiment, parameters, spectrum
from srgui.ui.parts import status_html
from srgui.ui.sessions import Sessions, lab_of
from srgui.ui.shelf import Entry, Layer, PictureLayer
from srgui.ui.stream import stream
from srgui.ui.upscale import example_paths
from srgui.ui.viewer import viewer, viewer_value
from srgui.ui.work import Status
from srgui.unfolding.files import find, settings
from srgui.unfolding.kernels import NAMES, find_kernel

TASKS = {"Super-resolution": "sr", "Compressive sensing": "cs", "Spectral imaging": "cassi"}
_ABOUT = {
    "sr": "A picture is blurred by a known kernel and every 2nd, 3rd or 4th pixel kept; the network undoes it.",
    "cs": "Each block of 32 × 32 pixels is seen through a few weighted sums only.",
    "cassi": "A coded aperture and a prism put 28 bands into one grey snapshot (CASSI). The spectra of photographs are made up.",
}
_NOTHING = "<strong>Nothing is reconstructed yet</strong><span>Choose a picture, and press Reconstruct</span>"
_FILE, _DRAWN, _CAMERA = "file", "drawn", "camera"
_KINDS = ["Gaussian"] * 4 + ["tilted Gaussian"] * 4 + ["motion"] * 4
_KERNELS = [
    *(
        (f"{name}: {kind}", name)
        for name, kind in zip(NAMES, ["Gaussian"] * 4 + ["tilted Gaussian"] * 4 + ["motion"] * 4, strict=True)
    ),
    ("a file of my own", _FILE),
    ("drawn below", _DRAWN),
]
_SIDE = 25  # pixels of a kernel that is drawn
_PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


def lab_tab(sessions: Sessions) -> None:
    """Lay out the tab and bind its events."""
    with gr.Row(equal_height=False, elem_classes="desk"):
        with gr.Column(scale=0, min_width=340, elem_classes="controls"):
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
                real = gr.Checkbox(False, label="It is a real LR picture", info="Nothing is simulated.", elem_id="lab-real")
                kernel = gr.Dropdown(_KERNELS, value="K1", label="Blur kernel", elem_id="lab-kernel")
                seen = gr.HTML(_kernel_html("K1"), elem_id="lab-kernel-seen")
                own = gr.File(label="Kernel", file_types=[".npy", ".txt", ".csv", *SUFFIXES], height=100, visible=False)
                drawn = gr.Sketchpad(
                    label="Draw the kernel, black on white",
                    canvas_size=(_SIDE * 10, _SIDE * 10),
                    image_mode="L",
                    height=340,
                    visible=False,
                    elem_id="lab-drawn",
                )
                scale = gr.Radio([2, 3, 4], value=2, label="Scale", elem_id="lab-scale")
                sigma = gr.Slider(0, 25, value=0, step=0.5, label="Noise", info="Of 255 levels.", elem_id="lab-sigma")
            ratio = gr.Dropdown(_ratios(), label="Measurements per pixel, percent", visible=False, elem_id="lab-ratio")
            mask = gr.File(
                label="Mask of your own (.mat, .npy, picture)",
                file_types=[".mat", ".npy", *SUFFIXES],
                height=100,
                visible=False,
                elem_id="lab-mask",
            )
            bare = gr.Checkbox(
                False, label="Leave the LoRA sets off", info="The shared denoiser alone, in every stage.", elem_id="lab-bare"
            )
            with gr.Row(elem_classes="actions"):
                start = gr.Button("Reconstruct", variant="primary", elem_id="lab-start")
                cancel = gr.Button("Cancel", elem_id="lab-cancel", scale=0)
        with gr.Column(scale=1, min_width=320, elem_classes="outcome"):
            view = viewer(sessions.shelf, elem_id="lab-viewer", empty=_NOTHING)
            stage = gr.Slider(
                0, 1, value=1, step=1, label="Stage", info="0 is where the solver starts.", visible=False, elem_id="lab-stage"
            )
            band = gr.Slider(
                0, 28, value=0, step=1, label="Band", info="0: all, in pseudo-colour.", visible=False, elem_id="lab-band"
            )
            status = gr.HTML(status_html(None), elem_id="lab-status")
            with gr.Row():
                curve = gr.HTML(elem_id="lab-curve")
                measured = gr.HTML(elem_id="lab-measured")
            with gr.Row(visible=False, elem_id="lab-spectra") as spectra:
                point = gr.Image(
                    label="Click for the spectrum there",
                    interactive=False,
                    format="png",
                    buttons=[],
                    height=320,
                    elem_id="lab-point",
                )
                lines = gr.HTML(elem_id="lab-spectrum")
            table = gr.HTML(apply_default_css=False, elem_id="lab-parameters", elem_classes="figures")
    task.change(_of_task, task, [task, sr, ratio, mask, band, spectra], queue=False, **_PRIVATE)
    examples.click(lambda index: str(example_paths()[index]), examples, picture, **_PRIVATE)
    kernel.change(_of_kernel, kernel, [seen, own, drawn], queue=False, **_PRIVATE)
    inputs = [task, picture, real, kernel, own, drawn, scale, sigma, ratio, mask, bare]
    outputs = [view, status, stage, band, curve, measured, point, lines, table]
    start.click(sessions.bind(_start), inputs, outputs, concurrency_id="model", concurrency_limit=1, **_PRIVATE)
    cancel.click(sessions.bind(lambda sessions, session: sessions.cancel(session)), None, None, queue=False, **_PRIVATE)
    for slider in (stage, band):
        slider.input(sessions.bind(_scrub), [stage, band], [view, point], trigger_mode="always_last", queue=False, **_PRIVATE)
    point.select(sessions.bind_event(_spectrum), None, lines, queue=False, **_PRIVATE)


def _ratios() -> list[str]:
    """The settings of compressive sensing that have weights; none where the network is not there."""
    try:
        return list(settings(find("srgui-lorun-cs")))
    except SrguiError:
        return []


def _of_task(task: str) -> tuple[Any, ...]:
    ratios = _ratios()
    return (
        gr.update(info=_ABOUT[task]),
        gr.update(visible=task == "sr"),
        gr.update(visible=task == "cs", choices=ratios, value=ratios[0] if ratios else None),
        gr.update(visible=task == "cassi"),
        gr.update(visible=task == "cassi"),
        gr.update(visible=task == "cassi"),
    )


def _of_kernel(kernel: str) -> tuple[Any, Any, Any]:
    named = kernel not in (_FILE, _DRAWN)
    return _kernel_html(kernel) if named else "", gr.update(visible=kernel == _FILE), gr.update(visible=kernel == _DRAWN)


def _kernel_html(kernel: str) -> str:
    found, _ = find_kernel(kernel)
    return _image_html(to_samples((found / found.max()).expand(-1, 3, -1, -1), 8), f"the kernel {kernel}", "lab-pixels")


def _start(
    sessions: Sessions,
    session: str,
    task: Any,
    picture: str | None,
    real: bool,
    kernel: str,
    own: str | None,
    drawn: Any,
    scale: int,
    sigma: float,
    ratio: str | None,
    mask: str | None,
    bare: bool,
) -> Iterator[tuple[Any, ...]]:
    """Run an experiment, telling how far it is."""
    rest = (gr.skip(),) * 7
    try:
        if not picture:
            raise InputError("there is no picture yet; drop one into the box on the left, or take an example")
        chosen = _drawn(drawn) if kernel == _DRAWN else own if kernel == _FILE else kernel
        if task == "sr" and chosen is None:
            raise InputError("there is no file of a kernel yet; drop one, or choose another kernel")
        path = Path(mask) if mask and task == "cassi" else None
        is_real, setting = real and task == "sr", ratio if task == "cs" else None
        asked = Asked(task, Path(picture), chosen, is_real, int(scale), float(sigma), setting, path, bare)
        with sessions.running(session) as run:
            yield gr.skip(), status_html(Status("Measuring…")), *rest
            for told in _run(asked, run):
                if isinstance(told, Experiment):
                    yield _shown(sessions, session, told)
                else:
                    yield gr.skip(), status_html(Status(f"Stage {told.done} of {told.total}…", told.done / told.total)), *rest
    except SrguiError as error:
        yield gr.skip(), status_html(Status(str(error)), error=True), *rest


def _run(asked: Asked, run: Run) -> Iterator[Progress | Experiment]:
    def work(tell: Callable[[Progress | Experiment], None]) -> None:
        tell(experiment(asked, run.child(tell)))

    yield from stream(work, run)


def _drawn(drawn: Any) -> np.ndarray:
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


def _shown(sessions: Sessions, session: str, found: Experiment) -> tuple[Any, ...]:
    last = len(found.stages) - 1
    sessions.shelf.drop(lab_of(session))
    entry = sessions.shelf.put(Entry(lab_of(session), found.name, _layers(found, last, 0), labels=_labels(found, last)))
    sessions.keep_experiment(session, found, entry)
    text = "; ".join([f"{last} stages", *found.notices]) + "."
    scenes = found.asked.task == "cassi"
    return (
        viewer_value([entry]),
        status_html(Status(text, finished=True)),
        gr.update(visible=True, maximum=last, value=last),
        gr.update(value=0),
        _curve_html(found),
        _measurement_html(found),
        found.picture(last).rgb if scenes else None,
        "<p>Click the picture.</p>" if scenes else "",
        _parameters_html(found),
    )


def _layers(found: Experiment, stage: int, band: int) -> dict[str, Layer]:
    layers: dict[str, Layer] = {"lr": PictureLayer(found.picture(0, band)), "sr": PictureLayer(found.picture(stage, band))}
    original = found.original(band)
    return {**layers, "hr": PictureLayer(original)} if original is not None else layers


def _labels(found: Experiment, stage: int) -> dict[str, str]:
    return {"lr": "Start", "sr": f"Stage {stage} of {len(found.stages) - 1}", "hr": "Truth"}


def _scrub(sessions: Sessions, session: str, stage: int, band: int) -> tuple[Any, Any]:
    """Show another stage or band of the experiment."""
    kept = sessions.experiment(session)
    if kept is None:
        return gr.skip(), gr.skip()
    found, entry = kept
    stage, band = min(int(stage), len(found.stages) - 1), int(band)
    shown = replace(entry, layers=_layers(found, stage, band), labels=_labels(found, stage), version=entry.version + 1)
    if not sessions.shelf.renew(shown):
        return gr.skip(), gr.skip()
    sessions.keep_experiment(session, found, shown)
    return viewer_value([shown]), found.picture(stage, band).rgb if found.asked.task == "cassi" else gr.skip()


def _spectrum(sessions: Sessions, session: str, event: gr.EventData) -> str:
    """The spectrum at the point that was clicked."""
    kept = sessions.experiment(session)
    if kept is None:
        return ""
    column, row = (int(number) for number in event.index)
    values, truth = spectrum(kept[0], len(kept[0].stages) - 1, row, column)
    beside = [] if truth is None else list(enumerate(truth, 1))
    title = f"Spectrum at {column}, {row}" + (" (dashed: the truth)" if beside else "")
    return curve_html(Curve(title, "of full scale", list(enumerate(values, 1)), len(values), axis="bands", beside=beside))


def _curve_html(found: Experiment) -> str:
    if not found.psnr:
        return ""
    points = [(float(stage), value) for stage, value in enumerate(found.psnr)]
    beside = ", ".join(f"{name} {value:.2f} dB" for name, value in found.beside.items())
    title = f"PSNR after each stage: {found.psnr[-1]:.2f} dB" + (f" ({beside}; dashed: Tikhonov)" if beside else "")
    return curve_html(Curve(title, "dB", points, len(points) - 1, base=found.beside.get("Tikhonov"), axis="stages"))


def _measurement_html(found: Experiment) -> str:
    image = _image_html(found.measurement, "the measurement", "lab-pixels")
    return f"<figure class='lab-measured'><figcaption>The measurement</figcaption>{image}</figure>"


def _parameters_html(found: Experiment) -> str:
    counts, names = (
        parameters(found.design),
        {"single": "one denoiser", "block": "one per stage", "lorun": "one, and a LoRA per stage"},
    )
    design = found.design
    rows = "".join(
        f"<tr{' class=chosen' if kind == design.sharing else ''}><th scope='row'>{kind}</th><td>{names[kind]}</td>"
        f"<td>{counts[kind]:,}</td><td>{counts[kind] / counts['block']:.0%}</td></tr>"
        for kind in names
    )
    head = "".join(f"<th scope='col'>{title}</th>" for title in ("Stages", "Denoisers", "Parameters", "of block's"))
    widths, rank = ", ".join(map(str, design.widths)), html.escape(design.rank)
    about = f"{design.stages} stages, {design.denoiser}, widths {widths}, LoRA rank {rank}."
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table><p>{about}</p>"


def _image_html(samples: np.ndarray, name: str, kind: str) -> str:
    data = base64.b64encode(encode_png(np.ascontiguousarray(samples))).decode("ascii")
    return f"<img class='{kind}' src='data:image/png;base64,{data}' alt='{html.escape(name, quote=True)}'>"
