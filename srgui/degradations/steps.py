"""The steps a degradation is made of: blur, noise, resize, JPEG.

Pictures between the steps are (H, W, 3) float64 in [0, 1]: in double precision the results of different machines differ by so
little that they round to the same 8-bit values.
"""

from __future__ import annotations

import io
from math import ceil

import numpy as np

from srgui.degradations.kernels import Ellipse, gaussian
from srgui.errors import InputError

_JPEG_SIDE = 65500
_LUMA = np.array([0.2989, 0.5870, 0.1140])


def filter_threads(number: int) -> int:
    """Set in how many threads OpenCV filters; returns in how many it did.

    A process that filters in several must be set to 1 before it is forked: a fork of it that sets another number waits for ever
    for threads that did not come along.
    """
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(number)
    return before


def to_float(image: np.ndarray) -> np.ndarray:
    """uint8 -> float64 in [0, 1]."""
    return np.asarray(image, np.float64) / 255


def to_uint8(image: np.ndarray) -> np.ndarray:
    """float64 -> uint8, clipped to [0, 1] and rounded half to even."""
    samples: np.ndarray = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return samples


def blur(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Correlate with ``kernel``; the border is mirrored without repeating the edge pixel."""
    import cv2

    return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101)


def gaussian_blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Filter with the circular Gaussian of standard deviation ``sigma`` > 0 pixels, cut at 4 sigma, by columns and rows."""
    import cv2

    axis = gaussian(2 * ceil(4 * sigma) + 1, Ellipse(sigma, sigma)).sum(axis=0)
    return cv2.sepFilter2D(image, -1, axis, axis, borderType=cv2.BORDER_REFLECT_101)


def resize(image: np.ndarray, height: int, width: int, mode: str) -> np.ndarray:
    """Resize by ``area``, ``bilinear`` or ``bicubic`` (a = -0.75). The last two do not antialias, as in Real-ESRGAN."""
    import cv2

    interpolation = {"area": cv2.INTER_AREA, "bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}[mode]
    return cv2.resize(image, (width, height), interpolation=interpolation)


def bicubic_down(image: np.ndarray, scale: int) -> np.ndarray:
    """Antialiased bicubic downscaling by ``scale`` without rounding to 8 bits between; sides must be multiples of it."""
    from PIL import Image

    size = image.shape[1] // scale, image.shape[0] // scale
    planes = [Image.fromarray(plane.astype(np.float32)) for plane in image.transpose(2, 0, 1)]
    return np.stack([np.asarray(p.resize(size, Image.Resampling.BICUBIC), np.float64) for p in planes], axis=-1)


def gaussian_noise(image: np.ndarray, sigma: float, grey: bool, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise of standard deviation ``sigma`` on the 0..255 scale, the same in all channels if ``grey``; clip."""
    shape = (*image.shape[:2], 1) if grey else image.shape
    noisy: np.ndarray = np.clip(image + rng.standard_normal(shape) * (sigma / 255), 0, 1)
    return noisy


def poisson_noise(image: np.ndarray, strength: float, grey: bool, rng: np.random.Generator) -> np.ndarray:
    """Add ``strength`` times the shot noise of a sensor that counts as many photons as the picture has grey levels; clip.

    The number of levels is rounded up to a power of two. Source: Real-ESRGAN (Wang et al. 2021), as published in BasicSR.
    """
    signal = np.rint(np.clip(image @ _LUMA[:, None] if grey else image, 0, 1) * 255) / 255
    levels = 2.0 ** np.ceil(np.log2(len(np.unique(signal))))
    noise = rng.poisson(signal * levels) / levels - signal
    noisy: np.ndarray = np.clip(image + strength * noise, 0, 1)
    return noisy


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Compress with baseline JPEG, 4:2:0 chroma, and decode again; the result lies on the 8-bit grid.

    Raises:
        InputError: a side is longer than a JPEG file can be.
    """
    from PIL import Image

    if max(image.shape[:2]) > _JPEG_SIDE:
        raise InputError(
            f"a picture of {image.shape[1]} x {image.shape[0]} cannot be compressed as JPEG; no side may exceed {_JPEG_SIDE}"
        )
    stream = io.BytesIO()
    Image.fromarray(to_uint8(image)).save(stream, "JPEG", quality=quality, subsampling="4:2:0")
    with Image.open(stream) as decoded:
        return to_float(np.asarray(decoded))
