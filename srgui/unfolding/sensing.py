"""What a network knows of a task's physics: the operator of a measurement, where to start, and the weights of its stages.

A measurement travels as a mapping of tensors, ``given``, with a batch axis first: always ``y``; for SR also ``kernel``
(N, 1, kh, kw), ``sf`` (N,) and ``sigma`` (N,), the noise in [0, 1]; for CASSI ``mask`` (N, 1, H, W). For CS and CASSI ``x``
may stand for ``y``: it is measured first, so that a matrix that learns sees what it does. Where the operator of SR is unknown,
``kernel`` and ``sigma`` may be left out: nothing reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srgui.unfolding.design import Design
from srgui.unfolding.physics import BlockSensing, BlurDownsample, Cassi, Operator, gradient_step
from srgui.unfolding.physics.sensing import BLOCK, measurements, random_rows
from srgui.unfolding.spectral import smooth_start
from srgui.unfolding.unknown import LearnedPair

Given: TypeAlias = Mapping[str, Tensor]
Weights: TypeAlias = tuple[Tensor, Tensor]  # of the data steps and of the denoisers: each (stages, N or 1, 1, 1, 1)

START = 0.5  # of rho and lambda, as published
_LEAST = 1e-6
_LACKING, _FLOOR = 0.05, 2e-5  # what a start lacks of its picture, root mean square; the weight that is good without noise


class HyPaNet(nn.Sequential):
    """(noise, scale) -> the weights of all stages (USRNet, Zhang et al. 2020, section 3.3): 1,548 parameters at 6 stages, 32 wide.

    Its inputs and the weights of the data steps are scaled so that noise of any strength makes a difference, which costs no
    parameters: USRNet gives it sigma itself, and 8-bit rounding, 0.001, then looks like no noise at all.
    """

    def __init__(self, stages: int, hidden: int) -> None:
        super().__init__(
            nn.Conv2d(2, hidden, 1),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 1),
            nn.ReLU(),
            nn.Conv2d(hidden, 2 * stages, 1),
            nn.Softplus(),
        )

    def weigh(self, sigma: Tensor, sf: Tensor) -> Weights:
        """From (N,) and (N,): twice (stages, N, 1, 1, 1), above 0."""
        # (N, 2, 1, 1) -> (N, 2 K, 1, 1) -> (2, K, N, 1, 1, 1)
        seen = torch.stack([torch.log10(sigma + 1e-4) + 3, sf.to(sigma.dtype) - 3], dim=1)[..., None, None]
        steps, levels = self(seen).view(len(sigma), 2, -1, 1, 1, 1).permute(1, 2, 0, 3, 4, 5)
        wiener = (sigma / _LACKING) ** 2 + _FLOOR
        return steps * wiener.view(-1, 1, 1, 1) + _LEAST, levels + _LEAST


class Learned(nn.Module):
    """rho (or mu) and lambda of every stage, learned as they are; kept above 0 by a softplus."""

    def __init__(self, stages: int) -> None:
        super().__init__()
        start = torch.full((stages,), START).expm1().log()
        self.steps, self.levels = nn.Parameter(start.clone()), nn.Parameter(start.clone())

    def weigh(self) -> Weights:
        """Twice (stages, 1, 1, 1, 1), above 0."""
        steps, levels = (F.softplus(raw).view(-1, 1, 1, 1, 1) + _LEAST for raw in (self.steps, self.levels))
        return steps, levels


class Sensing(nn.Module):
    """The physics of one task as a network holds it."""

    def __init__(self, design: Design) -> None:
        super().__init__()
        self.exact = design.step == "hqs"

    def measured(self, given: Given) -> Given:
        """``given`` with ``y`` in it."""
        return given

    def operator(self, given: Given) -> Operator:
        """Of a measurement.

        Raises:
            InputError: the measurement cannot be one of this operator.
        """
        raise NotImplementedError

    def start(self, operator: Operator, y: Tensor) -> Tensor:
        """x_0, (N, C, H, W)."""
        raise NotImplementedError

    def weights(self, given: Given) -> Weights:
        """Of all stages."""
        raise NotImplementedError

    def data_step(self, stage: int, operator: Operator, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        """z, (N, C, H, W): x brought closer to what was measured."""
        return operator.prox_l2(x, y, weight) if self.exact else gradient_step(operator, x, y, weight)


class SrSensing(Sensing):
    """A known kernel and scale; all pictures of a batch have one scale."""

    def __init__(self, design: Design) -> None:
        super().__init__(design)
        self.hyper = HyPaNet(design.stages, design.hidden)

    def operator(self, given: Given) -> Operator:
        sf, y = int(given["sf"][0]), given["y"]
        return BlurDownsample(given["kernel"], sf, (y.shape[-2] * sf, y.shape[-1] * sf), 3)

    def start(self, operator: Operator, y: Tensor) -> Tensor:
        """Bicubic interpolation from where the samples lie; from USRNet's start, pixels repeated, a data step gives 1 dB less."""
        return enlarged(y, operator.size)

    def weights(self, given: Given) -> Weights:
        return self.hyper.weigh(given["sigma"], given["sf"])


