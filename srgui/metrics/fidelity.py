"""How near SR is to HR (PSNR, SSIM) and to its own LR, and how sharp it is. Pictures are tensors (1, 3, H, W) in [0, 1].

PSNR and SSIM are computed in double precision. Round SR with :func:`round_to_8bit` first where numbers are to be compared with
published ones, which are measured on 8-bit files.
"""

from __future__ import annotations

from math import inf, log10
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from srgui.errors import InputError, MetricUnavailable
from srgui.resample import resize

Channel = Literal["Y", "RGB"]

SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2  # K1 and K2, for a data range of 1
_SSIM_WINDOW = 11
_SSIM_SIGMA = 1.5


def to_y(rgb: Tensor) -> Tensor:
    """The luma of BT.601 in studio range, (65.481 R + 128.553 G + 24.966 B + 16) / 255.

    Args:
        rgb: (N, 3, H, W) in [0, 1].

    Returns:
        (N, 1, H, W) in [16 / 255, 235 / 255]: MATLAB's rgb2ycbcr without its rounding, as the SR literature measures.
    """
    weight = torch.tensor([65.481, 128.553, 24.966], dtype=rgb.dtype, device=rgb.device).view(1, 3, 1, 1)
    return ((rgb * weight).sum(dim=1, keepdim=True) + 16) / 255


def round_to_8bit(x: Tensor) -> Tensor:
    """Clip to [0, 1] and round half to even to multiples of 1 / 255, as saving to an 8-bit file and reading it would."""
    return x.clamp(0, 1).mul(255).round().div(255)


def psnr(sr: Tensor, hr: Tensor, *, channel: Channel = "Y", crop_border: int, data_range: float = 1.0) -> float:
    """Peak signal-to-noise ratio in dB, 10 log10(data_range^2 / MSE); infinite for identical pictures.

    Args:
        sr, hr: (1, 3, H, W) in [0, data_range].
        channel: measure the luma of :func:`to_y`, or all three colours with one common MSE.
        crop_border: pixels left out on every side; the literature takes the scale.

    Raises:
        InputError: the sizes differ or are not (1, 3, H, W), or ``crop_border`` is negative.
        MetricUnavailable: ``crop_border`` leaves nothing.
    """
    x, y = _compared(sr, hr, channel, crop_border)
    mse = float((x - y).square().mean())
    return inf if mse == 0 else 10 * log10(data_range**2 / mse)


def ssim(sr: Tensor, hr: Tensor, *, channel: Channel = "Y", crop_border: int, data_range: float = 1.0) -> float:
    """Structural similarity, at most 1, averaged over pixels and, for RGB, over channels.

    Source: Wang et al. 2004, Eq. 13: an 11 x 11 Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03, population covariance, over
    the positions where the window lies inside the picture. No downsampling of large pictures.

    Args:
        sr, hr, channel, crop_border: as for :func:`psnr`.

    Raises:
        InputError: as :func:`psnr`.
        MetricUnavailable: less than 11 x 11 pixels remain after the crop.
    """
    x, y = _compared(sr, hr, channel, crop_border)
    height, width = x.shape[-2:]
    if min(height, width) < _SSIM_WINDOW:
        raise MetricUnavailable(
            f"SSIM not available: {width} x {height} pixels remain after cropping {crop_border}, "
            f"its window needs {_SSIM_WINDOW} x {_SSIM_WINDOW}"
        )
    c1, c2 = SSIM_C1 * data_range**2, SSIM_C2 * data_range**2
    mean_x, mean_y = ssim_window(x), ssim_window(y)
    var_x = ssim_window(x * x) - mean_x * mean_x
    var_y = ssim_window(y * y) - mean_y * mean_y
    cov = ssim_window(x * y) - mean_x * mean_y
    similarity = (2 * mean_x * mean_y + c1) * (2 * cov + c2)
    similarity /= (mean_x.square() + mean_y.square() + c1) * (var_x + var_y + c2)
    return float(similarity.mean())


