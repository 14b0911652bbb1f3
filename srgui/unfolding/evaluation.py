"""Measuring a network on pictures in the protocol of its task, stage by stage, beside what needs no training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from srgui.errors import InputError
from srgui.images import read_picture, to_tensor
from srgui.metrics import Scores
from srgui.protocol import Run
from srgui.unfolding.baselines import bicubic, gap_tv, tikhonov
from srgui.unfolding.judge import Example, measure, sr_example
from srgui.unfolding.kernels import find_kernel
from srgui.unfolding.network import Unfolding
from srgui.unfolding.physics import Cassi
from srgui.unfolding.physics.sensing import BLOCK
from srgui.unfolding.samples import luminance
from srgui.unfolding.scenes import coded_aperture, paint, read_scene
from srgui.unfolding.sensing import CassiSensing, CsSensing
from srgui.unfolding.spectral import adjoint_start

Baselines = Mapping[str, Callable[[Example], Tensor]]


@dataclass(frozen=True)
class Request:
    """What is to be measured.

    Attributes:
        kernels, scale, sigma: of SR; names or files, the factor, and the noise in units of 1/255.
        bits: to which the LR pictures are rounded; 0 leaves them as they are, as the papers do.
        gap_tv: whether GAP-TV runs beside the network (CASSI); it takes a minute per scene.
    """

    pictures: Sequence[Path]
    kernels: Sequence[str] = ()
    scale: int = 2
    sigma: float = 0.0
    bits: int = 0
    mask: Tensor | None = None
    gap_tv: bool = False
    seed: int = 0
    notices: list[str] = field(default_factory=list)


def evaluate(network: Unfolding, request: Request, run: Run) -> dict[str, Any]:
    """``mean`` (psnr, ssim), ``baselines`` by name, ``stages`` (mean psnr after each), ``images`` and ``notices``.

    Raises:
        InputError: a picture, a kernel or the scale cannot be used.
        Cancelled: the run was.
    """
    task = network.design.task
    makers: dict[str, Callable[[Unfolding, Request], Iterator[Example]]] = {"sr": _sr, "cs": _cs, "cassi": _cassi}
    closed = "tikhonov, told the kernel" if network.design.step == "learned" else "tikhonov"
    beside: dict[str, Baselines] = {
        "sr": {"bicubic": lambda e: bicubic(e.given), closed: lambda e: tikhonov(e.given)},
        "cs": {"adjoint": lambda e: _start(network, e)},
        "cassi": {"adjoint": _adjoint, "smooth": lambda e: _start(network, e), **({"gap-tv": _gap_tv} if request.gap_tv else {})},
    }
    rows = []
    for number, example in enumerate(makers[task](network, request)):
        rows.append(_row(network, example, beside[task]))
        run.progress("pictures", number + 1, len(request.pictures) * max(1, len(request.kernels)))
    if not rows:
        raise InputError("there are no pictures to measure on; name some")
    stages = [float(np.mean([row["stages"][stage] for row in rows])) for stage in range(network.design.stages)]
    found = {name: _mean([row["baselines"][name] for row in rows]) for name in beside[task]}
    return {
        "mean": _mean(rows),
        "baselines": found,
        "stages": stages,
        "images": rows,
        "notices": list(dict.fromkeys(request.notices)),
    }


def _row(network: Unfolding, example: Example, beside: Baselines) -> dict[str, Any]:
    task = network.design.task
    height, width = example.truth.shape[-2:]
    with torch.inference_mode():
        pictures = [picture[..., :height, :width] for picture in network.outputs(example.given)]
        others = {name: make(example)[..., :height, :width] for name, make in beside.items()}
    against = example.truth, example.border
    stages = [measure(task, picture.clone(), *against, similarity=False)["psnr"] for picture in pictures]
    return {
        "name": example.name,
        **measure(task, pictures[-1].clone(), *against),
        "stages": stages,
        "baselines": {name: measure(task, picture.clone(), *against) for name, picture in others.items()},
    }


def _mean(rows: Sequence[Mapping[str, Any]]) -> Scores:
    return {key: float(np.mean([row[key] for row in rows])) for key in ("psnr", "ssim")}


def _start(network: Unfolding, example: Example) -> Tensor:
    given = network.sensing.measured(example.given)
    return network.sensing.start(network.sensing.operator(given), given["y"])


def _sr(network: Unfolding, request: Request) -> Iterator[Example]:
    """Every picture through every kernel, cropped to a multiple of lcm(scale, 8)."""
    kernels = []
    for name in request.kernels:
        kernel, notice = find_kernel(name)
        kernels.append((Path(name).stem, kernel))
        request.notices.extend([notice] if notice else [])
    if request.scale not in (2, 3, 4):
        raise InputError(f"scale {request.scale} has no weights; there are 2, 3 and 4")
    for path in request.pictures:
        picture = to_tensor(read_picture(path).as_uint8())
        hr, notice = cropped(picture, math.lcm(request.scale, 8), path.name)
        request.notices.extend([notice] if notice else [])
        for number, (name, kernel) in enumerate(kernels):
            yield sr_example(
                hr, kernel, request.scale, f"{path.name} {name}", request.sigma / 255, request.seed + number, request.bits
            )


def cropped(picture: Tensor, multiple: int, name: str) -> tuple[Tensor, str]:
    """(1, C, H, W) cut at the bottom and right to multiples, and a notice if that took something away.

    Raises:
        InputError: nothing would be left.
    """
    height, width = picture.shape[-2:]
    rows, cols = height // multiple * multiple, width // multiple * multiple
    if not rows or not cols:
        raise InputError(f"{name} has {width} x {height} pixels, less than the {multiple} that are needed; give a larger one")
    notice = "" if (rows, cols) == (height, width) else f"{name} was cropped from {width} x {height} to {cols} x {rows} pixels"
    return picture[..., :rows, :cols], notice


def _cs(network: Unfolding, request: Request) -> Iterator[Example]:
    """Luminance, padded with zeros to whole blocks; what was padded is not measured."""
    assert isinstance(network.sensing, CsSensing)
    for path in request.pictures:
        picture = read_picture(path)
        rgb = to_tensor(picture.as_uint8())
        truth = rgb[:, :1] if picture.grey else luminance(rgb)
        height, width = truth.shape[-2:]
        padded = F.pad(truth, (0, -width % BLOCK, 0, -height % BLOCK))
        yield Example(path.name, {"y": network.sensing.at((padded.shape[-2], padded.shape[-1])).A(padded)}, truth)


def _cassi(network: Unfolding, request: Request) -> Iterator[Example]:
    """Scenes from .mat files, or painted on the middle of photographs, through the mask."""
    assert isinstance(network.sensing, CassiSensing)
    mask = coded_aperture() if request.mask is None else request.mask
    height, width = mask.shape
    for number, path in enumerate(request.pictures):
        if path.suffix.lower() == ".mat":
            scene = read_scene(path, network.sensing.bands)
        else:
            scene = paint(read_picture(path).as_uint8(), np.random.default_rng((request.seed, number)))[None]
        if scene.shape[-2] < height or scene.shape[-1] < width:
            raise InputError(
                f"the mask has {width} x {height} pixels, but the scene {path.name} {scene.shape[-1]} x {scene.shape[-2]}; "
                "give a mask of the scene's size or a larger scene"
            )
        top, left = (scene.shape[-2] - height) // 2, (scene.shape[-1] - width) // 2
        scene = scene[..., top : top + height, left : left + width]
        y = Cassi(mask[None, None], network.sensing.bands).A(scene)
        yield Example(path.name, {"y": y, "mask": mask[None, None]}, scene)


def _adjoint(example: Example) -> Tensor:
    return adjoint_start(Cassi(example.given["mask"], example.truth.shape[1]), example.given["y"])


def _gap_tv(example: Example) -> Tensor:
    return gap_tv(Cassi(example.given["mask"], example.truth.shape[1]), example.given["y"], _adjoint(example))
