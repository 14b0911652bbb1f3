"""Several methods measured on the same pictures: one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from srgui.errors import InputError
from srgui.evaluation import Measured, Protocol, evaluate, summary
from srgui.metrics import Lpips
from srgui.protocol import Restorer, Run, Setting
from srgui.training.gain import Compared, Gain

BICUBIC = "bicubic"


@dataclass(frozen=True)
class Table:
    """Scores by method, picture by picture; ``left_out`` are files that could not be measured, with the reason."""

    name: str
    measured: Mapping[str, Sequence[Measured]]
    left_out: Sequence[tuple[str, str]]

    def gain(self, before: str, after: str) -> Gain:
        """What ``after`` gained over ``before``."""
        pairs = zip(self.measured[before], self.measured[after], strict=True)
        return Gain(tuple(Compared(old.name, old.model, new.model) for old, new in pairs))

    def as_json(self, before: str, after: Sequence[str]) -> dict[str, Any]:
        """``rows`` (means, and the median seconds per picture), ``gains`` of ``after`` over ``before``, and every picture."""
        first = next(iter(self.measured.values()))
        rows: list[dict[str, Any]] = [{"method": BICUBIC, **summary(first, {})["bicubic"], "seconds": None}]
        for method, all_of_it in self.measured.items():
            seconds = median(one.seconds for one in all_of_it)
            rows.append({"method": method, **summary(all_of_it, {})["mean"], "seconds": seconds})
        images = []
        for index, one in enumerate(first):
            scores = {method: all_of_it[index].model for method, all_of_it in self.measured.items()}
            images.append({"name": one.name, "scores": {BICUBIC: one.bicubic, **scores}})
        return {
            "name": self.name,
            "pictures": len(first),
            "rows": rows,
            "gains": [{"method": method, **_told(self.gain(before, method))} for method in after],
            "images": images,
            "left_out": [{"name": name, "reason": reason} for name, reason in self.left_out],
        }


def _told(gain: Gain) -> dict[str, Any]:
    content = gain.as_json()
    return {key: content[key] for key in ("verdict", "mean_gain_db", "interval_95_db", "wins", "losses", "ties")}


def measure(
    name: str, methods: Mapping[str, Restorer], paths: Sequence[Path], protocol: Protocol, run: Run, lpips: Lpips | None
) -> Table:
    """Measure every method on every picture, one picture after the other, so that what slows the machine slows all of them.

    Raises:
        InputError: no picture could be measured.
        Cancelled: the run was.
    """
    measured: dict[str, list[Measured]] = {method: [] for method in methods}
    left_out: list[tuple[str, str]] = []
    for index, path in enumerate(paths):
        run.progress(name, index, len(paths))
        scores, reason = _one(methods, path, protocol, run.child(lambda _: None), lpips)
        if reason:
            left_out.append((path.name, reason))
            continue
        for method, one in scores.items():
            measured[method].append(one)
    run.progress(name, len(paths), len(paths))
    if len(left_out) == len(paths):
        raise InputError(f"none of the {len(paths)} pictures of {name} could be measured ({left_out[0][1]}); give others")
    return Table(name, measured, left_out)


def _one(
    methods: Mapping[str, Restorer], path: Path, protocol: Protocol, run: Run, lpips: Lpips | None
) -> tuple[dict[str, Measured], str]:
    found = {}
    for method, restorer in methods.items():
        scores, failed = evaluate(restorer, [path], protocol, Setting(), run, lpips=lpips)
        if failed:
            return {}, failed[0][1]
        found[method] = scores[0]
    return found, ""
