"""What happens when Upscale is pressed: picture after picture through the library, telling the page as it goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

from srgui.degradations import crop_to_multiple
from srgui.errors import Cancelled, InputError, MetricUnavailable, SrguiError
from srgui.evaluation import Protocol, consistency
from srgui.images import Picture, read_picture
from srgui.inference.batch import outputs
from srgui.inference.made import Made
from srgui.inference.outscale import check_outscale, size_at
from srgui.inference.picture import PreparedPicture
from srgui.metrics import Lpips, Scores, load_lpips, score
from srgui.protocol import Box, Option, Progress, Restorer, Run, Setting
from srgui.resample import resize
from srgui.restorers import open_restorer
from srgui.ui.guide import Steered, fitting, guide
from srgui.ui.shelf import Entry, Layer, PictureLayer, PreparedLayer, Shelf
from srgui.ui.sketch import Sketch
from srgui.ui.stream import stream

Reference = Literal["none", "hr", "make"]
MEASURED = 24e6  # pixels of the result up to which it is compared with a reference


@dataclass(frozen=True)
class Order:
    """What the page asks for. ``reference``: ``none``, ``hr`` (files in ``hr``), or ``make`` (the pictures are HR)."""

    pictures: list[Path]
    model: str
    outscale: float
    folder: Path
    owner: str
    reference: Reference = "none"
    hr: list[Path] = field(default_factory=list)
    degradation: str = "bicubic"
    format: str = "png"
    quality: int = 95
    tile: int | None = None
    device: str = "auto"
    adapters: list[tuple[str, float]] = field(default_factory=list)
    pair: bool = False
    setting: Setting = field(default_factory=Setting)
    options: dict[str, Option] = field(default_factory=dict)


@dataclass
class Done:
    """One picture's outcome: an entry on the shelf and a file, or an error."""

    name: str
    entry: Entry | None = None
    file: Path | None = None
    notes: tuple[str, ...] = ()
    error: str | None = None
    scores: Scores | None = None
    bicubic: Scores | None = None
    consistency: float | None = None
    steered: Steered | None = None
    seconds: float = 0.0


@dataclass
class Status:
    """How far an order is. ``fraction`` and ``left`` (seconds) are None while unknown."""

    text: str
    fraction: float | None = None
    left: float | None = None
    done: list[Done] = field(default_factory=list)
    finished: bool = False


def fulfil(order: Order, shelf: Shelf, run: Run) -> Iterator[Status]:
    """Do an order in a thread of its own, yielding what the page should show; closing the iterator cancels it."""

    def work(tell: Callable[[Status], None]) -> None:
        worker = _Worker(order, shelf, run, tell)
        try:
            worker.work()
        except Cancelled:
            tell(Status("Cancelled.", done=worker.done, finished=True))

    return stream(work, run)


@lru_cache(maxsize=1)
def lpips() -> Lpips | str:
    """LPIPS, or why it cannot be had; found out once, because asking a network that is not there takes seconds."""
    try:
        return load_lpips("auto")
    except MetricUnavailable as reason:
        return str(reason)


def measure(prepared: PreparedPicture, setting: Setting, hr: Picture | None, border: int, outcome: Done, run: Run) -> None:
    """Measure a result against its LR, and against ``hr`` where there is one and it is not too large."""
    lr = prepared.lr
    outcome.consistency = consistency(prepared.colours, setting, lr, run)
    height, width = prepared.size
    if hr is None or height * width > MEASURED:
        return
    reference = hr.tensor()
    found = lpips()
    net = None if isinstance(found, str) else found
    sr = prepared.colours.render(setting, run, Box(0, 0, height, width)).clamp(0, 1)
    outcome.scores = score(sr, reference, border, net)
    outcome.bicubic = outcome.bicubic or score(resize(lr, height, width).clamp(0, 1), reference, border, net)


def scores_of(outcome: Done) -> dict[str, float | None]:
    """What was measured of a result, as the viewer marks it among the settings that were tried."""
    return {**(outcome.scores or {}), "consistency": outcome.consistency}


