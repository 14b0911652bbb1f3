"""How near SR is to HR (PSNR, SSIM, LPIPS) and to its own LR. Pictures are tensors (1, 3, H, W) in [0, 1].

PSNR and SSIM are computed in double precision. Round SR with :func:`round_to_8bit` first where numbers are to be compared with
published ones, which are measured on 8-bit files.
"""

from __future__ import annotations

import http.client
import pickle
import queue
import threading
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from math import inf, log10
from pathlib import Path
from types import ModuleType
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from srgui.errors import InputError, MetricUnavailable, near
from srgui.resample import resize

Channel = Literal["Y", "RGB"]
LpipsNet = Literal["alex", "vgg", "squeeze"]
Scores = dict[str, float | None]  # psnr_y, ssim_y, lpips; None where one cannot be computed

SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2  # K1 and K2, for a data range of 1
_SSIM_WINDOW = 11
_SSIM_SIGMA = 1.5
_HOST = "https://download.pytorch.org/models/"
_CONNECT_SECONDS = 3.0


def to_y(rgb: Tensor) -> Tensor:
    """The luma of BT.601 in studio range, (65.481 R + 128.553 G + 24.966 B + 16) / 255.

    Args:
        rgb: (N, 3, H, W) in [0, 1].

    Returns:
        (N, 1, H, W) in [16 / 255, 235 / 255]: MATLAB's rgb2ycbcr without its rounding, as the SR literature measures.
    """
    weight = torch.tensor([65.481, 128.553, 24.966], dtype=rgb.dtype, device=rgb.device).view(1, 3, 1, 1)
    return ((rgb * weight).sum(dim=1, keepdim=True) + 16) / 255


def round_to_8bit(x: Tensor) -> Tensor:
    """Clip to [0, 1] and round half to even to multiples of 1 / 255, as saving to an 8-bit file and reading it would."""
    return x.clamp(0, 1).mul(255).round().div(255)


def psnr(sr: Tensor, hr: Tensor, *, channel: Channel = "Y", crop_border: int, data_range: float = 1.0) -> float:
    """Peak signal-to-noise ratio in dB, 10 log10(data_range^2 / MSE); infinite for identical pictures.

    Args:
        sr, hr: (1, 3, H, W) in [0, data_range].
        channel: measure the luma of :func:`to_y`, or all three colours with one common MSE.
        crop_border: pixels left out on every side; the literature takes the scale.

    Raises:
        InputError: the sizes differ or are not (1, 3, H, W), or ``crop_border`` is negative.
        MetricUnavailable: ``crop_border`` leaves nothing.
    """
    x, y = _compared(sr, hr, channel, crop_border)
    mse = float((x - y).square().mean())
    return inf if mse == 0 else 10 * log10(data_range**2 / mse)


def ssim(sr: Tensor, hr: Tensor, *, channel: Channel = "Y", crop_border: int, data_range: float = 1.0) -> float:
    """Structural similarity, at most 1, averaged over pixels and, for RGB, over channels.

    Source: Wang et al. 2004, Eq. 13: an 11 x 11 Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03, population covariance, over
    the positions where the window lies inside the picture. No downsampling of large pictures.

    Args:
        sr, hr, channel, crop_border: as for :func:`psnr`.

    Raises:
        InputError: as :func:`psnr`.
        MetricUnavailable: less than 11 x 11 pixels remain after the crop.
    """
    x, y = _compared(sr, hr, channel, crop_border)
    height, width = x.shape[-2:]
    if min(height, width) < _SSIM_WINDOW:
        raise MetricUnavailable(
            f"SSIM not available: {width} x {height} pixels remain after cropping {crop_border}, "
            f"its window needs {_SSIM_WINDOW} x {_SSIM_WINDOW}"
        )
    c1, c2 = SSIM_C1 * data_range**2, SSIM_C2 * data_range**2
    mean_x, mean_y = ssim_window(x), ssim_window(y)
    var_x = ssim_window(x * x) - mean_x * mean_x
    var_y = ssim_window(y * y) - mean_y * mean_y
    cov = ssim_window(x * y) - mean_x * mean_y
    similarity = (2 * mean_x * mean_y + c1) * (2 * cov + c2)
    similarity /= (mean_x.square() + mean_y.square() + c1) * (var_x + var_y + c2)
    return float(similarity.mean())


