"""LPIPS, and the backbones that it and the perceptual losses measure with."""

from __future__ import annotations

import http.client
import pickle
import queue
import threading
import urllib.error
import urllib.request
import warnings
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Literal, cast

import torch
from torch import Tensor

from srgui.errors import InputError, MetricUnavailable, near
from srgui.metrics.fidelity import check_pair, size_text

LpipsNet = Literal["alex", "vgg", "squeeze"]

_HOST = "https://download.pytorch.org/models/"
_CONNECT_SECONDS = 3.0


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
        check_pair(sr, hr)
        smallest = LPIPS_BACKBONES[self.net].smallest
        if min(sr.shape[-2:]) < smallest:
            raise MetricUnavailable(f"LPIPS not available: {self.net} needs {smallest} x {smallest} pixels, not {size_text(sr)}")
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
