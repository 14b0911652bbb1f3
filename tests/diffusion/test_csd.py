"""Classifier score distillation beside its formula."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from srgui.diffusion.csd import csd_loss, draw, signal


def teacher(noisy: Tensor, step: Tensor, positive: bool) -> Tensor:
    """Some smooth function of all that it is given."""
    return torch.sin(noisy * (1.3 if positive else 0.7)) + step.view(-1, 1, 1, 1) / 500 * (0.2 if positive else 0.1)


def formula(z: Tensor, step: Tensor, noise: Tensor) -> Tensor:
    """The loss, written down for one latent after the other, in double precision."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    bars = torch.cumprod(1 - betas, dim=0)
    total = torch.zeros((), dtype=torch.float64)
    for n in range(z.shape[0]):
        a = bars[step[n]]
        one, t = z[n : n + 1].double(), step[n : n + 1]
        z_t = (a.sqrt() * one + (1 - a).sqrt() * noise[n : n + 1].double()).detach()
        e_neg, e_pos = teacher(z_t, t, False), teacher(z_t, t, True)
        e_cfg = e_neg + 7.5 * (e_pos - e_neg)
        x_neg, x_cfg = ((z_t - (1 - a).sqrt() * e) / a.sqrt() for e in (e_neg, e_cfg))
        g = (x_neg - x_cfg) / (one - x_cfg).abs().mean()
        total = total + ((one - (one - g).detach()) ** 2).sum()
    return total / z.numel()


def test_value_and_gradient_are_those_of_the_formula() -> None:
    generator = torch.Generator().manual_seed(4)
    z = torch.randn(3, 4, 6, 5, generator=generator, requires_grad=True)
    step, noise = draw(z, generator)
    ours = csd_loss(teacher, z, step, noise)
    (ours_gradient,) = torch.autograd.grad(ours, z)
    expected = formula(z, step, noise)
    (gradient,) = torch.autograd.grad(expected, z)
    assert torch.allclose(ours, expected.float(), rtol=1e-4)
    assert torch.allclose(ours_gradient, gradient.float(), rtol=1e-3, atol=1e-6)
    assert gradient.abs().max() > 1e-4


def test_a_teacher_that_sees_no_difference_between_the_prompts_teaches_nothing() -> None:
    z = torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(1), requires_grad=True)
    step, noise = draw(z, torch.Generator().manual_seed(2))
    loss = csd_loss(lambda noisy, *_: noisy * 0.5, z, step, noise)
    loss.backward()
    assert loss < 1e-9
    assert z.grad is not None
    assert z.grad.abs().max() < 1e-6


def test_time_steps_are_drawn_from_20_to_499_and_the_schedule_is_stable_diffusions() -> None:
    step, noise = draw(torch.zeros(20_000, 1, 1, 1), torch.Generator().manual_seed(0))
    assert (int(step.min()), int(step.max())) == (20, 499)
    assert noise.std() == pytest.approx(1, abs=0.03)
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    assert torch.allclose(signal(torch.arange(1000)).flatten(), scheduler.alphas_cumprod, atol=1e-6)
