"""LR/HR pairs held in memory as 8-bit arrays, and random patches cut from them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from srgui.degradations import bicubic_lr, crop_to_multiple
from srgui.degradations.steps import gaussian_noise, to_float, to_uint8
from srgui.errors import InputError
from srgui.images import list_pictures, read_picture


@dataclass(frozen=True)
class Pair:
    """One training picture: ``lr`` (h, w, 3) and ``hr`` (h * scale, w * scale, 3), both uint8."""

    path: Path
    lr: np.ndarray
    hr: np.ndarray


def load_pairs(paths: Sequence[Path], scale: int, minimum: int) -> list[Pair]:
    """Read HR pictures and make their LR by antialiased bicubic downscaling on 8 bits.

    Pictures whose LR would be smaller than ``minimum`` pixels on a side are left out.

    Raises:
        InputError: a picture cannot be read, or none is large enough.
    """
    pairs = []
    for path in paths:
        hr = crop_to_multiple(read_picture(path).as_uint8(), scale)
        if min(hr.shape[:2]) // scale >= minimum:
            pairs.append(Pair(path, bicubic_lr(hr, scale), hr))
    if not pairs:
        raise InputError(
            f"none of {len(paths)} pictures has {minimum * scale} pixels on both sides; give larger pictures or a smaller patch"
        )
    return pairs


def split(folders: Sequence[Path], held_out: int, seed: int) -> tuple[list[Path], list[Path]]:
    """List the pictures of ``folders`` and hold ``held_out`` of the first folder's back for validation."""
    first = list_pictures(folders[0])
    if not 0 < held_out < len(first):
        raise InputError(f"{folders[0]} holds {len(first)} pictures; held_out={held_out} must be at least 1 and fewer")
    chosen = np.random.default_rng(seed).choice(len(first), held_out, replace=False)
    validation = [first[i] for i in sorted(chosen)]
    train = [path for path in first if path not in validation]
    for folder in folders[1:]:
        train += list_pictures(folder)
    return train, validation


def digest(paths: Sequence[Path]) -> str:
    """sha256 over the names and contents of ``paths``, in order: what a card states as its training list."""
    sha = hashlib.sha256()
    for path in paths:
        sha.update(path.name.encode())
        sha.update(hashlib.sha256(path.read_bytes()).digest())
    return sha.hexdigest()


def patches(
    pairs: Sequence[Pair], batch: int, patch: int, seed: int, skip: int = 0, noisy: float = 0.0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield endless random batches, LR (batch, 3, patch, patch) and HR (batch, 3, patch * s, patch * s) in [0, 1].

    A share ``noisy`` of the LR patches gets Gaussian noise of sigma U[0, 60] / 255, so that a network meets noise at all.
    A picture is drawn with a probability proportional to the square root of its area; flips and quarter turns are random.
    Step ``n`` depends on ``(seed, n)`` alone, so a run resumed with ``skip`` sees what the uninterrupted run would have seen.
    """
    scale = pairs[0].hr.shape[0] // pairs[0].lr.shape[0]
    weight = np.array([np.sqrt(pair.lr.shape[0] * pair.lr.shape[1]) for pair in pairs])
    weight /= weight.sum()
    step = skip
    while True:
        rng = np.random.default_rng((seed, step))
        lrs, hrs = [], []
        for index in rng.choice(len(pairs), batch, p=weight):
            lr, hr = pairs[index].lr, pairs[index].hr
            top = rng.integers(lr.shape[0] - patch + 1)
            left = rng.integers(lr.shape[1] - patch + 1)
            lr = lr[top : top + patch, left : left + patch]
            hr = hr[top * scale : (top + patch) * scale, left * scale : (left + patch) * scale]
            turns, flip = int(rng.integers(4)), int(rng.integers(2))
            lr, hr = np.rot90(lr, turns), np.rot90(hr, turns)
            if flip:
                lr, hr = lr[:, ::-1], hr[:, ::-1]
            if rng.random() < noisy:
                lr = to_uint8(gaussian_noise(to_float(lr), rng.uniform(0, 60), False, rng))
            lrs.append(lr)
            hrs.append(hr)
        yield _to_batch(lrs), _to_batch(hrs)
        step += 1


def _to_batch(arrays: list[np.ndarray]) -> Tensor:
    nhwc = torch.from_numpy(np.stack(arrays))
    return nhwc.permute(0, 3, 1, 2).float().div_(255)
