"""Curves as SVG, drawn on the server: no script and no library. Their colours are those of the page."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

Point = tuple[float, float]
_WIDTH, _HEIGHT = 460, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 12, 36
_MOST = 300  # points drawn; more cannot be told apart
_SMOOTH = 0.85  # weight of the past in the smoothed curve


@dataclass(frozen=True)
class Curve:
    """Values over steps.

    Attributes:
        end: the last step there will be.
        base: a level to compare with, drawn dashed.
        noisy: whether to draw a smoothed curve over the points; otherwise every point is marked.
        log: whether the values are drawn logarithmically; where one is not above 0, they are not.
        axis: what is counted along the axis.
        beside: other values to compare with, drawn dashed.
    """

    title: str
    unit: str
    points: Sequence[Point]
    end: float
    base: float | None = None
    noisy: bool = False
    log: bool = False
    axis: str = "steps"
    beside: Sequence[Point] = ()


def curve_html(curve: Curve) -> str:
    """A figure with its caption, in SVG; without a point, an empty figure that says so."""
    caption = f"<figcaption>{html.escape(curve.title)} <small>{html.escape(curve.unit)}</small></figcaption>"
    points = [(x, y) for x, y in curve.points if math.isfinite(y)]
    if not points:
        return f"<figure class='curve'>{caption}<p>Nothing measured yet</p></figure>"
    points = _thinned(points)
    levels = [y for _, y in [*points, *curve.beside]] + ([] if curve.base is None else [curve.base])
    plane = _Plane(curve.end, min(levels), max(levels), curve.log and min(levels) > 0, curve.axis)
    drawn = plane.grid()
    if curve.base is not None:
        drawn += plane.line([(0, curve.base), (curve.end, curve.base)], "base")
    if curve.beside:
        drawn += plane.line(curve.beside, "base")
    if curve.noisy:
        drawn += plane.line(points, "raw") + plane.line(_smoothed(points), "line")
    else:
        drawn += plane.line(points, "line") + "".join(plane.dot(point) for point in points)
    last = f"{curve.title}, {curve.unit}: {_label(points[-1][1])} at {plane.axis[:-1]} {points[-1][0]:g}"
    svg = f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT}' role='img' aria-label='{html.escape(last, quote=True)}'>{drawn}</svg>"
    return f"<figure class='curve'>{caption}{svg}</figure>"


class _Plane:
    """From values to places in the picture."""

    def __init__(self, end: float, low: float, high: float, log: bool, axis: str) -> None:
        self.end, self.log, self.axis = max(1.0, end), log, axis
        self.low, self.high = (math.log10(low), math.log10(high)) if log else (low, high)
        margin = 0.06 * (self.high - self.low) or max(abs(self.low) * 0.01, 1e-6)
        self.low, self.high = self.low - margin, self.high + margin

    def x(self, step: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * step / self.end

    def y(self, value: float) -> float:
        share = ((math.log10(value) if self.log else value) - self.low) / (self.high - self.low)
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * share

    def grid(self) -> str:
        drawn = ""
        for level, label in self._levels():
            y = self.y(level)
            drawn += f"<path class='grid' d='M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}'/>"
            drawn += f"<text x='{_LEFT - 7}' y='{y + 4:.1f}' text-anchor='end'>{label}</text>"
        for step, label in ticks(0, self.end):
            drawn += f"<text x='{self.x(step):.1f}' y='{_HEIGHT - _BOTTOM + 17}' text-anchor='middle'>{label}</text>"
        return drawn + f"<text x='{_WIDTH - _RIGHT}' y='{_HEIGHT - 3}' text-anchor='end'>{self.axis}</text>"

    def _levels(self) -> list[tuple[float, str]]:
        """Round values with their labels."""
        low, high = (10**self.low, 10**self.high) if self.log else (self.low, self.high)
        decades = range(math.floor(self.low), math.ceil(self.high) + 1) if self.log else ()
        levels = [level for ten in decades for level in (10.0**ten, 2 * 10.0**ten, 5 * 10.0**ten) if low <= level <= high]
        if len(levels) > 1:
            return [(level, f"{level:g}") for level in levels]
        return ticks(low, high)

    def line(self, points: Sequence[Point], kind: str) -> str:
        return f"<path class='{kind}' d='M{'L'.join(f'{self.x(x):.1f} {self.y(y):.1f}' for x, y in points)}'/>"

    def dot(self, point: Point) -> str:
        step, value = point
        place = f"cx='{self.x(step):.1f}' cy='{self.y(value):.1f}'"
        return f"<circle {place} r='3'><title>{_label(value)} at {self.axis[:-1]} {step:g}</title></circle>"


def ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Two to five round numbers in [low, high], 1, 2 or 5 times a power of ten apart, with their labels."""
    rough = (high - low) / 5
    exponent = math.floor(math.log10(rough))
    step = next(factor * 10.0**exponent for factor in (1, 2, 5, 10) if factor * 10.0**exponent >= rough * (1 - 1e-9))
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(number * step, f"{number * step:.{digits}f}") for number in range(first, last + 1)]


def _thinned(points: list[Point]) -> list[Point]:
    """So few that they can be told apart, with the last."""
    stride = math.ceil(len(points) / _MOST)
    return points[(len(points) - 1) % stride :: stride]


def _smoothed(points: Sequence[Point]) -> list[Point]:
    """An exponential average that does not lean to its first value (Kingma and Ba 2015, section 3)."""
    total = weight = 0.0
    found = []
    for x, y in points:
        total, weight = _SMOOTH * total + (1 - _SMOOTH) * y, _SMOOTH * weight + 1 - _SMOOTH
        found.append((x, total / weight))
    return found


def _label(value: float) -> str:
    return f"{value:.4g}"