class _Worker:
    def __init__(self, order: Order, shelf: Shelf, run: Run, tell: Callable[[Status], None]) -> None:
        self.order, self.shelf, self.run, self.tell = order, shelf, run, tell
        self.done: list[Done] = []
        self.started = time.monotonic()
        self._fraction = 0.0

    def work(self) -> None:
        order, total = self.order, len(self.order.pictures)
        self.tell(Status("Loading the model…", done=self.done))
        restorer = open_restorer(order.model, adapters=order.adapters, pair=order.pair, device=order.device, tile=order.tile)
        check_outscale(order.outscale, restorer.info.scale)
        self.run.check()
        for index, path in enumerate(order.pictures):
            # A folder each: two uploads may have the same name.
            (task,) = outputs([path], f"{order.folder / str(index)}/", order.outscale, order.format)
            run = self.run.child(partial(self._progress, index, task.input.name))
            outcome = Done(task.input.name)
            begun = time.monotonic()
            try:
                self._one(restorer, task.input, task.output, outcome, run)
            except Cancelled:
                raise
            except SrguiError as error:
                outcome.error = str(error).replace(str(path), path.name)
            outcome.seconds = time.monotonic() - begun
            self.done.append(outcome)
            if index + 1 < total:
                share = (index + 1) / total
                self.tell(Status(f"{index + 1} of {total} done", share, self._left(share), list(self.done)))
        failed = sum(outcome.error is not None for outcome in self.done)
        seconds = time.monotonic() - self.started
        adapters = "".join(f" + {each.name} {each.strength:g}" for each in restorer.info.adapters)
        what = f"{restorer.info.title} ×{order.outscale:g}{adapters}"
        text = f"{'Done' if not failed else f'{total - failed} of {total} done'} in {seconds:.1f} s with {what}."
        self.tell(Status(text, 1.0, 0.0, list(self.done), finished=True))

    def _one(self, restorer: Restorer, path: Path, output: Path, outcome: Done, run: Run) -> None:
        order = self.order
        picture, hr = self._pair(path, restorer.info.scale)
        setting = fitting(order.setting, restorer.info)
        options = {name: value for name, value in order.options.items() if name in restorer.info.options}
        prepared = PreparedPicture(restorer, picture, order.outscale, run, options)
        border = max(1, round(order.outscale))
        layer = PreparedLayer(prepared, setting)
        try:
            settings = Made.by(restorer.info, setting, order.outscale, options).as_json()
            lost = prepared.save(output, setting, run, settings=settings, quality=order.quality, seen=layer.see)
            self.tell(Status(f"{path.name}: measuring…", None, None, list(self.done)))
            measure(prepared, setting, hr, border, outcome, run)
            steering, corners, survey = guide(prepared, restorer.info, setting, hr if outcome.scores else None, border)
            if steering is not None:
                steering["scores"] = scores_of(outcome)
        except BaseException:
            layer.close()
            raise
        layers: dict[str, Layer] = {"lr": PictureLayer(picture), "sr": layer, **corners}
        if hr is not None:
            layers["hr"] = PictureLayer(hr)
        icc = None if picture.grey else picture.icc
        sketch = Sketch(prepared, restorer.info) if steering is not None and steering["sketch"] else None
        entry = Entry(order.owner, path.name, layers, icc, guide=steering, survey=survey, sketch=sketch)
        outcome.entry = self.shelf.put(entry)
        outcome.steered = Steered(prepared, restorer.info, order.outscale, order.quality, output, hr, entry, setting, options)
        outcome.file, outcome.notes = output, (*picture.notes, *lost)

    def _pair(self, path: Path, scale: int) -> tuple[Picture, Picture | None]:
        """The picture to upscale, and the reference to compare with."""
        order, picture = self.order, read_picture(path)
        if order.reference == "make":
            hr = crop_to_multiple(picture.as_uint8(), scale)
            if 0 in hr.shape:
                raise InputError(f"{path.name} is smaller than the scale {scale}; choose a larger picture")
            lr = Protocol(order.degradation).lr_of(hr, scale, path.name)
            return Picture(lr, icc=picture.icc, path=path), Picture(hr, icc=picture.icc)
        if order.reference == "none":
            return picture, None
        found = [p for p in order.hr if p.stem == path.stem] or (order.hr if len(order.pictures) == len(order.hr) == 1 else [])
        if not found:
            return picture, None
        hr_picture = read_picture(found[0])
        wanted = size_at(*picture.size, order.outscale)
        if hr_picture.size != wanted:
            height, width = hr_picture.size
            raise InputError(
                f"the reference {found[0].name} is {width} x {height}; "
                f"for {path.name} at x{order.outscale:g} it must be {wanted[1]} x {wanted[0]}"
            )
        return picture, hr_picture

    def _progress(self, index: int, name: str, progress: Progress) -> None:
        total = len(self.order.pictures)
        share = progress.done / max(1, progress.total)
        part = 0.9 * share if progress.what == "tiles" else 0.9 + 0.1 * share
        self._fraction = fraction = max(self._fraction, (index + part) / total)  # alpha and second passes start anew
        what = (
            f"tile {min(progress.done + 1, progress.total)} of {progress.total}" if progress.what == "tiles" else "writing the file"
        )
        place = f"{index + 1} of {total}: " if total > 1 else ""
        self.tell(Status(f"{place}{name}, {what}", fraction, self._left(fraction), list(self.done)))

    def _left(self, fraction: float) -> float | None:
        elapsed = time.monotonic() - self.started
        return elapsed * (1 - fraction) / fraction if fraction > 0.02 else None
