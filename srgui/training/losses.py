"""What training makes small: the distance of pixels, the distance of features, and the opinion of a discriminator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srgui.errors import InputError, MetricUnavailable, near
from srgui.metrics import LPIPS_BACKBONES, Backbone, BackboneUnavailable, LpipsNet, load_lpips

PixelKind = Literal["l1", "mse"]
PerceptualKind = Literal["auto", "vgg", "lpips-vgg", "lpips-alex", "lpips-squeeze"]

VGG19 = Backbone("VGG19", "vgg19", "vgg19-dcbb9e9d.pth", 16)
_CONV5_4 = 34  # its index among torchvision's feature layers, of VGG configuration E
_LPIPS: dict[PerceptualKind, LpipsNet] = {"lpips-vgg": "vgg", "lpips-alex": "alex", "lpips-squeeze": "squeeze"}
_PIXEL: dict[PixelKind, Callable[[Tensor, Tensor], Tensor]] = {"l1": F.l1_loss, "mse": F.mse_loss}


def pixel_loss(kind: PixelKind) -> Callable[[Tensor, Tensor], Tensor]:
    """The mean absolute (``l1``) or squared (``mse``) difference of two tensors of one shape, as a scalar.

    Raises:
        InputError: there is no such loss.
    """
    if kind not in _PIXEL:
        raise InputError(f"there is no pixel loss {kind!r}. {near(kind, _PIXEL)}")
    return _PIXEL[kind]


class Perceptual(nn.Module):
    """A frozen distance of the features of two pictures, made by :func:`load_perceptual`. It always stays in evaluation mode.

    Attributes:
        name: what it measures with, for the card.
    """

    def __init__(self, name: str, smallest: int, distance: nn.Module) -> None:
        super().__init__()
        self.name, self._smallest = name, smallest
        self._distance = distance.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Perceptual:
        """Does nothing: LPIPS would drop features out of its distance while a network that holds it is trained."""
        return super().train(False)

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        """The distance as a scalar, averaged over the batch, with a gradient to ``sr``.

        Args:
            sr, hr: (N, 3, H, W), meant for [0, 1]; SR may leave it and still gets a gradient.

        Raises:
            InputError: the shapes differ, or a side is too short for the backbone.
        """
        if sr.shape != hr.shape:
            raise InputError(f"SR of shape {tuple(sr.shape)} cannot be compared with HR of {tuple(hr.shape)}; give equal shapes")
        height, width = sr.shape[-2:]
        if min(height, width) < self._smallest:
            raise InputError(
                f"{self.name} cannot see HR patches of {width} x {height}; make them {self._smallest} or more on a side"
            )
        return self._distance(sr, hr)


def load_perceptual(kind: PerceptualKind) -> Perceptual:
    """Load a perceptual loss, on the CPU; missing weights are downloaded into torch.hub's folder (``TORCH_HOME``).

    ``vgg`` is the L1 distance of VGG19's features at conv5_4 before activation (ESRGAN, Wang et al. 2018, section 3.3), the others
    are LPIPS (Zhang et al. 2018) averaged over the batch.

    Args:
        kind: ``auto`` is the first of vgg, lpips-vgg, lpips-alex, lpips-squeeze whose weights are on the machine or can be
            downloaded; if that is not vgg, ``name`` tells why.

    Raises:
        InputError: there is no such kind.
        MetricUnavailable: the weights are neither on the machine nor to be had (without a network this takes a few seconds), or
            their file is damaged.
    """
    kinds = get_args(PerceptualKind)
    if kind not in kinds:
        raise InputError(f"there is no perceptual loss {kind!r}. {near(kind, kinds)}")
    if kind == "auto":
        return _first_to_be_had()
    if not _backbone(kind).path.exists():
        _backbone(kind).fetch()
    return _load(kind)


def _first_to_be_had() -> Perceptual:
    reasons: list[str] = []
    online = True
    kinds: list[PerceptualKind] = ["vgg", *_LPIPS]
    for kind in kinds:
        if not _backbone(kind).path.exists():
            if not online:
                continue
            try:
                _backbone(kind).fetch()
            except BackboneUnavailable as error:
                reasons.append(error.reason)
                online = error.answered
                continue
        return _load(kind, f" (VGG19's weights were not available: {reasons[0]})" if reasons else "")
    raise MetricUnavailable(
        f"no perceptual loss is available: neither VGG19 nor a backbone of LPIPS is on this machine or can be downloaded "
        f"({reasons[-1]}); put {VGG19.file} into {VGG19.path.parent}, or train with a pixel loss"
    )


def _backbone(kind: PerceptualKind) -> Backbone:
    return VGG19 if kind == "vgg" else LPIPS_BACKBONES[_LPIPS[kind]]


def _load(kind: PerceptualKind, remark: str = "") -> Perceptual:
    smallest = _backbone(kind).smallest
    if kind == "vgg":
        distance = _Vgg19()
        VGG19.load_into(distance)
        return Perceptual("VGG19 conv5_4 before activation", smallest, distance)
    lpips = load_lpips(_LPIPS[kind])
    return Perceptual(f"LPIPS {lpips.net}{remark}", smallest, _Lpips(lpips.network()))


def jittered(sr: Tensor, hr: Tensor, most: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The same random view of both (N, 3, H, W): resized by a factor in [1 - most, 1 + most], flipped and transposed by chance.

    Source: the ensemble of E-LPIPS, Kettunen et al. 2019 (arXiv 1906.03973), here with resizing as what matters for SR.
    """
    factor, *coins = torch.rand(4, generator=generator).tolist()
    size = [max(1, round(side * (1 + most * (2 * factor - 1)))) for side in sr.shape[-2:]]
    views = F.interpolate(torch.cat([sr, hr]), size=size, mode="bicubic", align_corners=False, antialias=True)
    for axis, coin in zip((-2, -1), coins, strict=False):
        views = views.flip(axis) if coin < 0.5 else views
    views = views.transpose(-2, -1) if coins[2] < 0.5 else views
    return views[: len(sr)], views[len(sr) :]


