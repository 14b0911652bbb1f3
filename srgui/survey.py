"""Everything that can be measured of a result that is steered by scales: at every setting, whole or in part."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from srgui.blends import Moments, Quadratic, luma, parts, quadratic
from srgui.errors import MetricUnavailable
from srgui.evaluation import consistency
from srgui.inference.guidance import complete
from srgui.inference.mask import stretch
from srgui.inference.outscale import Resized
from srgui.metrics import Lpips, score, sharpness, sobel
from srgui.protocol import Box, Control, Prepared, Run, Setting

_ROWS = 256
_WINDOW = 11  # of SSIM: a map loses ten rows and columns
_SOBEL = 3


@dataclass(frozen=True)
class Forms:
    """Closed forms over the vector of scales: those outside a mask, then, where there is one, those in it.

    ``psnr`` on Y against the reference, None without one; ``consistency`` over RGB against LR; ``gradient`` of the luma: its
    root mean square, times 255 times the root of 2, is :func:`srgui.metrics.sharpness`. Nothing is clipped or rounded.
    """

    psnr: Quadratic | None
    consistency: Quadratic
    gradient: Quadratic


@dataclass
class Survey:
    """A prepared picture with what it is compared to.

    Args:
        prepared: a blend of planes in which every control is linear.
        lr: (1, 3, h, w), what it was made from.
        hr: (1, 3, H, W) of the result's size, or None.
        border: pixels on every side of the result that PSNR and SSIM leave out.
    """

    prepared: Prepared
    lr: Tensor
    controls: tuple[Control, ...]
    hr: Tensor | None
    border: int
    mask: Tensor | None = None
    _found: dict[Box, Forms] = field(default_factory=dict)
    _last: tuple[Box, list[Tensor]] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def forms(self, run: Run, part: Box | None = None) -> Forms:
        """The closed forms of a part of the result (of all of it by default); remembered until the mask is another.

        Raises:
            MetricUnavailable: the part is too small, or lies in the border.
        """
        part = part or Box(0, 0, *self.prepared.size)
        with self._lock:  # the parts of one box at a time, under one mask
            if part not in self._found:
                self._found[part] = Forms(
                    None if self.hr is None else quadratic(self._psnr_strips(self._inside(part), run)),
                    quadratic(self._lr_strips(part, run)),
                    quadratic(self._gradient_strips(part, run)),
                )
            return self._found[part]

    def paint(self, mask: Tensor | None) -> None:
        """Measure with another mask from now on."""
        with self._lock:
            self.mask = mask
            self._found, self._last = {}, None

    def ssim(self, settings: Sequence[Setting], run: Run, part: Box | None = None) -> list[float]:
        """SSIM on Y at several settings, from one pass over the planes; unclipped, not rounded.

        Raises:
            MetricUnavailable: there is no reference, or the part is too small.
        """
        if self.hr is None:
            raise MetricUnavailable("SSIM not available: there is no reference")
        inside = self._inside(part or Box(0, 0, *self.prepared.size))
        if min(inside.height, inside.width) < _WINDOW:
            raise MetricUnavailable(f"SSIM not available: its window needs {_WINDOW} x {_WINDOW} pixels")
        totals, count = torch.zeros(len(settings), dtype=torch.float64), 0
        for box in _strips(inside, _WINDOW):
            moments = Moments(self._luma(box, run), luma([self.hr[(..., *box.slices)]])[0])
            maps = [moments.ssim(self.vector(setting)) for setting in settings]
            totals += torch.stack([each.sum() for each in maps])
            count += maps[0].numel()
        return (totals / count).tolist()

    def scores(self, setting: Setting, lpips: Lpips | None, run: Run, part: Box | None = None) -> dict[str, float | None]:
        """What is measured of the rendered picture itself, clipped and rounded to 8 bits, at one setting.

        Returns:
            ``psnr_y``, ``ssim_y``, ``lpips`` (None without a reference, or where they cannot be computed), ``consistency``,
            ``sharpness``.
        """
        whole = Box(0, 0, *self.prepared.size)
        part = part or whole
        setting = complete(setting, self.controls)
        sr = self.prepared.render(setting, run, part).clamp(0, 1)
        found: dict[str, float | None] = {"psnr_y": None, "ssim_y": None, "lpips": None}
        if self.hr is not None:
            found = dict(score(sr, self.hr[(..., *part.slices)], self.border if part == whole else 0, lpips))
        found["consistency"] = consistency(self.prepared, setting, self.lr, run, self._lr_part(part))
        found["sharpness"] = sharpness(sr) if min(sr.shape[-2:]) >= _SOBEL else None
        return found

    def vector(self, setting: Setting) -> tuple[float, ...]:
        """A setting as :class:`Forms` take it."""
        full = complete(setting, self.controls)
        names = [control.name for control in self.controls]
        masked = full.masked or full.values
        return tuple(full.values[name] for name in names) + (tuple(masked[n] for n in names) if self.mask is not None else ())

    def _parts(self, box: Box, run: Run) -> list[Tensor]:
        last = self._last
        if last is None or last[0] != box:  # of which the downscaled parts are made one after the other
            corners = [self.prepared.render(setting, run, box) for setting in corner_settings(self.controls)]
            mask = None if self.mask is None else stretch(self.mask, self.prepared.size, box)
            last = self._last = box, parts(corners, mask)
        return last[1]

    def _luma(self, box: Box, run: Run) -> list[Tensor]:
        first, *steps = self._parts(box, run)
        black = luma([torch.zeros_like(first)])[0]
        return [luma([first])[0], *(each - black for each in luma(steps))]

    def _inside(self, part: Box) -> Box:
        """The part without the picture's border."""
        height, width = self.prepared.size
        top, left = max(part.top, self.border), max(part.left, self.border)
        bottom, right = min(part.bottom, height - self.border), min(part.right, width - self.border)
        if top >= bottom or left >= right:
            raise MetricUnavailable(f"PSNR and SSIM not available: without {self.border} pixels on every side nothing is left")
        return Box(top, left, bottom - top, right - left)

    def _lr_part(self, part: Box) -> Box:
        """The LR pixels whose centres the part holds, at least one."""
        height, width = self.lr.shape[-2:]
        (top, bottom), (left, right) = (
            _centres(start, stop, full, count)
            for start, stop, full, count in (
                (part.top, part.bottom, self.prepared.size[0], height),
                (part.left, part.right, self.prepared.size[1], width),
            )
        )
        return Box(top, left, bottom - top, right - left)

    def _psnr_strips(self, area: Box, run: Run) -> Iterator[tuple[list[Tensor], Tensor]]:
        assert self.hr is not None
        for box in _strips(area, 1):
            yield self._luma(box, run), luma([self.hr[(..., *box.slices)]])[0]

    def _gradient_strips(self, area: Box, run: Run) -> Iterator[tuple[list[Tensor], float]]:
        if min(area.height, area.width) < _SOBEL:
            raise MetricUnavailable(f"sharpness not available: it needs {_SOBEL} x {_SOBEL} pixels")
        for box in _strips(area, _SOBEL):
            yield [sobel(part) for part in self._luma(box, run)], 0.0

    def _lr_strips(self, part: Box, run: Run) -> Iterator[tuple[list[Tensor], Tensor]]:
        area, size = self._lr_part(part), (self.lr.shape[-2], self.lr.shape[-1])
        count = len(self.controls) * (1 if self.mask is None else 2) + 1
        small = [Resized(_Part(self, index), size) for index in range(count)]
        for box in _strips(area, 1, 64):
            yield [each.render(Setting(), run, box) for each in small], self.lr[(..., *box.slices)]


