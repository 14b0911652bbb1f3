"""Results that can be steered: what the viewer needs to blend them while a slider moves, and the exact result on release."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from srgui.errors import InputError
from srgui.images import Picture
from srgui.inference.guidance import complete
from srgui.inference.made import Made
from srgui.inference.mask import decode_mask, encode_mask
from srgui.inference.picture import PreparedPicture
from srgui.protocol import Option, RestorerInfo, Run, Setting
from srgui.survey import Survey, corner_settings
from srgui.ui.shelf import CornerLayer, Entry, Layer, PreparedLayer, Shelf

MOVES = "A move costs one pass of the decoder; only the first to unequal scales takes one of the UNet too."
_FOLLOWS = "A small preview follows a slider, the exact picture when it is let go of."
_DATA = "data:image/png;base64,"


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
    setting: Setting
    options: Mapping[str, Option] = field(default_factory=dict)

    def steer(self, wanted: Setting, shelf: Shelf, run: Run) -> bool:
        """Render and save at the values (of those that this model has) and in the mask that are wanted.

        Returns:
            False where the picture has left the shelf, or already is as wanted.

        Raises:
            InputError: a value is outside its range. OutputError: the file cannot be written.
        """
        wanted = fitting(wanted, self.info, self.setting)
        if same(wanted, self.setting) or shelf.get(self.entry.id) is None:
            return False
        layer = PreparedLayer(self.prepared, wanted)
        settings = Made.by(self.info, wanted, self.outscale, self.options).as_json()
        self.prepared.save(self.output, wanted, run, settings=settings, quality=self.quality, overwrite=True, seen=layer.see)
        old = self.entry
        guide = {**(old.guide or {}), **_shown(wanted)}
        entry = replace(old, layers={**old.layers, "sr": layer}, guide=guide, version=old.version + 1)
        if not shelf.renew(entry):
            return False
        if entry.survey is not None and not _equal(wanted.mask, self.setting.mask):
            entry.survey.paint(wanted.mask)
        self.entry, self.setting = entry, wanted
        return True


def fitting(wanted: Setting, info: RestorerInfo, before: Setting | None = None) -> Setting:
    """A complete setting of a model's own controls: as ``wanted``, else as ``before``, else the defaults.

    Raises:
        InputError: a value is outside its range.
    """

    def known(values: Mapping[str, float]) -> dict[str, float]:
        return {name: value for name, value in values.items() if info.control(name)}

    values = {**(before.values if before else {}), **known(wanted.values)}
    masked = known(wanted.masked) if wanted.masked is not None and wanted.mask is not None else None
    return complete(Setting(values, masked, wanted.mask) if masked else Setting(values), info.controls)


def read_setting(sent: Mapping[str, Any] | None) -> Setting:
    """What the viewer sends: ``values``, and ``masked`` with ``mask`` (a data URL) or neither.

    Raises:
        InputError: it is something else.
    """
    sent = sent or {}
    try:
        values, masked = ({str(n): float(v) for n, v in (sent.get(key) or {}).items()} for key in ("values", "masked"))
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f'scales {sent!r} are not {{"values": {{name: number}}, "masked": ..., "mask": ...}}') from error
    mask = sent.get("mask")
    return Setting(values, masked, decode_mask(str(mask))) if masked and mask else Setting(values)


def same(a: Setting, b: Setting) -> bool:
    return a.values == b.values and a.masked == b.masked and _equal(a.mask, b.mask)


def _equal(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return a is b
    return bool(a.shape == b.shape and (a == b).all())


def guide(
    prepared: PreparedPicture, info: RestorerInfo, setting: Setting, hr: Picture | None, border: int
) -> tuple[dict[str, Any] | None, dict[str, Layer], Survey | None]:
    """What the viewer needs to steer a result: its sliders and the layers to blend; and what measures it at every setting.

    Where a move costs more than a blend, and of pictures with an alpha channel, whose colours are rendered beside it, the result
    is shown and measured anew on release only.
    """
    controls = tuple(control for control in info.controls if control.cost != "sample")
    if not controls:
        return None, {}, None
    note = ""
    if prepared.picture.alpha is not None:
        note = "A transparent picture follows the sliders when they are let go of, and is measured in the table below."
    sketch = info.previews and prepared.picture.alpha is None
    if any(control.cost == "decode" for control in controls):
        note = f"{MOVES} " + (_FOLLOWS if sketch else "The picture follows when a slider is let go of.")
    layers: dict[str, Layer] = {}
    survey = None
    if not note:
        layers = {f"corner{n}": CornerLayer(prepared, each) for n, each in enumerate(corner_settings(controls))}
        reference = None if hr is None else hr.tensor()
        survey = Survey(prepared.colours, prepared.lr, controls, reference, border, setting.mask)
    found: dict[str, Any] = {
        "controls": [{"name": c.name, "label": c.label, "help": c.help, "min": c.minimum, "max": c.maximum} for c in controls],
        "corners": list(layers),
        "gram": None,
        "border": border,
        "reference": hr is not None,
        "note": note,
        "sketch": sketch,
        **_shown(setting),
    }
    return found, layers, survey


def _shown(setting: Setting) -> dict[str, Any]:
    return {
        "values": dict(setting.values),
        "masked": None if setting.masked is None else dict(setting.masked),
        "mask": None if setting.mask is None else _DATA + encode_mask(setting.mask),
    }
