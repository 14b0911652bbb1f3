"""Spectral scenes: real ones from .mat files, scenes synthesised from photographs, and the mask they are seen through.

No public scene comes with srgui, so scenes are painted: a photograph's linear RGB weighs three smooth reflectance spectra that
are drawn per scene; up to four more smooth spectra are added where its chroma has certain values, so that a scene is of higher
rank than three and equal colours differ by scene; all is lit by a black body of 2800 to 7500 K. This resembles real scenes in
smoothness, in its spatial detail being common to all bands, and in its light. It has no sharp absorption lines, no fluorescence
and no sensor noise.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from srgui.errors import InputError
from srgui.unfolding.numbers import read_npy
from srgui.unfolding.physics.cassi import BANDS

NANOMETRES = np.linspace(450, 650, BANDS)  # the span of CAVE and KAIST as CASSI networks use it
_CENTRES, _WIDTHS = np.array([620.0, 545.0, 460.0]), np.array([45.0, 38.0, 38.0])  # of red, green and blue
_KEYS = ("img", "data_slice", "data", "cube", "HSI", "ref", "img_expand")


@cache
def coded_aperture() -> Tensor:
    """(256, 256) float32 of 0 and 1, about half of each at random and always the same: the mask where none is given."""
    words = np.random.PCG64(0).random_raw(256 * 256 // 64)
    return torch.from_numpy(np.unpackbits(words.astype("<u8").view(np.uint8)).reshape(256, 256)).float()


def some_mask(side: int, rng: np.random.Generator) -> Tensor:
    """(side, side): a window of :func:`coded_aperture`, half of the time softened, as real ones are by their optics."""
    mask = coded_aperture()
    top, left = (int(rng.integers(length - side + 1)) for length in mask.shape)
    window = mask[top : top + side, left : left + side]
    soft = F.avg_pool2d(window[None, None], 3, 1, 1, count_include_pad=False)[0, 0]
    return torch.lerp(window, soft, max(0.0, float(rng.uniform(-1, 1))))


def paint(photo: np.ndarray, rng: np.random.Generator, bands: np.ndarray = NANOMETRES) -> Tensor:
    """A scene (bands, H, W) float32 in [0, 1] from a photograph (H, W, 3) uint8; see the module for the recipe."""
    linear = _linear(photo)
    position = (bands - bands[0]) / (bands[-1] - bands[0])
    spectra = _reflectances(bands, position, rng)
    flat = linear.reshape(-1, 3)
    cube = flat @ spectra
    chroma = flat / (flat.sum(axis=1, keepdims=True) + 0.02)
    for _ in range(int(rng.integers(2, 5))):
        where = np.cos(chroma @ rng.normal(0, 5, 3) + rng.uniform(0, 2 * np.pi))
        cube *= 1 + 0.2 * where[:, None] * _smooth(position, rng)
    cube *= _black_body(bands, rng.uniform(2800, 7500))
    cube /= max(float(np.percentile(cube, 99.5)), 1e-3)
    height, width = photo.shape[:2]
    return torch.from_numpy(np.ascontiguousarray(cube.T.clip(0, 1), dtype=np.float32)).view(len(bands), height, width)


def _linear(photo: np.ndarray) -> np.ndarray:
    """sRGB samples as linear light, float64."""
    encoded = photo.astype(np.float64) / 255
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def _reflectances(bands: np.ndarray, position: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(3, bands): smooth bumps around red, green and blue that sum to about 1, bent by smooth factors."""
    centres, widths = _CENTRES + rng.normal(0, 8, 3), _WIDTHS * rng.uniform(0.8, 1.4, 3)
    bumps = np.exp(-0.5 * ((bands - centres[:, None]) / widths[:, None]) ** 2) + 0.03
    bumps /= bumps.sum(axis=0)
    return bumps * np.stack([1 + 0.15 * _smooth(position, rng) for _ in range(3)])


