"""Blur kernels of non-blind super-resolution: the 12 of the papers by name, and a user's own from a file."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from srgui.errors import InputError, near
from srgui.places import ASSETS
from srgui.unfolding.numbers import read_npy

FOLDER = ASSETS / "unfolding"
NAMES = tuple(f"K{number}" for number in range(1, 13))
_TOLERANCE = 1e-3


@cache
def the_twelve() -> Tensor:
    """(12, 25, 25) float32, each of sum 1: K1 to K4 isotropic Gaussians, K5 to K8 anisotropic ones, K9 to K12 motion blur.

    Source: ``kernels_12.mat`` of USRNet (Zhang et al. 2020).
    """
    from safetensors.torch import load_file

    return load_file(FOLDER / "kernels_12.safetensors")["kernels"]


def find_kernel(text: str) -> tuple[Tensor, str]:
    """(1, 1, kh, kw) float32 of sum 1, and a notice where the kernel had to be normalised.

    Args:
        text: ``K1`` to ``K12``, or a ``.npy`` or ``.txt`` file of numbers, or a grey picture.

    Raises:
        InputError: there is no such kernel or file, or it is none.
    """
    if text.upper() in NAMES:
        return the_twelve()[NAMES.index(text.upper())][None, None], ""
    path = Path(text)
    if not path.is_file():
        raise InputError(f"there is no kernel {text!r}; use K1 to K12 or a file. {near(text.upper(), NAMES)}")
    return as_kernel(_read(path), path.name)


def as_kernel(values: np.ndarray, name: str) -> tuple[Tensor, str]:
    """Numbers (kh, kw) as a kernel (1, 1, kh, kw) float32 of sum 1, and a notice where they had another sum.

    Raises:
        InputError: they are no matrix, not finite, negative on the whole, or all 0.
    """
    if values.ndim != 2 or not values.size:
        raise InputError(f"the kernel {name} has the shape {values.shape}; give a matrix, one number per pixel")
    values = np.asarray(values, dtype=np.float64)
    total = float(values.sum())
    if not np.isfinite(values).all() or not total > 0:
        raise InputError(f"the kernel {name} sums to {total:g}; give finite numbers whose sum is above 0")
    notice = "" if abs(total - 1) <= _TOLERANCE else f"the kernel {name} sums to {total:.4g}; it was divided by that"
    return torch.from_numpy(values / total).float()[None, None], notice


def _read(path: Path) -> np.ndarray:
    if path.suffix.lower() == ".npy":
        return read_npy(path)
    try:
        if path.suffix.lower() in (".txt", ".csv"):
            return np.loadtxt(path, delimiter="," if path.suffix.lower() == ".csv" else None, ndmin=2)
    except (ValueError, OSError) as error:
        raise InputError(f"the kernel {path} cannot be read ({error}); give .npy, .txt, .csv or a grey picture") from error
    from srgui.images import read_picture

    return read_picture(path).as_uint8().astype(np.float64).mean(axis=2)