class _Part:
    """One part of a blend, as a picture that can be resized."""

    def __init__(self, survey: Survey, index: int) -> None:
        self._survey, self._index = survey, index
        self.size = survey.prepared.size

    def render(self, setting: Setting, run: Run, region: Box | None = None) -> Tensor:
        return self._survey._parts(region or Box(0, 0, *self.size), run)[self._index]

    def close(self) -> None:
        """The survey's picture is not this one's to close."""


def corner_settings(controls: Sequence[Control]) -> list[Setting]:
    """The settings between which a blend is linear: (0, 0, ...), (1, 0, ...), (1, 1, ...)."""
    names = [control.name for control in controls]
    return [Setting({name: float(place < count) for place, name in enumerate(names)}) for count in range(len(names) + 1)]


def _strips(area: Box, window: int, rows: int = _ROWS) -> Iterator[Box]:
    """Rows of an area whose windows of ``window`` rows, together, are those of the area."""
    for top in range(area.top, area.bottom - window + 1, rows):
        yield Box(top, area.left, min(rows + window - 1, area.bottom - top), area.width)


def _centres(start: int, stop: int, full: int, count: int) -> tuple[int, int]:
    ratio = full / count
    first = min(count - 1, max(0, -int(-(start / ratio - 0.5) // 1)))
    last = min(count, max(first + 1, -int(-(stop / ratio - 0.5) // 1)))
    return first, last


def as_lists(forms: Forms) -> Mapping[str, object]:
    """The forms for a script: a matrix of numbers each, ``psnr`` None without a reference."""
    return {name: form and [list(row) for row in form.gram] for name, form in vars(forms).items()}
