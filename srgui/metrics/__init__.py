"""How near SR is to HR (PSNR, SSIM, LPIPS) and to its own LR. Pictures are tensors (1, 3, H, W) in [0, 1]."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from srgui.errors import MetricUnavailable
from srgui.metrics.fidelity import (
    SSIM_C1,
    SSIM_C2,
    Channel,
    lr_consistency,
    psnr,
    round_to_8bit,
    sharpness,
    sobel,
    ssim,
    ssim_window,
    to_y,
)
from srgui.metrics.perceptual import LPIPS_BACKBONES, Backbone, BackboneUnavailable, Lpips, LpipsNet, load_lpips

Scores = dict[str, float | None]  # psnr_y, ssim_y, lpips; None where one cannot be computed

__all__ = [
    "LPIPS_BACKBONES",
    "SSIM_C1",
    "SSIM_C2",
    "Backbone",
    "BackboneUnavailable",
    "Channel",
    "Lpips",
    "LpipsNet",
    "Scores",
    "load_lpips",
    "lr_consistency",
    "psnr",
    "round_to_8bit",
    "score",
    "sharpness",
    "sobel",
    "ssim",
    "ssim_window",
    "to_y",
]


def score(sr: Tensor, hr: Tensor, crop_border: int, lpips: Lpips | None) -> Scores:
    """PSNR and SSIM on Y and LPIPS of an SR picture rounded to 8 bits; None where one cannot be computed.

    Args:
        sr, hr: (1, 3, H, W) in [0, 1].
        crop_border: pixels left out on every side for PSNR and SSIM.

    Raises:
        InputError: the sizes differ.
    """
    sr = round_to_8bit(sr)
    return {
        "psnr_y": _or_none(lambda: psnr(sr, hr, channel="Y", crop_border=crop_border)),
        "ssim_y": _or_none(lambda: ssim(sr, hr, channel="Y", crop_border=crop_border)),
        "lpips": _or_none(lambda: lpips(sr, hr)) if lpips is not None else None,
    }


def _or_none(compute: Callable[[], float]) -> float | None:
    try:
        return compute()
    except MetricUnavailable:
        return None
