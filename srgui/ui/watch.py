"""A training as it is watched: its state, curves, samples and, at the end, its verdict. All of it is read from the job's folder."""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from srgui.errors import SrguiError
from srgui.images import read_picture
from srgui.lora.catalogue import all_adapters
from srgui.models.cards import all_cards
from srgui.training import jobs
from srgui.training.checkpoint import SAMPLES
from srgui.training.jobs import Job
from srgui.tuning.tune import RESULT
from srgui.ui.curves import Curve, curve_html
from srgui.ui.history import WORDS, History, history, status
from srgui.ui.parts import status_html
from srgui.ui.sessions import Sessions, samples_of
from srgui.ui.shelf import Entry, PictureLayer
from srgui.ui.stack import choose
from srgui.ui.upscale import Chosen
from srgui.ui.verdict import gain_of, scores_html, verdict_html
from srgui.ui.viewer import viewer, viewer_value

POLL = 1.5  # seconds
TURN: dict[str, Any] = {"concurrency_id": "watch", "concurrency_limit": 1}
_EMPTY = (
    "<div class='empty'><strong>Nothing is trained yet</strong><span>Choose some good pictures of one kind on the left and start; "
    "what is learned, and whether it helps, shows here.</span></div>"
)
_LOG = 12  # lines
_HAND = {"lr": "Base", "sr": "Trained", "hr": "Original"}
Samples = tuple[tuple[str, tuple[tuple[str, str, int], ...]], ...]  # title, then (layer, path, time of change)


class Watch(NamedTuple):
    """The panel's components: those that :func:`look` fills, in its order, and two that it asks."""

    outputs: list[Any]
    log: gr.Checkbox
    seen: gr.State


def watch_panel(sessions: Sessions, tabs: gr.Tabs, upscale: Chosen) -> Watch:
    """Lay out the panel and bind its events."""
    chosen = gr.Dropdown([], label="Training", visible=False, elem_id="job")
    state = gr.HTML(_EMPTY, elem_id="job-status")
    with gr.Row(elem_classes="actions", elem_id="job-actions"):
        use = gr.Button("Use it", variant="primary", visible=False, elem_id="job-use", scale=0, min_width=110)
        stop = gr.Button("Stop", visible=False, elem_id="job-stop", scale=0, min_width=110)
        resume = gr.Button("Resume", visible=False, elem_id="job-resume", scale=0, min_width=110)
        remove = gr.Button("Remove…", visible=False, elem_id="job-remove", scale=0, min_width=110)
    with gr.Row(visible=False, elem_classes="ask", elem_id="job-ask") as ask:
        gr.HTML("<p>Remove this training, with its curves and samples? The adapter that it made stays.</p>")
        really = gr.Button("Remove it", variant="stop", scale=0, min_width=110, elem_id="job-really")
        keep = gr.Button("Keep it", scale=0, min_width=110, elem_id="job-keep")
    problem = gr.HTML(elem_id="job-problem", elem_classes="problem")
    card = gr.HTML(apply_default_css=False, elem_id="job-card", elem_classes="figures")
    view = viewer(sessions.shelf, "samples")
    curves = gr.HTML(apply_default_css=False, elem_id="job-curves")
    log = gr.Checkbox(label="Logarithmic loss", visible=False, container=False, elem_id="job-log")
    scores = gr.HTML(apply_default_css=False, elem_id="job-scores", elem_classes="figures")
    timer, seen = gr.Timer(POLL, active=False), gr.State({})
    outputs = [chosen, state, use, stop, resume, remove, card, view, curves, log, scores, timer, seen]
    asked = [chosen, log, seen]
    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    private |= TURN
    timer.tick(sessions.bind(_again), [log, seen], outputs, trigger_mode="once", **private)
    log.input(sessions.bind(_again), [log, seen], outputs, **private)
    chosen.input(sessions.bind(look), asked, outputs, **private)
    for button, act in ((stop, Job.stop), (resume, Job.start), (really, Job.discard)):
        event = button.click(sessions.bind(_act(act)), asked, [problem, *outputs], **private)
        if button is really:
            event.then(lambda: gr.update(visible=False), None, ask, queue=False, **private)
    remove.click(lambda: gr.update(visible=True), None, ask, queue=False, **private)
    for event in (keep.click, chosen.input):
        event(lambda: gr.update(visible=False), None, ask, queue=False, **private)
    use.click(_use, [chosen, upscale.model], [tabs, upscale.model, upscale.adapters], queue=False, **private)
    return Watch(outputs, log, seen)