def lr_consistency(sr: Tensor, lr: Tensor, *, crop_border: int = 0) -> float:
    """PSNR in dB, over RGB, between SR downscaled by antialiased bicubic and the LR it was made from.

    Args:
        sr: (1, 3, H, W) in [0, 1]. lr: (1, 3, h, w) in [0, 1], not larger.
        crop_border: in LR pixels.

    Raises:
        InputError: a shape is not (1, 3, H, W), SR is smaller than LR, or ``crop_border`` is negative.
        MetricUnavailable: ``crop_border`` leaves nothing.
    """
    _check_shape(sr, "SR")
    _check_shape(lr, "LR")
    height, width = lr.shape[-2:]
    if sr.shape[-2] < height or sr.shape[-1] < width:
        raise InputError(f"SR of {size_text(sr)} is smaller than LR of {size_text(lr)}; give the SR that was made from this LR")
    return psnr(resize(_double(sr), height, width), lr, channel="RGB", crop_border=crop_border)


def sharpness(sr: Tensor) -> float:
    """How sharp a picture is, without a reference: the root mean square of its luma's gradient, in 8-bit levels per pixel.

    Source: Tenengrad (Krotkov 1988), with Sobel's operator divided by 8. Noise and halos count as sharpness too.

    Args:
        sr: (1, 3, H, W) in [0, 1].

    Raises:
        InputError: the shape is another. MetricUnavailable: it has less than 3 x 3 pixels.
    """
    _check_shape(sr, "SR")
    if min(sr.shape[-2:]) < 3:
        raise MetricUnavailable(f"sharpness not available: it needs 3 x 3 pixels, not {size_text(sr)}")
    return 255 * float(sobel(to_y(_double(sr))).square().sum(dim=1).mean().sqrt())


def sobel(y: Tensor) -> Tensor:
    """The gradient, per pixel, where Sobel's operator lies inside: (1, 1, H, W) -> (1, 2, H - 2, W - 2)."""
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], dtype=y.dtype, device=y.device) / 8
    return F.conv2d(y, torch.stack([across, across.T])[:, None])


def _compared(sr: Tensor, hr: Tensor, channel: Channel, crop_border: int) -> tuple[Tensor, Tensor]:
    """What is measured of two pictures: (1, 1 or 3, h, w) float64 each."""
    check_pair(sr, hr)
    if channel not in ("Y", "RGB"):
        raise InputError(f"there is no channel {channel!r} to measure; give Y or RGB")
    if crop_border < 0:
        raise InputError(f"a border of {crop_border} pixels cannot be cropped; give 0 or more")
    height, width = sr.shape[-2:]
    if min(height, width) <= 2 * crop_border:
        raise MetricUnavailable(
            f"PSNR and SSIM not available: cropping {crop_border} on every side leaves nothing of {size_text(sr)}"
        )
    inner = (..., slice(crop_border, height - crop_border), slice(crop_border, width - crop_border))
    x = _double(sr)[inner]
    y = _double(hr)[inner].to(x.device)
    return (to_y(x), to_y(y)) if channel == "Y" else (x, y)


def _double(x: Tensor) -> Tensor:
    x = x.detach()
    return (x.cpu() if x.device.type == "mps" else x).double()  # MPS has no float64


def check_pair(sr: Tensor, hr: Tensor) -> None:
    _check_shape(sr, "SR")
    _check_shape(hr, "HR")
    if sr.shape != hr.shape:
        raise InputError(f"SR of {size_text(sr)} cannot be compared with HR of {size_text(hr)}; crop HR to a multiple of the scale")


def _check_shape(x: Tensor, name: str) -> None:
    if x.ndim != 4 or x.shape[:2] != (1, 3) or x.numel() == 0:
        raise InputError(f"{name} of shape {tuple(x.shape)} cannot be measured; give (1, 3, H, W)")


def size_text(x: Tensor) -> str:
    return f"{x.shape[-1]} x {x.shape[-2]}"


def ssim_window(x: Tensor) -> Tensor:
    """The Gaussian-weighted mean in every window that lies inside: (1, C, H, W) -> (1, C, H - 10, W - 10)."""
    t = torch.arange(_SSIM_WINDOW, dtype=x.dtype, device=x.device) - _SSIM_WINDOW // 2
    weight = torch.exp(-t.square() / (2 * _SSIM_SIGMA**2))
    weight = (weight / weight.sum()).expand(x.shape[1], 1, 1, -1)
    rows = F.conv2d(x, weight, groups=x.shape[1])
    return F.conv2d(rows, weight.transpose(-1, -2), groups=x.shape[1])
