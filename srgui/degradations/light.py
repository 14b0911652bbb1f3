"""Light degradations, as of a good camera: slight blur, little noise, a fair JPEG, each from a range of one's own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import ceil
from typing import ClassVar

import numpy as np

from srgui.degradations.bicubic import checked
from srgui.degradations.steps import bicubic_down, gaussian_blur, gaussian_noise, jpeg, to_float, to_uint8
from srgui.errors import InputError, near

Range = tuple[float, float]

_EXAMPLE = "custom:blur=0.4-1.2,noise=1-6,jpeg=60-95"
_STEP = re.compile(r"(?P<step>\w+)=(?P<low>\d+(\.\d+)?)(-(?P<high>\d+(\.\d+)?))?", re.ASCII)


@dataclass(frozen=True)
class Draw:
    """What is done to one picture: blur ``sigma`` in HR pixels, ``noise`` on the 0..255 scale, JPEG ``quality``; or nothing."""

    sigma: float = 0.0
    noise: float = 0.0
    quality: int | None = None


@dataclass(frozen=True)
class Light:
    """Gaussian blur, antialiased bicubic downscaling, Gaussian noise on the LR, JPEG; a step without a range is left out.

    Attributes:
        blur: sigma in HR pixels at scale 2; at another scale it is times scale / 2.
        noise: sigma on the 0..255 scale.
        jpeg: quality, whole numbers, both ends included.
    """

    blur: Range | None = None
    noise: Range | None = None
    jpeg: Range | None = None

    BOUNDS: ClassVar[dict[str, Range]] = {"blur": (0, 10), "noise": (0, 100), "jpeg": (1, 100)}

    @property
    def random(self) -> bool:
        """Whether the LR depends on the generator: a range is more than one value, or there is noise."""
        ranges = [given for given in (self.blur, self.noise, self.jpeg) if given]
        return any(low < high for low, high in ranges) or bool(self.noise and self.noise[1])

    def reach(self, scale: int) -> int:
        """LR pixels by which the blur and the bicubic kernel reach beyond an LR pixel."""
        radius = ceil(4 * self.blur[1] * scale / 2) if self.blur else 0
        return 2 + ceil(radius / scale)

    def draw(self, scale: int, rng: np.random.Generator) -> Draw:
        """Uniform in each range."""
        return Draw(
            rng.uniform(*self.blur) * scale / 2 if self.blur else 0.0,
            rng.uniform(*self.noise) if self.noise else 0.0,
            int(rng.integers(int(self.jpeg[0]), int(self.jpeg[1]) + 1)) if self.jpeg else None,
        )

    def __call__(self, hr: np.ndarray, scale: int, rng: np.random.Generator) -> np.ndarray:
        """(H, W, 3) uint8 -> (H // scale, W // scale, 3) uint8.

        Raises:
            InputError: ``hr`` cannot be degraded by ``scale``.
        """
        image = to_float(checked(hr, scale))
        drawn = self.draw(scale, rng)
        if drawn.sigma:
            image = gaussian_blur(image, drawn.sigma)
        lr = bicubic_down(image, scale)
        if drawn.noise:
            lr = gaussian_noise(lr, drawn.noise, False, rng)
        return to_uint8(lr if drawn.quality is None else jpeg(lr, drawn.quality))


CAMERA = Light(blur=(0.4, 1.2), noise=(1, 6), jpeg=(60, 95))


def parse_light(text: str) -> Light:
    """``blur=0.4-1.2,noise=1-6,jpeg=60-95``, or any part of it, with ranges or single values.

    Raises:
        InputError: no step, an unknown step, one given twice, or a value that is no number or out of bounds.
    """
    ranges: dict[str, Range] = {}
    for part in text.split(","):
        found = _STEP.fullmatch(part)
        name = found["step"] if found else part.partition("=")[0]
        if name not in Light.BOUNDS:
            raise InputError(f"a custom degradation has no step {name!r}, as in {_EXAMPLE}. {near(name, Light.BOUNDS)}")
        if found is None:
            raise InputError(f"{part!r} is neither a value nor a range of positive numbers; write it as in {_EXAMPLE}")
        if name in ranges:
            raise InputError(f"a custom degradation names {name} twice; give one range, as in {_EXAMPLE}")
        ranges[name] = _range(part, name, found["low"], found["high"] or found["low"])
    return Light(**ranges)


def _range(part: str, name: str, low: str, high: str) -> Range:
    least, most = Light.BOUNDS[name]
    if not least <= float(low) <= float(high) <= most:
        raise InputError(f"{part} is out of range; {name} goes from {least:g} to {most:g}, the lower value first")
    if name == "jpeg" and "." in low + high:
        raise InputError(f"{part} is no JPEG quality; give whole numbers from {least:g} to {most:g}")
    return float(low), float(high)
