"""An experiment of the Lab: a picture measured by known physics, and reconstructed stage by stage."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from srgui.errors import InputError
from srgui.images import Picture, read_picture, to_samples, to_tensor
from srgui.models.cards import Card
from srgui.protocol import RestorerInfo, Run, Source
from srgui.unfolding.baselines import bicubic, tikhonov
from srgui.unfolding.design import Design
from srgui.unfolding.files import UNKNOWN, design_of, find, load, scan, settings
from srgui.unfolding.judge import Example, measure, shown, sr_example
from srgui.unfolding.kernels import as_kernel, find_kernel
from srgui.unfolding.network import Unfolding, count
from srgui.unfolding.physics import BlurDownsample, Cassi
from srgui.unfolding.physics.sensing import BLOCK
from srgui.unfolding.restorer import LorunRestorer, camera_kernel, colours
from srgui.unfolding.samples import luminance
from srgui.unfolding.scenes import coded_aperture, paint, read_mask, read_scene
from srgui.unfolding.sensing import CsSensing

Task = Literal["sr", "cs", "cassi"]
SIDE = 512  # pixels of the middle of a picture that are used: an experiment, not a long job
_LEAST = 16  # pixels on a side, besides a border that is not measured
_MULTIPLE = 8


@dataclass(frozen=True)
class Asked:
    """What is to be tried.

    Attributes:
        kernel: K1 to K12, a file, or what was drawn (h, w); None where nobody needs to know it.
        real: the picture is an LR picture as it is, and nothing is simulated (SR).
        sigma: noise of a simulated LR picture, in units of 1/255.
        setting: of the network: the ratio of CS in percent; ``unknown`` where it is not told the kernel and the noise (SR).
        model: id of the network; None for the one of the task that comes with srgui.
        mask: a file; None for the one that comes with srgui (CASSI).
        bare: leave the LoRA sets off.
    """

    task: Task
    picture: Path
    kernel: str | np.ndarray | None = "K1"
    real: bool = False
    scale: int = 2
    sigma: float = 0.0
    setting: str | None = None
    mask: Path | None = None
    bare: bool = False
    model: str | None = None

    @property
    def card(self) -> Card:
        """Of the network.

        Raises:
            ModelError: there is none.
        """
        return find(self.model or f"srgui-lorun-{self.task}")


@dataclass
class Experiment:
    """What came of it.

    Attributes:
        network, title: what the network is called, and its card's title.
        truth: (1, C, H, W), None for a real LR picture.
        stages: where the solver starts, and the picture after each stage: (1, C, H, W), not clipped.
        psnr: of ``stages``, in the task's protocol; empty without a truth.
        ssim: of the result, likewise; None without a truth.
        seconds: that the stages took.
        beside: PSNR of what needs no training.
        measurement: (H, W, 3) uint8, to be looked at.
    """

    asked: Asked
    design: Design
    name: str
    network: str
    truth: Tensor | None
    stages: list[Tensor]
    measurement: np.ndarray
    seconds: float
    psnr: list[float] = field(default_factory=list)
    ssim: float | None = None
    beside: dict[str, float] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    title: str = ""

    def picture(self, stage: int, band: int = 0) -> Picture:
        """A stage as colours, or one ``band`` of a scene from 1 on as grey."""
        return _picture(self.stages[stage], band)

    def original(self, band: int = 0) -> Picture | None:
        return None if self.truth is None else _picture(self.truth, band)


def experiment(asked: Asked, run: Run) -> Experiment:
    """Measure and reconstruct.

    Raises:
        InputError: a picture, a kernel, a mask or a scale cannot be used.
        ModelError: there are no weights for the task.
        Cancelled: the run was.
    """
    card = asked.card
    network = _network(card.id, asked.setting, asked.bare)
    notices: list[str] = []
    if asked.real:
        source, truth, given, border = _real(asked, notices), None, dict[str, Tensor](), 0
    else:
        example = _MAKERS[asked.task](asked, network, notices)
        truth, given, border = example.truth, dict(example.given), example.border
        source = Source(given["y"], {"given": given})
    restorer = LorunRestorer(network, RestorerInfo("lab", "Lab", "lorun", asked.scale, ""))
    prepared = restorer.prepare(source, run)
    begun = time.perf_counter()
    try:
        stages = [picture.clone() for picture in prepared.outputs(run)]
    finally:
        prepared.close()
    seconds = time.perf_counter() - begun
    name = f"{card.id}, {UNKNOWN} kernel" if asked.setting == UNKNOWN else card.id
    seen = _measurement(asked.task, source.lr)
    found = Experiment(asked, network.design, asked.picture.name, name, truth, stages, seen, seconds, notices=notices)
    found.title = card.title
    if truth is not None:
        _measure(found, truth, given, border)
    return found


def _measure(found: Experiment, truth: Tensor, given: Mapping[str, Tensor], border: int) -> None:
    task, (height, width) = found.asked.task, truth.shape[-2:]
    found.stages = [stage[..., :height, :width] for stage in found.stages]
    found.psnr = [_psnr(task, stage, truth, border) for stage in found.stages]
    found.ssim = measure(task, found.stages[-1], truth, border)["ssim"]
    if task == "sr":
        # the closed form would be told what the network is not
        told = {} if found.asked.setting == UNKNOWN else {"Tikhonov": tikhonov}
        found.beside = {name: _psnr(task, make(given), truth, border) for name, make in {"bicubic": bicubic, **told}.items()}


def alternatives(asked: Asked) -> list[Asked]:
    """What is asked, of every network at hand that can take that measurement, whole: the one asked for first.

    Where the kernel is known it may also be kept from a network. A ratio of CS is the same measurement for networks that have
    the same matrix; each measures with its own.

    Raises:
        InputError: the setting has no weights.
        ModelError: there are no weights for the task.
    """
    wanted, cards = design_of(asked.card, asked.setting), {asked.card.id: asked.card, **scan()[0]}
    designs = {(name, setting): design_of(card, setting) for name, card in cards.items() for setting in settings(card)}
    fitting = [key for key, design in designs.items() if _fits(wanted, design)]
    return [replace(asked, model=model, setting=setting, bare=False) for model, setting in fitting]


def _fits(wanted: Design, other: Design) -> bool:
    told = wanted.step != "learned" or other.step == "learned"
    return (wanted.task, wanted.ratio, wanted.bands) == (other.task, other.ratio, other.bands) and told


def spectrum(found: Experiment, stage: int, row: int, column: int) -> tuple[list[float], list[float] | None]:
    """Of a pixel, by bands: as reconstructed, and the truth."""
    picture = found.stages[stage]
    row, column = min(max(row, 0), picture.shape[-2] - 1), min(max(column, 0), picture.shape[-1] - 1)
    truth = None if found.truth is None else found.truth[0, :, row, column].tolist()
    return picture[0, :, row, column].tolist(), truth


@lru_cache(maxsize=32)
def parameters(design: Design) -> dict[str, int]:
    """Of networks of this shape whose stages share a denoiser, have one each, or share one with a LoRA each."""
    return {sharing: count(design.but(sharing=sharing)).total for sharing in ("single", "block", "lorun")}


@lru_cache(maxsize=16)
def _network(model: str, setting: str | None, bare: bool) -> Unfolding:
    network = load(find(model), setting)
    if not bare:
        return network
    alone = Unfolding(network.design.but(sharing="single"))
    alone.start_from(network)
    return alone.requires_grad_(False).eval()


def _psnr(task: Task, picture: Tensor, truth: Tensor, border: int) -> float:
    value = measure(task, picture, truth, border, similarity=False)["psnr"]
    return math.nan if value is None else value


def _kernel(asked: Asked, notices: list[str]) -> Tensor:
    if asked.kernel is None:
        return camera_kernel(asked.scale)
    found, notice = find_kernel(asked.kernel) if isinstance(asked.kernel, str) else as_kernel(asked.kernel, "that was drawn")
    notices.extend([notice] if notice and isinstance(asked.kernel, str) else [])
    return found


def _middle(picture: Picture, side: int, multiple: int, notices: list[str], border: int = 0) -> np.ndarray:
    """The middle of a picture, (H, W, 3) uint8, sides of at most ``side`` and multiples.

    Raises:
        InputError: without ``border`` on every side too little would be left.
    """
    samples = picture.as_uint8()
    height, width = (min(side, length) // multiple * multiple for length in samples.shape[:2])
    name = picture.path.name if picture.path else "the picture"
    least = math.ceil((_LEAST + 2 * border) / multiple) * multiple
    if min(height, width) < least:
        raise InputError(f"{name} has {samples.shape[1]} x {samples.shape[0]} pixels; give at least {least} x {least}")
    if (height, width) != samples.shape[:2]:
        notices.append(f"{name}: the middle {width} x {height} of {samples.shape[1]} x {samples.shape[0]} pixels")
    top, left = (samples.shape[0] - height) // 2, (samples.shape[1] - width) // 2
    return np.ascontiguousarray(samples[top : top + height, left : left + width])


def _real(asked: Asked, notices: list[str]) -> Source:
    if asked.task != "sr":
        raise InputError("a real measurement can be given for super-resolution only; simulate this one")
    lr = to_tensor(_middle(read_picture(asked.picture), SIDE // asked.scale, 1, notices))
    kernel = _kernel(asked, notices)
    # for what it refuses: continued by reflection, the picture itself would take any kernel
    BlurDownsample(kernel, asked.scale, (lr.shape[-2] * asked.scale, lr.shape[-1] * asked.scale))
    return Source(lr, {"kernel": kernel, "sf": asked.scale, "sigma": asked.sigma / 255})


def _sr(asked: Asked, network: Unfolding, notices: list[str]) -> Example:
    multiple, border = math.lcm(asked.scale, _MULTIPLE), asked.scale**2
    hr = to_tensor(_middle(read_picture(asked.picture), SIDE, multiple, notices, border))
    return sr_example(hr, _kernel(asked, notices), asked.scale, asked.picture.name, asked.sigma / 255)


def _cs(asked: Asked, network: Unfolding, notices: list[str]) -> Example:
    assert isinstance(network.sensing, CsSensing)
    truth = luminance(to_tensor(_middle(read_picture(asked.picture), SIDE, 1, notices)))
    height, width = truth.shape[-2:]
    padded = F.pad(truth, (0, -width % BLOCK, 0, -height % BLOCK))
    with torch.inference_mode():
        y = network.sensing.at((padded.shape[-2], padded.shape[-1])).A(padded).clone()
    return Example(asked.picture.name, {"y": y}, truth)


def _cassi(asked: Asked, network: Unfolding, notices: list[str]) -> Example:
    mask = coded_aperture() if asked.mask is None else read_mask(asked.mask)
    height, width = mask.shape
    given: Tensor = (
        read_scene(asked.picture, network.design.bands)
        if asked.picture.suffix.lower() == ".mat"
        else torch.from_numpy(read_picture(asked.picture).as_uint8().transpose(2, 0, 1).copy())[None]
    )
    rows, cols = (min(a, b) // _MULTIPLE * _MULTIPLE for a, b in zip(given.shape[-2:], (height, width), strict=True))
    sizes = f"the scene has {given.shape[-1]} x {given.shape[-2]} pixels and the mask {width} x {height}"
    if min(rows, cols) < _LEAST:
        raise InputError(f"{sizes}; both must have at least {_LEAST} x {_LEAST}")
    if {tuple(given.shape[-2:]), (height, width)} != {(rows, cols)}:
        notices.append(f"{sizes}: the middle {cols} x {rows} of both is used")
    scene, mask = _centre(given, rows, cols), _centre(mask[None, None], rows, cols)
    if scene.dtype == torch.uint8:  # only the middle of a photograph is painted: 28 bands of a whole one take gigabytes
        scene = paint(scene[0].permute(1, 2, 0).numpy(), np.random.default_rng(0))[None]
        notices.append("the spectra of this photograph are made up, by the recipe on the card")
    return Example(asked.picture.name, {"y": Cassi(mask, network.design.bands).A(scene), "mask": mask}, scene)


_MAKERS: Mapping[Task, Callable[[Asked, Unfolding, list[str]], Example]] = {"sr": _sr, "cs": _cs, "cassi": _cassi}


def _centre(x: Tensor, height: int, width: int) -> Tensor:
    top, left = (x.shape[-2] - height) // 2, (x.shape[-1] - width) // 2
    return x[..., top : top + height, left : left + width]


def _measurement(task: Task, y: Tensor) -> np.ndarray:
    """A measurement as a picture; of CS, the pictures that the rows of Phi see side by side, each on its own scale, 0 in grey."""
    if task == "cs":
        strongest = y.abs().amax(dim=(-2, -1), keepdim=True)
        y = y / strongest.clamp(min=1e-6) / 2 + 0.5
        side = math.ceil(math.sqrt(y.shape[1]))
        tiles = F.pad(y, (0, 0, 0, 0, 0, side * side - y.shape[1]), value=0.5).view(1, side, side, *y.shape[-2:])
        y = tiles.permute(0, 1, 3, 2, 4).reshape(1, 1, side * y.shape[-2], side * y.shape[-1])
    elif task == "cassi":
        y = (y - y.min()) / (y.max() - y.min()).clamp(min=1e-6)
    return to_samples(colours(y), 8)


def _picture(x: Tensor, band: int) -> Picture:
    chosen = x[:, band - 1 : band] if band else shown({"x": x})
    return Picture(to_samples(colours(chosen.clamp(0, 1)), 8))
