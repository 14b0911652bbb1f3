"""LR synthesis from HR pictures. A degradation is one text: a name, or ``custom:`` with ranges.

``bicubic``; ``camera``: slight blur, noise and JPEG; ``realworld``: the second-order chain of Real-ESRGAN; ``kernels``: the blur
kernels of papers on non-blind SR, downsampled directly; ``custom:blur=0.4-1.2,noise=1-6,jpeg=60-95``: the steps of ``camera``
with ranges, or single values, of one's own, any of which may be left out.

All randomness comes from the generator that is passed in; with :func:`rng_for` an LR depends on the seed and the file name alone.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from srgui.degradations import direct, realworld
from srgui.degradations.bicubic import bicubic_lr, crop_to_multiple
from srgui.degradations.light import CAMERA, Light, parse_light
from srgui.errors import InputError, near

CUSTOM = "custom:"


@dataclass(frozen=True)
class Degradation:
    """How LR is made.

    Attributes:
        make: (HR, scale, generator) -> LR; see :func:`degrade`.
        reach: scale -> the distance in LR pixels beyond which the HR around an LR pixel does not matter to it, JPEG apart.
        random: whether the LR depends on the generator.
    """

    make: Callable[[np.ndarray, int, np.random.Generator], np.ndarray]
    reach: Callable[[int], int]
    random: bool = True


def _light(light: Light) -> Degradation:
    return Degradation(light, light.reach, light.random)


DEGRADATIONS: dict[str, Degradation] = {
    "bicubic": Degradation(lambda hr, scale, rng: bicubic_lr(hr, scale), lambda scale: 2, random=False),
    "camera": _light(CAMERA),
    "realworld": Degradation(realworld.realworld_lr, realworld.reach),
    "kernels": Degradation(direct.direct_lr, direct.reach),
}


def find_degradation(text: str) -> Degradation:
    """The degradation that ``text`` means.

    Raises:
        InputError: unknown name, or ``custom:`` with something else than its steps.
    """
    if text.startswith(CUSTOM):
        return _light(parse_light(text.removeprefix(CUSTOM)))
    if text not in DEGRADATIONS:
        raise InputError(f"unknown degradation {text!r}. {near(text, [*DEGRADATIONS, CUSTOM])}")
    return DEGRADATIONS[text]


def check_degradation(text: str) -> None:
    """Refuse what is no degradation.

    Raises:
        InputError: see :func:`find_degradation`.
    """
    find_degradation(text)


def is_random(text: str) -> bool:
    """Whether the LR depends on the generator: not for ``bicubic``, nor for a custom one of single values without noise.

    Raises:
        InputError: see :func:`find_degradation`.
    """
    return find_degradation(text).random


def degrade(text: str, hr: np.ndarray, scale: int, rng: np.random.Generator) -> np.ndarray:
    """Make the LR of ``hr`` by the degradation ``text``.

    Args:
        hr: (H, W, 3) uint8; cropped at the bottom and right to multiples of ``scale``.
        rng: draws the parameters and the noise; see :func:`rng_for`.

    Returns:
        (H // scale, W // scale, 3) uint8.

    Raises:
        InputError: ``text`` is no degradation, ``hr`` is not (H, W, 3) uint8, or a side is shorter than ``scale`` or too long
            for JPEG.
    """
    return find_degradation(text).make(hr, scale, rng)


def rng_for(seed: int, file_name: str) -> np.random.Generator:
    """The generator for one picture: the same for equal ``(seed, file_name)`` on every machine, unrelated for others.

    Args:
        file_name: the name without its folder. Composed and decomposed Unicode forms of it, which file systems
            exchange, count as one name.
    """
    text = f"{seed}/{unicodedata.normalize('NFC', file_name)}"
    key = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(key, "little")))


__all__ = [
    "DEGRADATIONS",
    "Degradation",
    "bicubic_lr",
    "check_degradation",
    "crop_to_multiple",
    "degrade",
    "find_degradation",
    "is_random",
    "rng_for",
]
