"""What a trained network has to beat: interpolation, closed forms, and GAP-TV."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from srgui.unfolding.physics import BlurDownsample, Cassi
from srgui.unfolding.sensing import Given, enlarged

_LACKING, _LEAST = 0.05, 1e-6  # what interpolation lacks of a picture, root mean square; the weight without noise


def bicubic(given: Given) -> Tensor:
    """The LR picture enlarged, its samples left where they were taken: (1, 3, h * sf, w * sf)."""
    y, sf = given["y"], int(given["sf"][0])
    return enlarged(y, (y.shape[-2] * sf, y.shape[-1] * sf))


def tikhonov(given: Given) -> Tensor:
    """The closed-form solution of |A x - y|^2 + alpha |x - bicubic|^2 with alpha = (sigma / 0.05)^2 + 1e-6."""
    start = bicubic(given)
    operator = BlurDownsample(given["kernel"], int(given["sf"][0]), (start.shape[-2], start.shape[-1]), 3)
    return operator.prox_l2(start, given["y"], float((given["sigma"][0] / _LACKING) ** 2) + _LEAST)


def gap_tv(operator: Cassi, y: Tensor, start: Tensor, *, iterations: int = 100, weight: float = 2.0) -> Tensor:
    """GAP-TV, accelerated (Yuan 2016, Algorithm 1), with skimage's Chambolle denoiser on every band.

    Args:
        start: (1, bands, H, W).
        weight: of the total variation; halved after each quarter of the iterations. The default was the best of 0.05 to 2 on
            painted training scenes.
    """
    from skimage.restoration import denoise_tv_chambolle

    x, sought = start, torch.zeros_like(y)
    for iteration in range(iterations):
        sought = sought + (y - operator.A(x))
        x = operator.prox_l2(x, sought, 1e-6)
        strength = weight * 0.5 ** (4 * iteration // iterations)
        bands = [denoise_tv_chambolle(band, strength, max_num_iter=5) for band in x[0].numpy()]
        x = torch.from_numpy(np.stack(bands)).float()[None]
    return x
