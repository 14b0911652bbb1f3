"""The benchmark degradation: antialiased bicubic downscaling on 8 bits."""

from __future__ import annotations

import numpy as np

from srgui.errors import InputError


def crop_to_multiple(hr: np.ndarray, scale: int) -> np.ndarray:
    """Crop (H, W) or (H, W, C) at the bottom and right to multiples of ``scale``.

    Returns:
        A view of ``hr``. It is empty where a side is shorter than ``scale``.
    """
    height, width = hr.shape[:2]
    return hr[: height - height % scale, : width - width % scale]


def bicubic_lr(hr: np.ndarray, scale: int) -> np.ndarray:
    """Downscale by ``scale`` with Pillow's antialiased BICUBIC on 8 bits, which agrees with MATLAB's imresize to rounding.

    Args:
        hr: (H, W, 3) uint8; cropped at the bottom and right to multiples of ``scale``.

    Returns:
        (H // scale, W // scale, 3) uint8.

    Raises:
        InputError: ``hr`` is not (H, W, 3) uint8, or a side is shorter than ``scale``.
    """
    from PIL import Image

    hr = checked(hr, scale)
    height, width = hr.shape[0] // scale, hr.shape[1] // scale
    lr = Image.fromarray(np.ascontiguousarray(hr)).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(lr).copy()


def checked(hr: np.ndarray, scale: int) -> np.ndarray:
    """``hr`` cropped to multiples of ``scale``, if it can be degraded at all.

    Raises:
        InputError: ``hr`` is not (H, W, 3) uint8, ``scale`` is below 1, or a side is shorter than ``scale``.
    """
    if hr.dtype != np.uint8 or hr.ndim != 3 or hr.shape[2] != 3:
        raise InputError(f"an HR picture of {hr.dtype} and shape {hr.shape} cannot be degraded; give uint8 of shape (H, W, 3)")
    if scale < 1:
        raise InputError(f"a scale of {scale} cannot be degraded with; give 1 or more")
    if min(hr.shape[:2]) < scale:
        raise InputError(
            f"an HR picture of {hr.shape[1]} x {hr.shape[0]} leaves no pixel at scale {scale}; give at least {scale} x {scale}"
        )
    return crop_to_multiple(hr, scale)
