"""Measuring a restorer on a folder of HR pictures, in the protocol of the SR literature, beside bicubic."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from srgui.degradations import crop_to_multiple, degrade, rng_for
from srgui.errors import InputError, SrguiError
from srgui.images import Layout, Picture, list_pictures, read_picture, to_samples, to_tensor, write_picture
from srgui.inference.batch import names
from srgui.inference.outscale import Resized
from srgui.metrics import Lpips, Scores, score
from srgui.protocol import Box, Prepared, Restorer, Run, Setting, Source
from srgui.resample import resize

if TYPE_CHECKING:
    from torch import Tensor

_ROWS = 64


@dataclass(frozen=True)
class Protocol:
    """How LR is made and what is measured. PSNR and SSIM are on BT.601 Y with ``crop_border = scale``, SR rounded to 8 bits."""

    degradation: str = "bicubic"
    seed: int = 0

    def lr_of(self, hr: np.ndarray, scale: int, name: str) -> np.ndarray:
        return degrade(self.degradation, hr, scale, rng_for(self.seed, name))


@dataclass(frozen=True)
class Measured:
    """One picture's scores, the model's and bicubic's, and how many seconds the model took."""

    name: str
    model: Scores
    bicubic: Scores
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, **self.model, "bicubic": self.bicubic}


def consistency(prepared: Prepared, setting: Setting, lr: Tensor, run: Run, part: Box | None = None) -> float:
    """LR consistency, dB: PSNR over RGB of ``lr`` and the antialiased bicubic downscale of the rendered picture, clipped.

    Works strip by strip, so a large result is never held as floats; equals :func:`srgui.metrics.lr_consistency`.

    Args:
        lr: (1, 3, h, w) in [0, 1].
        part: of the LR picture, where only that counts.
    """
    height, width = lr.shape[-2:]
    small = Resized(Clipped(prepared), (height, width))
    total = 0.0
    part = part or Box(0, 0, height, width)
    for top in range(part.top, part.bottom, _ROWS):
        box = Box(top, part.left, min(_ROWS, part.bottom - top), part.width)
        total += float((small.render(setting, run, box).double() - lr[(..., *box.slices)].double()).square().sum())
        run.check()
    mse = total / (3 * part.height * part.width)
    return -10 * math.log10(mse) if mse > 0 else math.inf


class Clipped:
    """A prepared picture as it is saved: in [0, 1]."""

    def __init__(self, inner: Prepared) -> None:
        self._inner, self.size = inner, inner.size

    def render(self, setting: Setting, run: Run, region: Box | None = None) -> Tensor:
        return self._inner.render(setting, run, region).clamp(0, 1)

    def close(self) -> None:
        self._inner.close()


def restore(restorer: Restorer, lr: Tensor, setting: Setting, run: Run) -> Tensor:
    """The whole result for ``lr`` (1, 3, h, w) in [0, 1], clipped: (1, 3, h * s, w * s)."""
    prepared = restorer.prepare(Source(lr), run)
    try:
        return prepared.render(setting, run).clamp(0, 1)
    finally:
        prepared.close()


def evaluate(
    restorer: Restorer,
    hr_paths: Sequence[Path],
    protocol: Protocol,
    setting: Setting,
    run: Run,
    *,
    lr_dir: Path | None = None,
    lpips: Lpips | None = None,
    save: Path | None = None,
) -> tuple[list[Measured], list[tuple[Path, str]]]:
    """Measure picture by picture; one that fails does not stop the others.

    Args:
        lr_dir: LR pictures of the same stems, instead of the protocol's degradation.
        save: a folder for ``<stem>_lr.png`` and ``<stem>_sr.png``.

    Returns:
        The scores, and the pictures that failed with the reason.
    """
    measured, failed = [], []
    scale = restorer.info.scale
    for index, (path, label) in enumerate(zip(hr_paths, names(hr_paths), strict=True)):
        run.progress("pictures", index, len(hr_paths))
        try:
            hr8 = crop_to_multiple(read_picture(path).as_uint8(), scale)
            if 0 in hr8.shape:
                raise InputError(f"{path} is smaller than the scale {scale}; give larger HR pictures")
            lr8 = protocol.lr_of(hr8, scale, path.name) if lr_dir is None else _partner(path, lr_dir, hr8.shape, scale)
            lr, hr = to_tensor(lr8), to_tensor(hr8)
            begun = time.perf_counter()
            sr = restore(restorer, lr, setting, run)
            seconds = time.perf_counter() - begun
            up = resize(lr, hr.shape[-2], hr.shape[-1])
            scores = Measured(path.name, score(sr, hr, scale, lpips), score(up, hr, scale, lpips), seconds)
            if save is not None:
                for suffix, samples in (("lr", lr8), ("sr", to_samples(sr, 8))):
                    write_picture(save / f"{label}_{suffix}.png", _layout(samples), [samples], overwrite=True)
            measured.append(scores)
        except SrguiError as error:
            run.check()
            failed.append((path, str(error)))
    run.progress("pictures", len(hr_paths), len(hr_paths))
    return measured, failed


def summary(measured: Sequence[Measured], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The stable JSON of an evaluation: means, bicubic's means, every picture, and the settings."""
    keys = ("psnr_y", "ssim_y", "lpips")
    return {
        "mean": {key: _mean([m.model[key] for m in measured]) for key in keys},
        "bicubic": {key: _mean([m.bicubic[key] for m in measured]) for key in keys},
        "images": [m.as_json() for m in measured],
        "settings": dict(settings),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _partner(path: Path, folder: Path, shape: tuple[int, ...], scale: int) -> np.ndarray:
    found = [p for p in list_pictures(folder) if p.stem == path.stem]
    if not found:
        raise InputError(f"{folder} holds no LR picture named {path.stem}; each HR picture needs one of its name")
    picture: Picture = read_picture(found[0])
    expected = shape[0] // scale, shape[1] // scale
    if picture.size != expected:
        raise InputError(f"{found[0]} is {_size(picture.size)}; for {path.name} at x{scale} it must be {_size(expected)}")
    return picture.as_uint8()


def _size(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"


def _layout(samples: np.ndarray) -> Layout:
    height, width, channels = samples.shape
    return Layout(height, width, channels, 8)
