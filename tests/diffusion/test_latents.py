"""Latent tiles: they cover everything, and agree with the whole where the network looks at single latents."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from srgui.diffusion.latents import gaussian, tiled, windows
from srgui.errors import Cancelled, ModelError
from srgui.protocol import Box, Run


@given(st.integers(1, 300), st.integers(1, 300), st.integers(3, 96), st.integers(0, 32))
def test_tiles_cover_a_latent_of_any_size(height: int, width: int, tile: int, overlap: int) -> None:
    boxes = windows(height, width, tile, min(overlap, tile // 3))
    covered = torch.zeros(height, width)
    for box in boxes:
        assert box.top >= 0
        assert box.left >= 0
        assert box.bottom <= height
        assert box.right <= width
        covered[box.slices] += 1
    assert covered.min() >= 1
    assert len({box.height for box in boxes}) == len({box.width for box in boxes}) == 1
    assert len(boxes) == len(set(boxes))


def test_the_published_grid() -> None:
    assert windows(96, 96, 96, 32) == [Box(0, 0, 96, 96)]
    assert windows(64, 144, 96, 32) == [Box(0, 0, 64, 144)], "no more than 96 x 96 in all is one tile"
    assert windows(64, 150, 96, 32) == [Box(0, 0, 64, 96), Box(0, 54, 64, 96)], "a side below the tile is taken whole"
    lefts = [box.left for box in windows(96, 300, 96, 32)]
    assert lefts == [0, 64, 128, 192, 204]


@pytest.mark.parametrize("size", [(50, 60), (3, 200), (1, 500), (40, 16)])
def test_a_pointwise_network_gives_the_same_in_tiles(size: tuple[int, int]) -> None:
    latent = torch.randn(1, 4, *size, generator=torch.Generator().manual_seed(1))

    def pointwise(z: Tensor) -> Tensor:
        return z.square() - z

    assert torch.allclose(tiled(pointwise, latent, 16, 5, Run()), pointwise(latent), atol=1e-5)


def test_tiles_that_differ_are_joined_smoothly() -> None:
    """Each tile answers with its own constant: between two neighbours the result runs monotonically, without a step."""
    calls: list[int] = []

    def constant(z: Tensor) -> Tensor:
        calls.append(1)
        return torch.full_like(z, float(len(calls) % 2))

    line = tiled(constant, torch.zeros(1, 1, 96, 160), 96, 32, Run())[0, 0, 40]
    assert line[0] == 1
    assert line[-1] == 0
    steps = line.diff()
    assert steps.max() <= 1e-6
    assert steps.min() > -0.2


def test_gaussian_weights_are_those_published() -> None:
    weights = gaussian(24, 96)
    x, y = 10, 3
    expected = torch.exp(torch.tensor(-((x - 47.5) ** 2) / (0.02 * 96**2) - ((y - 11.5) ** 2) / (0.02 * 24**2)))
    assert torch.isclose(weights[y, x], expected)
    assert torch.equal(weights, weights.flip(0).flip(1))


def test_nan_is_refused_and_cancelling_ends_it(watch: type) -> None:
    with pytest.raises(ModelError, match="NaN"):
        tiled(lambda z: z * torch.nan, torch.zeros(1, 4, 8, 8), 96, 32, Run())
    run = watch(limit=3)
    with pytest.raises(Cancelled):
        tiled(lambda z: z, torch.zeros(1, 4, 40, 40), 16, 5, run)
    assert run.of("tiles")[-1][0] == 2