def look(sessions: Sessions, session: str, name: str | None, log: bool, seen: Mapping[str, Any]) -> tuple[Any, ...]:
    """Updates for the training ``name``; for None, the one that was looked at; where it is not there, what :func:`first` shows.

    Args:
        log: whether the loss is drawn logarithmically.
        seen: the contents that the page has; what is still so is skipped. That holds only if answers do not overtake each
            other, for which the events that call this have :data:`TURN`.
    """
    content = _contents(seen["job"][1] if name is None and seen else name, log)

    def update(key: str, value: Any) -> Any:
        return _samples(sessions, session, value) if key == "samples" else _UPDATES[key](value)

    same = {key for key in content if key in seen and seen[key] == content[key]}
    return *(gr.skip() if key in same else update(key, value) for key, value in content.items()), content


def first(sessions: Sessions, session: str) -> tuple[Any, ...]:
    """What someone sees who opens the page: the training that runs, or else the newest."""
    return look(sessions, session, None, False, {})


def _again(sessions: Sessions, session: str, log: bool, seen: Mapping[str, Any]) -> tuple[Any, ...]:
    return look(sessions, session, None, log, seen)


def _act(act: Callable[[Job], None]) -> Callable[..., tuple[Any, ...]]:
    def handler(sessions: Sessions, session: str, name: str | None, log: bool, seen: Mapping[str, Any]) -> tuple[Any, ...]:
        problem = ""
        try:
            act(jobs.find(name or ""))
        except SrguiError as error:
            problem = f"<p role='alert'>{html.escape(str(error))}</p>"
        return problem, *look(sessions, session, name, log, seen)

    return handler


def _use(name: str | None, model: str) -> tuple[Any, ...]:
    """Go to the Upscale tab with what was trained: an adapter with the model it is for, or a model."""
    adapter = all_adapters().get(name or "")
    if adapter is not None:
        base = next((card.id for card in all_cards().values() if card.id == adapter.base.id), model)
        beneath = [str(each["name"]) for each in adapter.recipe.get("under", ())]
        return gr.update(selected="upscale"), gr.update(value=base), choose(base, [*beneath, name or ""])
    choices = [(f"{card.title} ×{card.scale}", card.id) for card in all_cards().values() if card.present]
    return gr.update(selected="upscale"), gr.update(choices=choices, value=name), gr.skip()


def _contents(name: str | None, log: bool) -> dict[str, Any]:
    """All that the panel shows of a training, as plain values."""
    found = {job.name: (job, job.state) for job in jobs.all_jobs()}
    if name not in found:
        name = next((key for key, (_, state) in found.items() if state in ("running", "queued")), next(iter(found), None))
    running = [key for key, (_, state) in found.items() if state == "running"]
    choices = [(f"{job.name} · {WORDS[state]} · {_when(job.created)}", job.name) for job, state in found.values()]
    alive = any(state in ("running", "queued") for _, state in found.values())
    if name is None:
        blank = {"state": _EMPTY, "use": False, "stop": False, "resume": False, "remove": False, "card": "", "samples": ()}
        return {"job": ([], None), **blank, "curves": "", "log": False, "scores": "", "timer": False}
    job, state = found[name]
    course = history(job.events())
    told, wrong = status(job, state, course, running)
    return {
        "job": (choices, name),
        "state": status_html(told, error=wrong) + (_tail(job) if wrong else ""),
        "use": state == "done" and (name in all_adapters() or name in all_cards()),
        "stop": state in ("running", "queued"),
        "resume": state in ("stopped", "interrupted", "failed"),
        "remove": state not in ("running", "queued"),
        "card": _card(course),
        "samples": _found(job, course),
        "curves": _curves(course, log),
        "log": bool(course.losses),
        "scores": _scores(course) if state != "done" else "",
        "timer": alive,
    }