def grid_loss(sr: Tensor, hr: Tensor, period: int) -> Tensor:
    """How much of the error of ``sr`` (N, C, H, W) repeats every ``period`` pixels, along rows or columns; a scalar.

    A network that ends in a pixel shuffle writes each of the ``period`` x ``period`` phases with filters of its own. Where these
    drift apart a fine grid covers the picture, which networks with strides, such as those of perceptual losses, do not see. This
    is the variance, over the phases, of the mean error that each row (column) has at the phase; 0 where no phase differs.

    Raises:
        InputError: a side is not a multiple of ``period``.
    """
    error = (sr - hr).contiguous()
    height, width = error.shape[-2:]
    if height % period or width % period:
        raise InputError(f"a patch of {width} x {height} does not hold whole periods of {period}; give a multiple of it")
    rows = error.view(*error.shape[:-1], width // period, period).mean(dim=-2)  # (N, C, H, period)
    columns = error.view(*error.shape[:-2], height // period, period, width).mean(dim=-3)  # (N, C, period, W)
    return rows.var(dim=-1, correction=0).mean() + columns.var(dim=-2, correction=0).mean()


class _Vgg19(nn.Module):
    """The mean absolute difference of the features that VGG19 has at conv5_4, before the activation."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        from torchvision.models import vgg19

        super().__init__()
        with torch.device("meta"):  # the classifier, 7 / 8 of the weights, is never made
            layers = vgg19(weights=None, init_weights=False).features[: _CONV5_4 + 1]
        self.features = layers.to_empty(device="cpu")
        for name, values in (("mean", [0.485, 0.456, 0.406]), ("std", [0.229, 0.224, 0.225])):  # ImageNet's
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        return F.l1_loss(self._seen(sr), self._seen(hr))

    def _seen(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 512, H // 16, W // 16)."""
        return self.features((x - self.mean) / self.std)


class _Lpips(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        return self.network(sr, hr, normalize=True).mean()


def relativistic_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """What the discriminator makes small: real shall look more real than the average fake, and fake less than the average real.

    Source: the relativistic average GAN, Jolicoeur-Martineau 2018 (arXiv 1807.00734); ESRGAN, Wang et al. 2018, Eq. 1.

    Args:
        real_logits, fake_logits: the discriminator's outputs C(HR) and C(SR), (N, 1). The averages are over these batches; of
            several processes each has its own. Give it logits of a detached SR.

    Returns:
        A scalar, 2 log 2 where the discriminator cannot tell them apart.
    """
    return _relativistic(real_logits, fake_logits)


def relativistic_generator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """What the generator makes small: the labels are exchanged.

    Source: as :func:`relativistic_discriminator_loss`; ESRGAN, Eq. 2.

    Args:
        real_logits, fake_logits: as there, but SR is not detached; freeze the discriminator's weights.
    """
    return _relativistic(fake_logits, real_logits)


def _relativistic(upper: Tensor, lower: Tensor) -> Tensor:
    above, below = upper - lower.mean(), lower - upper.mean()
    one, zero = torch.ones_like(above), torch.zeros_like(below)
    return F.binary_cross_entropy_with_logits(above, one) + F.binary_cross_entropy_with_logits(below, zero)
