"""LR/HR pairs decoded to 8-bit arrays, and kept in memory as far as it goes."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from srgui.degradations import crop_to_multiple, degrade, is_random, rng_for
from srgui.device import free_memory
from srgui.errors import InputError
from srgui.images import read_picture, to_samples, to_tensor
from srgui.resample import resize
from srgui.training.preflight import Item


@dataclass(frozen=True)
class Pair:
    """One training picture: ``lr`` (h, w, 3) and ``hr`` (h * scale, w * scale, 3), both uint8."""

    path: Path
    lr: np.ndarray
    hr: np.ndarray


@dataclass(frozen=True)
class Decoded:
    """The samples of an item, uint8: ``hr`` (h * scale, w * scale, 3); ``lr`` (h, w, 3), or None where every look makes another."""

    lr: np.ndarray | None
    hr: np.ndarray

    @property
    def nbytes(self) -> int:
        return self.hr.nbytes + (self.lr.nbytes if self.lr is not None else 0)


class Pairs:
    """The pairs of ``items``, decoded when they are first asked for and kept while they fit into ``budget``.

    Beyond the budget those go whose last use is the longest ago; a set that fits is decoded once.

    Args:
        degradation: makes LR where an item has none; at once if it is not random.
        size: None, or the side to which every HR is resized, bicubic and antialiased, whatever its shape; LR to ``size / scale``.
        budget: bytes; None for a quarter of the memory that is free now.

    Raises:
        InputError: ``size`` is no multiple of ``scale``, or the degradation is none.
    """

    def __init__(
        self, items: Sequence[Item], scale: int, degradation: str, *, size: int | None = None, budget: int | None = None
    ) -> None:
        if size is not None and (size < scale or size % scale):
            raise InputError(f"pictures cannot be resized to {size} for x{scale}; give a multiple of {scale}")
        self.items, self.scale, self.degradation, self.size = items, scale, degradation, size
        self.budget = free_memory(torch.device("cpu")) // 4 if budget is None else budget
        self._random = is_random(degradation)
        self._kept: OrderedDict[int, Decoded] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self.items)

    def lr_size(self, index: int) -> tuple[int, int]:
        """Height and width of the LR, without decoding."""
        height, width = zoomed_size(self.items[index]) if self.size is None else (self.size, self.size)
        return height // self.scale, width // self.scale

    def __getitem__(self, index: int) -> Decoded:
        """The pair of ``items[index]``.

        Raises:
            InputError: a file cannot be read, or is no longer the one that was checked.
        """
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index]
        decoded = self._decode(self.items[index])
        self._kept[index] = decoded
        self._bytes += decoded.nbytes
        while self._bytes > self.budget:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return decoded

    @property
    def fits(self) -> bool:
        """Whether all pairs can be kept at once."""
        sizes = (self.lr_size(index) for index in range(len(self)))
        return sum(height * width * 3 * (self.scale**2 + 1) for height, width in sizes) <= self.budget

    def preload(self) -> None:
        """Decode all pairs now, so that processes forked later share them."""
        for index in range(len(self)):
            self[index]

    def _decode(self, item: Item) -> Decoded:
        hr, lr = read_hr(item, self.scale), read_lr(item, self.scale)
        if self.size is not None:
            hr = _resized(hr, self.size, self.size)
            lr = _resized(lr, self.size // self.scale, self.size // self.scale) if lr is not None else None
        elif item.zoom != 1:
            hr = crop_to_multiple(_resized(hr, *zoomed_size(item)), self.scale)
        if lr is None and not self._random:
            lr = degrade(self.degradation, hr, self.scale, rng_for(0, item.path.name))
        return Decoded(lr, hr)


def validation_pairs(items: Sequence[Item], scale: int, degradation: str, seed: int) -> list[Pair]:
    """Whole pictures with their LR file, or the LR that ``srgui.evaluation`` makes for the same degradation and seed.

    Raises:
        InputError: a file cannot be read, or is no longer the one that was checked.
    """
    pairs = []
    for item in items:
        hr, lr = read_hr(item, scale), read_lr(item, scale)
        pairs.append(Pair(item.path, degrade(degradation, hr, scale, rng_for(seed, item.path.name)) if lr is None else lr, hr))
    return pairs


def read_hr(item: Item, scale: int) -> np.ndarray:
    """(H, W, 3) uint8, cropped to multiples of ``scale``."""
    return crop_to_multiple(_read(item.path, (item.height, item.width)), scale)


def read_lr(item: Item, scale: int) -> np.ndarray | None:
    """(H // scale, W // scale, 3) uint8, or None where the item has no LR file."""
    if item.lr_path is None:
        return None
    return _read(item.lr_path, (item.height // scale, item.width // scale))


def _read(path: Path, size: tuple[int, int]) -> np.ndarray:
    samples = read_picture(path).as_uint8()
    if samples.shape[:2] != size:
        raise InputError(f"{path} has changed from {size[1]} x {size[0]} since it was checked; start again")
    return samples


def zoomed_size(item: Item) -> tuple[int, int]:
    """Height and width at which an item is shown."""
    return round(item.height * item.zoom), round(item.width * item.zoom)


def _resized(samples: np.ndarray, height: int, width: int) -> np.ndarray:
    return to_samples(resize(to_tensor(samples), height, width), 8)


def digest(paths: Sequence[Path]) -> str:
    """sha256 over the names and contents of ``paths``, in order: what a card states as its training list."""
    sha = hashlib.sha256()
    for path in paths:
        sha.update(path.name.encode("utf-8", "surrogateescape"))
        sha.update(hashlib.sha256(path.read_bytes()).digest())
    return sha.hexdigest()