def lr_consistency(sr: Tensor, lr: Tensor, *, crop_border: int = 0) -> float:
    """PSNR in dB, over RGB, between SR downscaled by antialiased bicubic and the LR it was made from.

    Args:
        sr: (1, 3, H, W) in [0, 1]. lr: (1, 3, h, w) in [0, 1], not larger.
        crop_border: in LR pixels.

    Raises:
        InputError: a shape is not (1, 3, H, W), SR is smaller than LR, or ``crop_border`` is negative.
        MetricUnavailable: ``crop_border`` leaves nothing.
    """
    _check_shape(sr, "SR")
    _check_shape(lr, "LR")
    height, width = lr.shape[-2:]
    if sr.shape[-2] < height or sr.shape[-1] < width:
        raise InputError(f"SR of {_size(sr)} is smaller than LR of {_size(lr)}; give the SR that was made from this LR")
    return psnr(resize(_double(sr), height, width), lr, channel="RGB", crop_border=crop_border)


def sharpness(sr: Tensor) -> float:
    """How sharp a picture is, without a reference: the root mean square of its luma's gradient, in 8-bit levels per pixel.

    Source: Tenengrad (Krotkov 1988), with Sobel's operator divided by 8. Noise and halos count as sharpness too.

    Args:
        sr: (1, 3, H, W) in [0, 1].

    Raises:
        InputError: the shape is another. MetricUnavailable: it has less than 3 x 3 pixels.
    """
    _check_shape(sr, "SR")
    if min(sr.shape[-2:]) < 3:
        raise MetricUnavailable(f"sharpness not available: it needs 3 x 3 pixels, not {_size(sr)}")
    return 255 * float(sobel(to_y(_double(sr))).square().sum(dim=1).mean().sqrt())


def sobel(y: Tensor) -> Tensor:
    """The gradient, per pixel, where Sobel's operator lies inside: (1, 1, H, W) -> (1, 2, H - 2, W - 2)."""
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], dtype=y.dtype, device=y.device) / 8
    return F.conv2d(y, torch.stack([across, across.T])[:, None])


class BackboneUnavailable(MetricUnavailable):
    """The weights of a backbone cannot be had.

    Attributes:
        reason: the cause alone, without this machine's folders: a card may quote it.
        answered: the host gave an answer, so it may yet have another backbone.
    """

    def __init__(self, message: str, reason: str, answered: bool) -> None:
        super().__init__(message)
        self.reason, self.answered = reason, answered


@dataclass(frozen=True)
class Backbone:
    """The feature layers of a classifier of torchvision: a file in torch.hub's folder (``TORCH_HOME``).

    Attributes:
        use: what cannot be computed without it, as messages say it.
        file: its name on the host, with the first digits of its sha256 at the end.
        smallest: pixels that a side of a picture needs, so that the last pooling has one whole window.
    """

    use: str
    name: str
    file: str
    smallest: int

    @property
    def path(self) -> Path:
        return Path(torch.hub.get_dir()) / "checkpoints" / self.file

    def fetch(self) -> None:
        """Download it; without a network this fails after a few seconds.

        Raises:
            BackboneUnavailable: it cannot be had; the message is the reason.
        """
        url, digest = _HOST + self.file, Path(self.file).stem.rsplit("-", 1)[1]
        try:
            _probe(url)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(self.path), hash_prefix=digest, progress=False)
        except (OSError, http.client.HTTPException, RuntimeError) as error:  # RuntimeError: another digest than expected
            answered = isinstance(error, urllib.error.HTTPError)
            cause = error if answered else getattr(error, "reason", None) or getattr(error, "strerror", None) or error
            reason = " ".join(str(cause).split())
            raise BackboneUnavailable(
                f"{self.use} not available: the {self.name} backbone cannot be downloaded from {url} ({reason}); "
                f"put the file into {self.path.parent}",
                reason,
                answered,
            ) from error

    def load_into(self, trunk: torch.nn.Module) -> None:
        """Give ``trunk`` these weights; its keys are torchvision's with one name of any kind in place of ``features``.

        Raises:
            MetricUnavailable: the file is broken or holds something else. It is never unpickled unsafely.
        """
        path = self.path
        try:
            weights = torch.load(path, map_location="cpu", weights_only=True)
            trunk.load_state_dict({key: weights["features." + key.split(".", 1)[1]] for key in trunk.state_dict()})
        except (RuntimeError, KeyError, TypeError, EOFError, OSError, pickle.UnpicklingError) as error:
            raise MetricUnavailable(
                f"{self.use} not available: {path} is not the {self.name} backbone ({type(error).__name__}); "
                "delete it to have it downloaded"
            ) from error


