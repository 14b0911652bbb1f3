"""Classifier score distillation: what a diffusion model thinks a latent should look like, as a loss without its likelihood.

Source: Yu et al. 2023 (arXiv 2310.19415), as PiSA-SR (arXiv 2412.03017, section 3.3) uses it: with the negative prompt in place of
the empty one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

GUIDANCE = 7.5
EARLIEST, LATEST = 20, 499  # the time steps that are drawn from, both included
NEGATIVE = (
    "painting, oil painting, illustration, drawing, art, sketch, oil painting, cartoon, CG Style, 3D render, unreal engine, "
    "blurring, dirty, messy, worst quality, low quality, frames, watermark, signature, jpeg artifacts, deformed, lowres, "
    "over-smooth"
)
_STEPS, _FIRST, _LAST = 1000, 0.00085, 0.012  # Stable Diffusion's schedule of betas, linear in their roots

Teacher = Callable[[Tensor, Tensor, bool], Tensor]


def signal(step: Tensor) -> Tensor:
    """The share of the signal in a latent at time ``step`` (N,), alpha bar of Stable Diffusion's schedule: (N, 1, 1, 1)."""
    betas = torch.linspace(_FIRST**0.5, _LAST**0.5, _STEPS, dtype=torch.float64).square()
    return (1 - betas).cumprod(0).float().to(step.device)[step].view(-1, 1, 1, 1)


def draw(latent: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A time step for each of ``latent`` (N, C, h, w) and the noise for it; the same on every device."""
    step = torch.randint(EARLIEST, LATEST + 1, (latent.shape[0],), generator=generator)
    noise = torch.randn(latent.shape, generator=generator)
    return step.to(latent.device), noise.to(latent)


def csd_loss(teacher: Teacher, latent: Tensor, step: Tensor, noise: Tensor, guidance: float = GUIDANCE) -> Tensor:
    """A scalar whose gradient moves ``latent`` to where the positive prompt leads away from the negative one.

    With ``x0(eps) = (z_t - sqrt(1 - ab) eps) / sqrt(ab)`` it is ``MSE(z, stopgrad(z - g))``, where
    ``g = (x0(eps_neg) - x0(eps_cfg)) / mean|z - x0(eps_cfg)|``, the mean over each latent of the batch, and
    ``eps_cfg = eps_neg + guidance * (eps_pos - eps_neg)``.

    Args:
        teacher: ``teacher(noisy, step, positive)`` predicts the noise; it takes no gradients.
        latent: (N, C, h, w), scaled as the teacher takes it.
        step: (N,), 0 to 999.
        noise: of the latent's shape.
    """
    with torch.no_grad():
        ab, clean = signal(step), latent.detach().float()
        noisy = ab.sqrt() * clean + (1 - ab).sqrt() * noise
        negative, positive = teacher(noisy, step, False).float(), teacher(noisy, step, True).float()
        guided = negative + guidance * (positive - negative)
        x0_negative, x0_guided = ((noisy - (1 - ab).sqrt() * eps) / ab.sqrt() for eps in (negative, guided))
        scale = (clean - x0_guided).abs().mean(dim=(1, 2, 3), keepdim=True)
        target = clean - (x0_negative - x0_guided) / scale
    return F.mse_loss(latent.float(), target)
