"""Where a solver for spectral scenes starts: the smoothest scene, in wavelength and in space, that explains a measurement."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from srgui.unfolding.physics import Cassi

DIRECTIONS, SMOOTHNESS, ITERATIONS = 4, 0.03, 150
_GROWTH = 4  # how much smoother in space the faster of the spectral directions are


def adjoint_start(operator: Cassi, y: Tensor) -> Tensor:
    """(N, bands, H, W): the measurement divided by the light that each of its pixels gathers, cut into the bands' windows.

    Scenes much like DAUHST's start (Cai et al. 2022), without its learned mixing of bands.
    """
    # the mask itself summed along the shear, which is what a scene of ones gives
    light = operator.A(torch.ones_like(operator.mask).view(-1, 1, *operator.size).expand(-1, operator.bands, -1, -1))
    open_ = Cassi(torch.ones_like(operator.mask), operator.bands, operator.step)
    return open_.A_adjoint(y / light.clamp_min(0.05))


def cosines(bands: int, directions: int) -> Tensor:
    """(bands, directions): the slowest cosines of the DCT, orthonormal."""
    places = (torch.arange(bands, dtype=torch.float64)[:, None] + 0.5) / bands
    waves = torch.cos(math.pi * torch.arange(directions, dtype=torch.float64) * places)
    return waves / waves.norm(dim=0)


@torch.no_grad()
def smooth_start(operator: Cassi, y: Tensor) -> Tensor:
    """(N, bands, H, W): x = B c with B the four slowest cosines over the bands, and c that makes
    |A B c - y|^2 + sum_j s_j |grad c_j|^2 least, s_j = 0.03 (1 + 4 j^2), by 150 steps of conjugate gradients.

    Reflectances and lamps change slowly with wavelength, which a solver without training can use; the fast changes are left to
    the stages. From the adjoint alone every stage would have to move light by up to 54 pixels.
    """
    basis = cosines(operator.bands, min(DIRECTIONS, operator.bands)).to(y)
    order = torch.arange(basis.shape[1], device=y.device)
    weights = (SMOOTHNESS * (1 + _GROWTH * order**2)).to(y).view(1, -1, 1, 1)

    def scene(c: Tensor) -> Tensor:
        return torch.einsum("bd,ndhw->nbhw", basis, c)

    def parts(x: Tensor) -> Tensor:
        return torch.einsum("bd,nbhw->ndhw", basis, x)

    def normal(c: Tensor) -> Tensor:
        return parts(operator.A_adjoint(operator.A(scene(c)))) + weights * (_bend(c, -1) + _bend(c, -2))

    c = parts(adjoint_start(operator, y))
    residual = parts(operator.A_adjoint(y)) - normal(c)
    direction, size = residual.clone(), _square(residual)
    for _ in range(ITERATIONS):
        image = normal(direction)
        step = size / _square(direction, image).clamp_min(1e-20)
        c = c + step * direction
        residual = residual - step * image
        before, size = size, _square(residual)
        direction = residual + size / before.clamp_min(1e-20) * direction
    return scene(c)


def _square(a: Tensor, b: Tensor | None = None) -> Tensor:
    """(N, 1, 1, 1): inner products per picture."""
    return (a * (a if b is None else b)).sum(dim=(1, 2, 3), keepdim=True)


def _bend(c: Tensor, axis: int) -> Tensor:
    """D'D c for the differences of neighbours along an axis."""
    slope = c.diff(dim=axis)
    edge = torch.zeros_like(c.narrow(axis, 0, 1))
    return torch.cat([edge, slope], dim=axis) - torch.cat([slope, edge], dim=axis)
