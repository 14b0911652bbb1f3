"""Results that can be steered: what the viewer needs to blend them while a slider moves, and the exact result on release."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from srgui.blends import luma, quadratic
from srgui.images import Picture
from srgui.inference.batch import embedded
from srgui.inference.guidance import resolve
from srgui.inference.picture import PreparedPicture
from srgui.protocol import Box, Control, RestorerInfo, Run, Setting
from srgui.ui.shelf import CornerLayer, Entry, Layer, PreparedLayer, Shelf

_ROWS = 256


@dataclass
class Steered:
    """A result that is on the shelf, with what it takes to make it anew at other scales."""

    prepared: PreparedPicture
    info: RestorerInfo
    outscale: float
    quality: int
    output: Path
    hr: Picture | None
    entry: Entry
    values: Mapping[str, float]

    def steer(self, values: Mapping[str, float], shelf: Shelf, run: Run) -> bool:
        """Render and save at ``values`` (those that this model has); the entry on the shelf is replaced.

        Returns:
            False where the picture has left the shelf, or already is at these values.

        Raises:
            InputError: a value is outside its range. OutputError: the file cannot be written.
        """
        known = {name: value for name, value in values.items() if self.info.control(name)}
        wanted = resolve({**self.values, **known}, self.info.controls)
        if wanted == self.values or shelf.get(self.entry.id) is None:
            return False
        layer = PreparedLayer(self.prepared, Setting(wanted))
        settings = embedded(self.info, wanted, self.outscale)
        self.prepared.save(
            self.output, Setting(wanted), run, settings=settings, quality=self.quality, overwrite=True, seen=layer.see
        )
        old, guide = self.entry, {**(self.entry.guide or {}), "values": dict(wanted)}
        entry = replace(old, layers={**old.layers, "sr": layer}, guide=guide, version=old.version + 1)
        if not shelf.renew(entry):
            return False
        self.entry, self.values = entry, wanted
        return True


def corners(controls: tuple[Control, ...]) -> list[Setting]:
    """The settings between which a blend is linear: (0, 0, ...), (1, 0, ...), (1, 1, ...)."""
    names = [control.name for control in controls]
    return [Setting({name: float(place < count) for place, name in enumerate(names)}) for count in range(len(names) + 1)]


def guide(
    prepared: PreparedPicture, info: RestorerInfo, values: Mapping[str, float], hr: Picture | None, border: int, run: Run
) -> tuple[dict[str, Any] | None, dict[str, Layer]]:
    """What the viewer needs to steer a result: its sliders, the layers to blend, and PSNR as a quadratic form.

    Pictures with an alpha channel, whose colours are rendered beside it, are shown anew on release only.
    """
    controls = tuple(control for control in info.controls if control.cost == "client")
    if not controls:
        return None, {}
    live = prepared.picture.alpha is None and not prepared.picture.grey
    settings = corners(controls) if live else []
    layers: dict[str, Layer] = {f"corner{n}": CornerLayer(prepared, setting) for n, setting in enumerate(settings)}
    found: dict[str, Any] = {
        "controls": [{"name": c.name, "label": c.label, "help": c.help, "min": c.minimum, "max": c.maximum} for c in controls],
        "values": dict(values),
        "corners": list(layers),
        "gram": None,
        "border": border,
    }
    if hr is not None and live:
        found["gram"] = quadratic(_strips(prepared, settings, hr.tensor(), border, run)).gram
    return found, layers


def _strips(
    prepared: PreparedPicture, settings: list[Setting], hr: Tensor, border: int, run: Run
) -> Iterator[tuple[list[Tensor], Tensor]]:
    """Y of the corners and of the reference within the border, strip by strip."""
    height, width = prepared.size
    for top in range(border, height - border, _ROWS):
        box = Box(top, border, min(_ROWS, height - border - top), width - 2 * border)
        found = luma([prepared.colours.render(setting, run, box) for setting in settings])
        yield found, luma([hr[(..., *box.slices)]])[0]