class UnknownSensing(Sensing):
    """SR of which only the scale is known: the measurement is enlarged, and each stage learns what it is one of (DGUNet)."""

    def __init__(self, design: Design) -> None:
        super().__init__(design)
        self.pairs = nn.ModuleList(LearnedPair(design.channels) for _ in range(design.stages))
        self.learned = Learned(design.stages)

    def measured(self, given: Given) -> Given:
        """``y`` on the HR grid, where its scale is 1."""
        y, sf = given["y"], given["sf"]
        size = (y.shape[-2] * int(sf[0]), y.shape[-1] * int(sf[0]))
        return {"y": y if size == y.shape[-2:] else enlarged(y, size), "sf": torch.ones_like(sf)}

    def operator(self, given: Given) -> Operator:
        """What is known for certain: a picture of that size, seen as it is."""
        y = given["y"]
        return BlurDownsample(torch.ones(1, 1, 1, 1, dtype=y.dtype, device=y.device), 1, (y.shape[-2], y.shape[-1]), 3)

    def start(self, operator: Operator, y: Tensor) -> Tensor:
        return y

    def weights(self, given: Given) -> Weights:
        return self.learned.weigh()

    def data_step(self, stage: int, operator: Operator, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        pair = self.pairs[stage]
        assert isinstance(pair, LearnedPair)
        return gradient_step(pair, x, y, weight)


def enlarged(y: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, C, h, w) -> (N, C, H, W), bicubic, with sample (i, j) at pixel (i H / h, j W / w), where direct downsampling takes it."""
    axes = [
        (torch.arange(wide, dtype=y.dtype, device=y.device) + wide / few / 2) / wide * 2 - 1
        for wide, few in zip(size, y.shape[-2:], strict=True)
    ]
    rows, cols = torch.meshgrid(*axes, indexing="ij")
    places = torch.stack([cols, rows], dim=-1).expand(len(y), -1, -1, -1)
    return F.grid_sample(y, places, mode="bicubic", padding_mode="border", align_corners=False)


class CsSensing(Sensing):
    """One matrix Phi, learned or fixed, that travels with the weights.

    It is kept as a vector of entries around 1, so that an optimizer takes it for no layer and its steps are small beside it.
    """

    def __init__(self, design: Design) -> None:
        super().__init__(design)
        self.phi = nn.Parameter(random_rows(measurements(design.ratio)).flatten() * BLOCK, requires_grad=design.phi == "learned")
        self.fixed = design.phi == "fixed"
        self.learned = Learned(design.stages)

    def measured(self, given: Given) -> Given:
        return given if "y" in given else {**given, "y": self.at((given["x"].shape[-2], given["x"].shape[-1])).A(given["x"])}

    def at(self, size: tuple[int, int]) -> BlockSensing:
        """The operator for pictures of a size."""
        return BlockSensing(self.matrix, size, self.fixed)

    @property
    def matrix(self) -> Tensor:
        """(M, 1024)."""
        return self.phi.view(-1, BLOCK**2) / BLOCK

    @torch.no_grad()
    def measure_with(self, rows: Tensor) -> None:
        """Take over a matrix (M, 1024)."""
        self.phi.copy_(rows.flatten() * BLOCK)

    def operator(self, given: Given) -> Operator:
        y = given["y"]
        return self.at((y.shape[-2] * BLOCK, y.shape[-1] * BLOCK))

    def start(self, operator: Operator, y: Tensor) -> Tensor:
        return operator.A_adjoint(y)

    def weights(self, given: Given) -> Weights:
        return self.learned.weigh()


class CassiSensing(Sensing):
    """A known mask."""

    def __init__(self, design: Design) -> None:
        super().__init__(design)
        self.bands = design.bands
        self.learned = Learned(design.stages)

    def measured(self, given: Given) -> Given:
        return given if "y" in given else {**given, "y": Cassi(given["mask"], self.bands).A(given["x"])}

    def operator(self, given: Given) -> Operator:
        return Cassi(given["mask"], self.bands)

    def start(self, operator: Operator, y: Tensor) -> Tensor:
        assert isinstance(operator, Cassi)
        return smooth_start(operator, y)

    def weights(self, given: Given) -> Weights:
        return self.learned.weigh()


def build_sensing(design: Design) -> Sensing:
    if design.step == "learned":
        return UnknownSensing(design)
    return {"sr": SrSensing, "cs": CsSensing, "cassi": CassiSensing}[design.task](design)