LPIPS_BACKBONES: dict[LpipsNet, Backbone] = {
    "alex": Backbone("LPIPS", "alex", "alexnet-owt-7be5be79.pth", 31),
    "vgg": Backbone("LPIPS", "vgg", "vgg16-397923af.pth", 16),
    "squeeze": Backbone("LPIPS", "squeeze", "squeezenet1_1-b8a52dc0.pth", 17),
}


def score(sr: Tensor, hr: Tensor, crop_border: int, lpips: Lpips | None) -> Scores:
    """PSNR and SSIM on Y and LPIPS of an SR picture rounded to 8 bits; None where one cannot be computed.

    Args:
        sr, hr: (1, 3, H, W) in [0, 1].
        crop_border: pixels left out on every side for PSNR and SSIM.

    Raises:
        InputError: the sizes differ.
    """
    sr = round_to_8bit(sr)
    return {
        "psnr_y": _or_none(lambda: psnr(sr, hr, channel="Y", crop_border=crop_border)),
        "ssim_y": _or_none(lambda: ssim(sr, hr, channel="Y", crop_border=crop_border)),
        "lpips": _or_none(lambda: lpips(sr, hr)) if lpips is not None else None,
    }


def _or_none(compute: Callable[[], float]) -> float | None:
    try:
        return compute()
    except MetricUnavailable:
        return None


class Lpips:
    """Learned perceptual distance (Zhang et al. 2018, arXiv 1801.03924, version 0.1), 0 for identical pictures.

    Made by :func:`load_lpips`.

    Attributes:
        net: the backbone it measures with; values of different backbones cannot be compared.
    """

    def __init__(self, net: LpipsNet, model: torch.nn.Module) -> None:
        self.net = net
        self._models = {torch.device("cpu"): model}

    def __call__(self, sr: Tensor, hr: Tensor) -> float:
        """The distance of two pictures (1, 3, H, W) in [0, 1], computed in float32 on the device of ``sr``; no border is cropped.

        Raises:
            InputError: the sizes differ or are not (1, 3, H, W).
            MetricUnavailable: a side is too short for the backbone.
        """
        _check_pair(sr, hr)
        smallest = LPIPS_BACKBONES[self.net].smallest
        if min(sr.shape[-2:]) < smallest:
            raise MetricUnavailable(f"LPIPS not available: {self.net} needs {smallest} x {smallest} pixels, not {_size(sr)}")
        device = sr.device
        if device not in self._models:
            self._models[device] = deepcopy(self._models[torch.device("cpu")]).to(device)
        with torch.inference_mode():
            distance = self._models[device](sr.float(), hr.to(device).float(), normalize=True)
        return float(distance)

    def network(self) -> torch.nn.Module:
        """A copy to train against, frozen, on the CPU.

        Its ``forward(sr, hr, normalize=True)`` takes (N, 3, H, W) in [0, 1] and gives (N, 1, 1, 1), with a gradient to either.
        """
        return deepcopy(self._models[torch.device("cpu")])


def load_lpips(net: Literal["auto"] | LpipsNet = "auto") -> Lpips:
    """Load LPIPS, once per process; its backbone is downloaded into torch.hub's folder (``TORCH_HOME``) if it is not there.

    Args:
        net: ``auto`` is the first of alex, vgg, squeeze that is on the machine, else the first that can be downloaded.

    Raises:
        MetricUnavailable: the backbone is neither on the machine nor to be had, or the packages are not; the message is the
            reason. Without a network this takes a few seconds.
    """
    if net != "auto" and net not in LPIPS_BACKBONES:
        raise InputError(f"there is no LPIPS net {net!r}. {near(net, ['auto', *LPIPS_BACKBONES])}")
    _import_lpips()
    nets = list(LPIPS_BACKBONES) if net == "auto" else [net]
    for candidate in nets:
        if LPIPS_BACKBONES[candidate].path.exists():
            return _load(candidate, LPIPS_BACKBONES[candidate].path)
    refusals = []
    for candidate in nets:
        try:
            LPIPS_BACKBONES[candidate].fetch()
        except BackboneUnavailable as error:
            if not error.answered:
                raise
            refusals.append(f"{LPIPS_BACKBONES[candidate].file}: {error.reason}")
            continue
        return _load(candidate, LPIPS_BACKBONES[candidate].path)
    raise MetricUnavailable(f"LPIPS not available: its backbone is not on this machine, and {_HOST} refused {'; '.join(refusals)}")


