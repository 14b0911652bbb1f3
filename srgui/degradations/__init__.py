"""LR synthesis from HR pictures, by name: ``bicubic``, ``camera`` and ``realworld``.

All randomness comes from the generator that is passed in; with :func:`rng_for` an LR depends on the seed and the file name alone.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable

import numpy as np

from srgui.degradations.bicubic import bicubic_lr, crop_to_multiple
from srgui.degradations.camera import camera_lr
from srgui.degradations.realworld import realworld_lr
from srgui.errors import InputError, near

Degradation = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]


def _bicubic(hr: np.ndarray, scale: int, rng: np.random.Generator) -> np.ndarray:
    return bicubic_lr(hr, scale)


DEGRADATIONS: dict[str, Degradation] = {"bicubic": _bicubic, "camera": camera_lr, "realworld": realworld_lr}


def degrade(name: str, hr: np.ndarray, scale: int, rng: np.random.Generator) -> np.ndarray:
    """Make the LR of ``hr`` by the degradation called ``name``.

    Args:
        hr: (H, W, 3) uint8; cropped at the bottom and right to multiples of ``scale``.
        rng: draws the parameters and the noise; see :func:`rng_for`.

    Returns:
        (H // scale, W // scale, 3) uint8.

    Raises:
        InputError: ``name`` is unknown, ``hr`` is not (H, W, 3) uint8, or a side is shorter than ``scale`` or too long for JPEG.
    """
    if name not in DEGRADATIONS:
        raise InputError(f"there is no degradation {name!r}. {near(name, DEGRADATIONS)}")
    return DEGRADATIONS[name](hr, scale, rng)


def rng_for(seed: int, file_name: str) -> np.random.Generator:
    """The generator for one picture: the same for equal ``(seed, file_name)`` on every machine, unrelated for others.

    Args:
        file_name: the name without its folder. Composed and decomposed Unicode forms of it, which file systems
            exchange, count as one name.
    """
    text = f"{seed}/{unicodedata.normalize('NFC', file_name)}"
    key = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(key, "little")))


__all__ = ["DEGRADATIONS", "Degradation", "bicubic_lr", "crop_to_multiple", "degrade", "rng_for"]