def _smooth(position: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random smooth curve within [-1, 1]: four cosines, the faster the weaker."""
    orders = np.arange(1, 5)
    waves = np.cos(np.pi * orders[:, None] * position + rng.uniform(0, 2 * np.pi, (4, 1)))
    curve = (rng.normal(0, 1, 4) / orders) @ waves
    return curve / max(1.0, float(np.abs(curve).max()))


def _black_body(bands: np.ndarray, kelvin: float) -> np.ndarray:
    """Planck's law at these wavelengths, its maximum among them 1."""
    metres = bands * 1e-9
    light = metres**-5 / np.expm1(0.014387769 / (metres * kelvin))
    return light / light.max()


def read_scene(path: Path, bands: int = BANDS) -> Tensor:
    """A scene (1, bands, H, W) in [0, 1] from a .mat file in the layouts of CAVE and KAIST: (H, W, bands), or bands first.

    Values above 1 are divided by the type's maximum where they are whole, by their own otherwise.

    Raises:
        InputError: it cannot be read, or holds no cube of so many bands.
    """
    cube = _cube(_load(path), bands, path)
    whole = np.issubdtype(cube.dtype, np.integer)
    values = np.asarray(cube, dtype=np.float32)
    if not np.isfinite(values).all():
        raise InputError(f"{path} holds values that are not finite; mend the scene")
    top = float(np.iinfo(cube.dtype).max) if whole else max(1.0, float(values.max()))
    return torch.from_numpy(np.ascontiguousarray(values / top).clip(0, 1))[None]


def read_mask(path: Path) -> Tensor:
    """A mask (H, W) float32 in [0, 1] from a .mat or .npy file, or a grey picture.

    Raises:
        InputError: it cannot be read, or is no picture of values from 0 to 1.
    """
    if path.suffix.lower() == ".mat":
        arrays = (value for value in _load(path).values() if isinstance(value, np.ndarray) and value.dtype.kind in "buif")
        values = next((value for value in arrays if value.ndim == 2 and min(value.shape) > 1), np.zeros(0))
    elif path.suffix.lower() == ".npy":
        values = read_npy(path)
    else:
        from srgui.images import read_picture

        values = read_picture(path).as_uint8().mean(axis=2) / 255
    if values.ndim != 2 or not values.size or not np.isfinite(values).all() or values.min() < 0 or not 0 < values.max() <= 1:
        raise InputError(f"{path} is no mask: it must be one picture of values from 0 to 1, not all 0")
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def _load(path: Path) -> dict[str, Any]:
    import zlib

    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        return {key: value for key, value in loadmat(str(path)).items() if not key.startswith("__")}
    except NotImplementedError as error:
        raise InputError(f"{path} is a .mat file of version 7.3; save it with -v7 in MATLAB") from error
    except (OSError, ValueError, TypeError, EOFError, MatReadError, zlib.error) as error:
        raise InputError(f"{path} cannot be read as a .mat file ({error}); check the path") from error


def _cube(content: dict[str, Any], bands: int, path: Path) -> np.ndarray:
    """The first array of three axes, one of them the bands, as (bands, H, W)."""
    known = [content[key] for key in _KEYS if key in content]
    for value in [*known, *content.values()]:
        if isinstance(value, np.ndarray) and value.ndim == 3:
            if value.shape[2] == bands:
                return value.transpose(2, 0, 1)
            if value.shape[0] == bands:
                return value
    shapes = ", ".join(f"{key} {value.shape}" for key, value in content.items() if isinstance(value, np.ndarray))
    raise InputError(f"{path} holds no cube of {bands} bands but {shapes or 'nothing'}; interpolate it to 450 to 650 nm first")


def pseudo_colour(scene: Tensor) -> Tensor:
    """(1, 3, H, W) in [0, 1]: what an eye would roughly see of (1, bands, H, W), by three bumps of sensitivity, sRGB-encoded."""
    bands = np.linspace(450, 650, scene.shape[1])
    bumps = np.exp(-0.5 * ((bands - _CENTRES[:, None]) / _WIDTHS[:, None]) ** 2)
    weights = torch.from_numpy(bumps / bumps.sum(axis=1, keepdims=True)).to(scene.dtype)
    linear = torch.einsum("cb,nbhw->nchw", weights, scene).clamp(0, 1)
    return torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp_min(1e-8) ** (1 / 2.4) - 0.055)
