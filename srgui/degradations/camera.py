"""A light degradation as of a good camera: slight blur, little noise, a fair JPEG."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np

from srgui.degradations.bicubic import checked
from srgui.degradations.kernels import Ellipse, gaussian
from srgui.degradations.steps import bicubic_down, blur, gaussian_noise, jpeg, to_float, to_uint8


@dataclass(frozen=True)
class CameraParameters:
    """One draw: blur ``sigma`` in HR pixels, ``noise`` on the 0..255 scale, JPEG ``quality``."""

    sigma: float
    noise: float
    quality: int

    @classmethod
    def draw(cls, scale: int, rng: np.random.Generator) -> CameraParameters:
        """sigma ~ U[0.4, 1.2] * scale / 2, noise ~ U[1, 6], quality ~ U{60..95}."""
        return cls(rng.uniform(0.4, 1.2) * scale / 2, rng.uniform(1, 6), int(rng.integers(60, 96)))


def camera_lr(hr: np.ndarray, scale: int, rng: np.random.Generator) -> np.ndarray:
    """Gaussian blur, antialiased bicubic downscaling, Gaussian noise on the LR, JPEG.

    Args:
        hr: (H, W, 3) uint8.

    Returns:
        (H // scale, W // scale, 3) uint8.

    Raises:
        InputError: ``hr`` cannot be degraded by ``scale``.
    """
    image = to_float(checked(hr, scale))
    drawn = CameraParameters.draw(scale, rng)
    kernel = gaussian(2 * ceil(4 * drawn.sigma) + 1, Ellipse(drawn.sigma, drawn.sigma))
    lr = bicubic_down(blur(image, kernel), scale)
    return to_uint8(jpeg(gaussian_noise(lr, drawn.noise, False, rng), drawn.quality))
