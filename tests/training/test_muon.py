from __future__ import annotations

import pytest
import torch

from srgui.training.muon import Muon, orthogonalise


@pytest.mark.parametrize("shape", [(8, 8), (48, 432), (48, 27), (64, 16), (1, 25)])
def test_orthogonalised_singular_values_are_near_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    result = orthogonalise(matrix * 1e-3)
    values = torch.linalg.svdvals(result)
    assert values.min() > 0.5
    assert values.max() < 1.3
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    assert ((left @ right) * result).sum() / result.norm() > 0.9 * min(shape) ** 0.5  # near the nearest orthogonal matrix


def test_muon_lowers_a_quadratic() -> None:
    target = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    weight = torch.zeros(6, 4, 3, 3, requires_grad=True)
    optimizer = Muon([weight], lr=0.05)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = (weight - target).square().mean()
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    assert losses[1] < losses[0]
    assert losses[-1] < 0.5 * losses[0]


def test_muon_steps_have_the_stated_size() -> None:
    weight = torch.zeros(32, 16, 3, 3, requires_grad=True)
    weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)) * 1e-4
    Muon([weight], lr=0.1).step()
    assert weight.detach().square().mean().sqrt().item() == pytest.approx(0.2 * 0.1, rel=0.25)
