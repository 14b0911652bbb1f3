"""The start of spectral scenes: it solves what it says it does, picture by picture."""

from __future__ import annotations

import torch

from srgui.unfolding.physics import Cassi
from srgui.unfolding.spectral import SMOOTHNESS, adjoint_start, cosines, smooth_start


def measured(batch: int = 1) -> tuple[Cassi, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(4)
    operator = Cassi(torch.rand(1, 1, 6, 7, generator=draw, dtype=torch.float64), bands=5, step=2)
    x = torch.rand(batch, 5, 6, 7, generator=draw, dtype=torch.float64)
    return operator, x, operator.A(x)


def test_the_smooth_start_is_the_least_of_its_sum() -> None:
    operator, _, y = measured()
    basis = cosines(5, 4)

    def loss(c: torch.Tensor) -> torch.Tensor:
        misfit = (operator.A(torch.einsum("bd,ndhw->nbhw", basis, c)) - y).square().sum()
        weights = SMOOTHNESS * (1 + 4 * torch.arange(4, dtype=torch.float64) ** 2).view(1, -1, 1, 1)
        return misfit + (weights[..., 0, 0] * sum(c.diff(dim=axis).square().sum(dim=(2, 3)) for axis in (-1, -2))).sum()

    found = torch.einsum("bd,nbhw->ndhw", basis, smooth_start(operator, y))
    hessian = torch.autograd.functional.hessian(loss, torch.zeros_like(found)).view(found.numel(), -1)
    slope = torch.func.grad(loss)(torch.zeros_like(found)).flatten()
    exact = torch.linalg.solve(hessian, -slope).view_as(found)
    assert (found - exact).abs().max() < 1e-4


def test_it_finds_a_scene_that_is_smooth_where_the_adjoint_does_not() -> None:
    operator = Cassi(torch.rand(1, 1, 24, 24, generator=torch.Generator().manual_seed(1)), bands=8, step=2)
    y, x = torch.meshgrid(torch.linspace(0, 1, 24), torch.linspace(0, 1, 24), indexing="ij")
    scene = torch.stack([0.5 + 0.3 * y * band / 8 + 0.2 * torch.sin(3 * x) for band in range(8)])[None]
    measurement = operator.A(scene)
    errors = [(start(operator, measurement) - scene).square().mean() for start in (adjoint_start, smooth_start)]
    assert errors[1] < 0.1 * errors[0]


def test_starts_of_a_batch_do_not_mix() -> None:
    operator, _, y = measured(2)
    assert torch.allclose(smooth_start(operator, y)[1:], smooth_start(operator, y[1:]), atol=1e-6)


def test_a_scene_of_ones_is_its_own_adjoint_start() -> None:
    operator, _, _ = measured()
    ones = torch.ones(1, 5, 6, 7, dtype=torch.float64)
    light = operator.A(ones)
    inner = adjoint_start(operator, light)[light.unfold(-1, 7, 2)[:, 0].transpose(1, 2) > 0.05]
    assert torch.allclose(inner, torch.ones_like(inner))


def test_cosines_are_orthonormal() -> None:
    basis = cosines(28, 4)
    assert torch.allclose(basis.T @ basis, torch.eye(4, dtype=torch.float64), atol=1e-12)
