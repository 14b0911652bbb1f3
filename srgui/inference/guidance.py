"""Guidance: a picture as a weighted sum of planes.

PiSA-SR (arXiv 2412.03017, Eq. 8) steers the residual of a restorer by two scales. For a network that predicts pixels it reads
``SR = up + pixel * (pix - up) + semantic * (full - pix)``: linear in both scales, so that moving a slider is a blend and no
network runs. A plane is computed when its weight first differs from zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from srgui.errors import InputError
from srgui.inference.mask import stretch
from srgui.inference.planes import Plane
from srgui.protocol import Box, Control, Run, Setting

Weights = Callable[[Mapping[str, float]], Mapping[str, float]]

PIXEL = Control(
    "pixel",
    "Fidelity",
    "How much of the network's change to the bicubic picture is applied (lambda_pix of PiSA-SR): 0 is bicubic, 1 the network.",
    0.0,
    1.5,
    1.0,
    "client",
)


SEMANTIC = Control(
    "semantic",
    "Detail",
    "How much of the generated detail is added (lambda_sem of PiSA-SR): 0 is the faithful picture, 1 the crisp one.",
    0.0,
    1.5,
    1.0,
    "client",
)


def base_weights(values: Mapping[str, float]) -> Mapping[str, float]:
    """A base without a pair: ``SR = up + pixel * (full - up)``."""
    pixel = values["pixel"]
    return {"up": 1 - pixel, "full": pixel}


def pair_weights(values: Mapping[str, float]) -> Mapping[str, float]:
    """A pair: ``SR = up + pixel * (pix - up) + semantic * (full - pix)``, PiSA-SR's Eq. 8 sorted by planes."""
    pixel, semantic = values["pixel"], values["semantic"]
    return {"up": 1 - pixel, "pix": pixel - semantic, "full": semantic}


class Blend:
    """A prepared picture whose every setting is a weighted sum of its planes.

    Args:
        planes: by name, all of one size.
        weights: from the values of all controls to the weight of each plane.
        controls: what the values may be.
    """

    def __init__(self, planes: Mapping[str, Plane], weights: Weights, controls: tuple[Control, ...]) -> None:
        self._planes, self._weights, self._controls = planes, weights, controls
        self.size = next(iter(planes.values())).size

    def render(self, setting: Setting, run: Run, region: Box | None = None) -> Tensor:
        """(1, 3, h, w) float32, not clipped.

        Raises:
            InputError: a value for a control this model does not have, or outside its range.
        """
        box = region or Box(0, 0, *self.size)
        result = self._sum(resolve(setting.values, self._controls), box, run)
        if setting.mask is not None and setting.masked is not None:
            inside = self._sum(resolve({**setting.values, **setting.masked}, self._controls), box, run)
            result = torch.lerp(result, inside, stretch(setting.mask, self.size, box))
        return result

    def close(self) -> None:
        for plane in self._planes.values():
            plane.close()

    def _sum(self, values: Mapping[str, float], box: Box, run: Run) -> Tensor:
        total: Tensor | None = None
        for name, weight in self._weights(values).items():
            if weight != 0:
                part = self._planes[name].read(box, run)
                part = part if weight == 1 else part * weight
                total = part if total is None else total + part
        return total if total is not None else torch.zeros(1, 3, box.height, box.width)


def resolve(values: Mapping[str, float], controls: tuple[Control, ...]) -> Mapping[str, float]:
    """The value of every control: the one given, or its default.

    Raises:
        InputError: a control is not there, or a value is outside its range.
    """
    known = {control.name: control for control in controls}
    for name, value in values.items():
        if name not in known:
            raise InputError(f"this model has no {name!r} scale; {_choices(known)}")
        control = known[name]
        if not control.minimum <= value <= control.maximum:
            raise InputError(f"{name} {value:g} is out of range; choose {control.minimum:g} to {control.maximum:g}")
    return {name: values.get(name, control.default) for name, control in known.items()}


def complete(setting: Setting, controls: tuple[Control, ...]) -> Setting:
    """A setting in which every control has its value, inside the mask as well.

    Raises:
        InputError: as :func:`resolve`, or a mask without values for it, or values without a mask.
    """
    if (setting.mask is None) != (setting.masked is None):
        raise InputError("a mask and the values that hold in it belong together; give both, or neither")
    values = resolve(setting.values, controls)
    masked = None if setting.masked is None else resolve({**values, **setting.masked}, controls)
    return Setting(values, masked, setting.mask)


def _choices(known: Mapping[str, Control]) -> str:
    return f"it has {', '.join(known)}" if known else "it has none, leave it out"