_UPDATES: Mapping[str, Callable[[Any], Any]] = {
    "job": lambda value: gr.update(choices=value[0], value=value[1], visible=bool(value[0])),
    "timer": lambda value: gr.Timer(active=value),
    **{key: lambda value: value for key in ("state", "card", "curves", "scores")},
    **{key: lambda value: gr.update(visible=value) for key in ("use", "stop", "resume", "remove", "log")},
}


def _when(moment: float) -> str:
    then = time.localtime(moment)
    today = then[:3] == time.localtime()[:3]
    return time.strftime("%H:%M" if today else "%d %B %Y", then)


def _card(course: History) -> str:
    gain = gain_of(course.result.get("metrics") or {})
    return verdict_html(gain, course.result.get("cost") or {}) if gain is not None else ""


def _curves(course: History, log: bool) -> str:
    if not course.steps:
        return ""
    psnr = [(step, value) for step, scores in course.scores if (value := scores["psnr_y"]) is not None]
    base = psnr[0][1] if psnr and psnr[0][0] == 0 else None
    note = "held-out pictures, Y, dB; dashed: the base"
    return (
        "<div class='curves'>"
        + curve_html(Curve("PSNR", note, psnr, course.steps, base=base))
        + curve_html(Curve("Loss", "training, per step; smoothed", course.losses, course.steps, noisy=True, log=log))
        + "</div>"
    )


def _scores(course: History) -> str:
    rows = {"Base": course.at(0)}
    if course.best_step:
        rows[f"Best, step {course.best_step}"] = course.at(course.best_step)
    if course.scores and course.scores[-1][0] not in (0, course.best_step):
        rows[f"Now, step {course.scores[-1][0]}"] = course.scores[-1][1]
    note = "The middle of up to 8 held-out pictures; PSNR and SSIM on Y, LPIPS: lower is better. The best weights are kept."
    return scores_html(rows, note)


def _tail(job: Job) -> str:
    """The end of the log of a training that failed."""
    try:
        lines = (job.folder / "log.txt").read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG:]
    except OSError:
        return ""
    return f"<details class='log'><summary>The end of its log</summary><pre>{html.escape(chr(10).join(lines))}</pre></details>"


def _found(job: Job, course: History) -> Samples:
    """The samples to show: at the end the pictures that gained most and least, before that the first held-out ones."""
    gain = gain_of(course.result.get("metrics") or {})
    if gain is not None and (job.folder / RESULT).is_dir():
        names = [f"Best: {gain.best.name} ({gain.best.gain:+.2f} dB)", f"Worst: {gain.worst.name} ({gain.worst.gain:+.2f} dB)"]
        return _files(job.folder / RESULT / SAMPLES, names)
    return _files(job.folder / SAMPLES, course.held_out)


def _files(folder: Path, titles: Sequence[str]) -> Samples:
    def layers(number: int) -> Iterator[tuple[str, str, int]]:
        for layer, kind in (("lr", "base"), ("sr", "now"), ("hr", "hr")):
            path = folder / f"{number}-{kind}.png"
            with suppress(OSError):
                yield layer, str(path), path.stat().st_mtime_ns

    found = [(title, tuple(layers(number))) for number, title in enumerate(titles[:4])]
    return tuple((title, files) for title, files in found if len(files) == 3)


def _samples(sessions: Sessions, session: str, samples: Samples) -> Any:
    """The viewer's value: new entries on the shelf, in the place of those of this visitor that were there."""
    entries = []
    for title, files in samples:
        with suppress(SrguiError):  # being written, or removed meanwhile
            layers = {layer: PictureLayer(read_picture(Path(path))) for layer, path, _ in files}
            entries.append(Entry(samples_of(session), title, dict(layers), labels=_HAND))
    sessions.shelf.drop(samples_of(session))
    return viewer_value([sessions.shelf.put(entry) for entry in entries], full=True)