def _import_lpips() -> ModuleType:
    try:
        import lpips
    except ImportError as error:
        raise MetricUnavailable(f"LPIPS not available: {error}; pip install lpips") from error
    except RuntimeError as error:
        raise MetricUnavailable(
            f"LPIPS not available: torch and torchvision do not fit each other ({error}); install both from one index"
        ) from error
    return cast(ModuleType, lpips)


@lru_cache(maxsize=8)
def _load(net: LpipsNet, checkpoint: Path) -> Lpips:
    """lpips is built with a random trunk and given its weights here: left to itself it would unpickle the file unsafely.

    Outside of inference mode, whoever asks first: a copy may be trained against.
    """
    lpips = _import_lpips()
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), torch.inference_mode(False):
        warnings.filterwarnings("ignore", category=UserWarning, module=r"torchvision\.")  # lpips calls it by a deprecated keyword
        model: torch.nn.Module = lpips.LPIPS(net=net, pnet_rand=True, verbose=False)
        LPIPS_BACKBONES[net].load_into(cast(torch.nn.Module, model.net))
    return Lpips(net, model.requires_grad_(False))


def _probe(url: str) -> None:
    """Raise what a request for ``url`` raises, or TimeoutError soon: torch.hub itself would wait for a silent network for minutes.

    A thread, because no timeout of Python's covers the look-up of the host's name.
    """
    outcome: queue.Queue[Exception | None] = queue.Queue()

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_CONNECT_SECONDS):
                outcome.put(None)
        except (OSError, http.client.HTTPException) as error:
            outcome.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        error = outcome.get(timeout=_CONNECT_SECONDS)
    except queue.Empty:
        raise TimeoutError(f"no answer within {_CONNECT_SECONDS:g} s") from None
    if error is not None:
        raise error


def _compared(sr: Tensor, hr: Tensor, channel: Channel, crop_border: int) -> tuple[Tensor, Tensor]:
    """What is measured of two pictures: (1, 1 or 3, h, w) float64 each."""
    _check_pair(sr, hr)
    if channel not in ("Y", "RGB"):
        raise InputError(f"there is no channel {channel!r} to measure; give Y or RGB")
    if crop_border < 0:
        raise InputError(f"a border of {crop_border} pixels cannot be cropped; give 0 or more")
    height, width = sr.shape[-2:]
    if min(height, width) <= 2 * crop_border:
        raise MetricUnavailable(f"PSNR and SSIM not available: cropping {crop_border} on every side leaves nothing of {_size(sr)}")
    inner = (..., slice(crop_border, height - crop_border), slice(crop_border, width - crop_border))
    x = _double(sr)[inner]
    y = _double(hr)[inner].to(x.device)
    return (to_y(x), to_y(y)) if channel == "Y" else (x, y)


def _double(x: Tensor) -> Tensor:
    x = x.detach()
    return (x.cpu() if x.device.type == "mps" else x).double()  # MPS has no float64


def _check_pair(sr: Tensor, hr: Tensor) -> None:
    _check_shape(sr, "SR")
    _check_shape(hr, "HR")
    if sr.shape != hr.shape:
        raise InputError(f"SR of {_size(sr)} cannot be compared with HR of {_size(hr)}; crop HR to a multiple of the scale")


def _check_shape(x: Tensor, name: str) -> None:
    if x.ndim != 4 or x.shape[:2] != (1, 3) or x.numel() == 0:
        raise InputError(f"{name} of shape {tuple(x.shape)} cannot be measured; give (1, 3, H, W)")


def _size(x: Tensor) -> str:
    return f"{x.shape[-1]} x {x.shape[-2]}"


def ssim_window(x: Tensor) -> Tensor:
    """The Gaussian-weighted mean in every window that lies inside: (1, C, H, W) -> (1, C, H - 10, W - 10)."""
    t = torch.arange(_SSIM_WINDOW, dtype=x.dtype, device=x.device) - _SSIM_WINDOW // 2
    weight = torch.exp(-t.square() / (2 * _SSIM_SIGMA**2))
    weight = (weight / weight.sum()).expand(x.shape[1], 1, 1, -1)
    rows = F.conv2d(x, weight, groups=x.shape[1])
    return F.conv2d(rows, weight.transpose(-1, -2), groups=x.shape[1])
