"""Measurements to train on: crops of photographs, seen through an operator that is drawn anew for each."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from srgui.degradations.direct import draw_gaussian, draw_kernel
from srgui.images import to_samples
from srgui.metrics import round_to_8bit, to_y
from srgui.training.pairs import Pairs
from srgui.training.patches import Batch, Patches
from srgui.training.preflight import Item
from srgui.unfolding.design import Design
from srgui.unfolding.kernels import the_twelve
from srgui.unfolding.physics import BlurDownsample
from srgui.unfolding.physics.blur import SCALES
from srgui.unfolding.scenes import paint, some_mask

GAUSSIANS = 8  # of the 12 kernels; the others are motion blur
KNOWN, CLEAN, ROUNDED = 0.5, 0.5, 0.25  # shares of the 12 kernels among all, and of measurements without noise and of 8 bits
NOISE = 15 / 255  # the most of others
ROUNDING = 1 / 255 / 12**0.5  # the standard deviation of what rounding to 8 bits adds


class Crops:
    """HR crops of photographs, turned and mirrored.

    Raises:
        InputError: a picture is smaller than a crop.
    """

    def __init__(self, items: list[Item], patch: int, seed: int) -> None:
        # x1 by bicubic is the picture itself: pairs of which only the second half is used
        self.patches, self.seed = Patches(Pairs(items, 1, "bicubic"), patch=patch, seed=seed), seed

    def __getitem__(self, sample: int) -> Batch:
        raise NotImplementedError

    def crop(self, sample: int) -> tuple[Tensor, np.random.Generator]:
        """(3, p, p) in [0, 1], and a generator of this sample's own for what is to be drawn beside it."""
        return self.patches[sample][1], np.random.default_rng((self.seed, sample, 1))

    def share(self) -> bool:
        return self.patches.share()

    def divide(self, workers: int) -> None:
        self.patches.divide(workers)


class SrSamples(Crops):
    """Blurred by one of the 12 kernels or another, sampled, and sometimes noisy. The samples of a step have one scale.

    Args:
        patch: side of the crops, a multiple of 12.
        unknown: whether the kernel is kept from the network. Then it is a Gaussian: motion blur also moves the picture, by what
            only the kernel tells.
    """

    def __init__(self, items: list[Item], patch: int, seed: int, batch: int, *, unknown: bool = False) -> None:
        super().__init__(items, patch, seed)
        self.batch, self.unknown = batch, unknown

    def __getitem__(self, sample: int) -> Batch:
        hr, rng = self.crop(sample)
        sf = SCALES[sample // self.batch % len(SCALES)]
        kernel = self._kernel(rng)
        kind = rng.random()
        y = BlurDownsample(kernel[None, None], sf, (hr.shape[-2], hr.shape[-1])).A(hr[None])[0]
        sigma = 0.0 if kind < CLEAN else ROUNDING if kind < CLEAN + ROUNDED else float(rng.uniform(0, NOISE))
        if sigma == ROUNDING:
            y = round_to_8bit(y)
        elif sigma:
            y = y + sigma * torch.from_numpy(rng.standard_normal(y.shape)).float()
        return {"y": y, "kernel": kernel[None], "sf": torch.tensor(sf), "sigma": torch.tensor(sigma)}, hr

    def _kernel(self, rng: np.random.Generator) -> Tensor:
        """(25, 25)."""
        many, draw = (GAUSSIANS, draw_gaussian) if self.unknown else (12, draw_kernel)
        known = rng.random() < KNOWN
        return the_twelve()[int(rng.integers(many))] if known else torch.from_numpy(draw(rng)).float()


class CsSamples(Crops):
    """Luminance, unmeasured: the network measures it with its own matrix, which learns."""

    def __getitem__(self, sample: int) -> Batch:
        hr = luminance(self.crop(sample)[0][None])[0]
        return {"x": hr}, hr


class CassiSamples(Crops):
    """A scene painted on the crop, seen through some mask."""

    def __getitem__(self, sample: int) -> Batch:
        photo, rng = self.crop(sample)
        scene = paint(to_samples(photo[None], 8), rng)
        return {"x": scene, "mask": some_mask(photo.shape[-1], rng)[None]}, scene


def luminance(rgb: Tensor) -> Tensor:
    """(N, 1, H, W): the Y of BT.601 in studio range, rounded to 8 bits as the grey pictures of the benchmark are."""
    return to_y(rgb).mul(255).round().div(255)


def make_samples(design: Design, items: list[Item], patch: int, batch: int, seed: int) -> Crops:
    if design.task == "sr":
        return SrSamples(items, patch, seed, batch, unknown=design.step == "learned")
    return (CsSamples if design.task == "cs" else CassiSamples)(items, patch, seed)
