"""Random patches for training, and batches of them that do not depend on how many processes make them."""

from __future__ import annotations

import platform
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate, get_worker_info

from srgui.degradations import degrade, find_degradation
from srgui.degradations.steps import filter_threads, gaussian_noise, to_float, to_uint8
from srgui.errors import InputError, SrguiError
from srgui.images import to_tensor
from srgui.training.pairs import Pairs

Given = Tensor | Mapping[str, Tensor]
Batch = tuple[Given, Tensor]


class Samples(Protocol):
    """An endless set of samples by number: what a network is given, one tensor or several by name, and what it is to make of it."""

    def __getitem__(self, sample: int) -> Batch:
        """Without a batch axis. Depends on nothing but the number and what the set was made of."""

    def share(self) -> bool:
        """Load what all samples are made of, for processes forked later; whether it fits into memory."""

    def divide(self, workers: int) -> None:
        """In one of several processes that share nothing: keep to a part of the memory."""


_JPEG_BLOCK = 8


class Patches(Dataset[tuple[Tensor, Tensor]]):
    """An endless set of samples; each depends on ``(seed, sample)`` and the pictures alone.

    A picture is drawn with a probability proportional to the square root of its area; place, flip and quarter turns are random.
    A random degradation is drawn anew for each sample, on the turned picture and with as much of the surroundings as
    matters, so that no border comes into the patch that is not one of the picture.

    Where ``pairs`` are resized, a sample is a whole picture as it stands, each once per epoch in an order of its own.

    Args:
        patch: side of the LR patches, pixels; resized pairs are not cut.
        noisy: share of the LR patches that get Gaussian noise of sigma U[0, 60] / 255.

    Raises:
        InputError: there is no pair, or one smaller than a patch.
    """

    def __init__(self, pairs: Pairs, *, patch: int, seed: int, noisy: float = 0.0) -> None:
        sizes = [pairs.lr_size(index) for index in range(len(pairs))]
        least = min((min(size) for size in sizes), default=0)
        if not sizes or (pairs.size is None and least < patch):
            raise InputError(
                f"{len(sizes)} pictures, the smallest LR of {least} pixels, give no patches of {patch}; give larger ones"
            )
        self.pairs, self.patch, self.seed, self.noisy = pairs, patch, seed, noisy
        self._reach = find_degradation(pairs.degradation).reach(pairs.scale)
        self._chance = np.cumsum([np.sqrt(height * width) for height, width in sizes])
        self._chance /= self._chance[-1]

    def __getitem__(self, sample: int) -> tuple[Tensor, Tensor]:
        """LR (3, p, p) and HR (3, p * scale, p * scale), float32 in [0, 1]; of resized pairs, p is their LR side.

        Raises:
            InputError: a file cannot be read, or is no longer the one that was checked.
        """
        rng = np.random.default_rng((self.seed, sample))
        lr, hr = self._cut(rng) if self.pairs.size is None else self._whole(sample, rng)
        if rng.random() < self.noisy:
            lr = to_uint8(gaussian_noise(to_float(lr), rng.uniform(0, 60), False, rng))
        return to_tensor(lr)[0], to_tensor(hr)[0]

    def share(self) -> bool:
        if self.pairs.fits:
            self.pairs.preload()
            return True
        return False

    def divide(self, workers: int) -> None:
        self.pairs.budget //= workers

    def _whole(self, sample: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        epoch, place = divmod(sample, len(self.pairs))
        order = np.random.default_rng((self.seed, epoch, len(self.pairs))).permutation(len(self.pairs))
        pair = self.pairs[int(order[place])]
        lr = degrade(self.pairs.degradation, pair.hr, self.pairs.scale, rng) if pair.lr is None else pair.lr
        return lr, pair.hr

    def _cut(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        pair = self.pairs[int(np.searchsorted(self._chance, rng.random(), side="right"))]
        turns, flip = int(rng.integers(4)), bool(rng.integers(2))
        hr, scale, side = _turned(pair.hr, turns, flip), self.pairs.scale, self.patch
        top, left = (int(rng.integers(length // scale - side + 1)) for length in hr.shape[:2])
        if pair.lr is None:
            lr = self._degraded(hr, top, left, rng)
        else:
            lr = _turned(pair.lr, turns, flip)[top : top + side, left : left + side]
        return lr, hr[top * scale : (top + side) * scale, left * scale : (left + side) * scale]

    def _degraded(self, hr: np.ndarray, top: int, left: int, rng: np.random.Generator) -> np.ndarray:
        """The LR patch at (top, left), degraded with its surroundings."""
        scale, side, reach = self.pairs.scale, self.patch, self._reach
        # JPEG blocks start where the crop starts: were that always as far from the patch, a network could learn the distance.
        first, before = (max(0, start - reach - int(rng.integers(_JPEG_BLOCK))) for start in (top, left))
        region = hr[first * scale : (top + side + reach) * scale, before * scale : (left + side + reach) * scale]
        lr = degrade(self.pairs.degradation, np.ascontiguousarray(region), scale, rng)
        return lr[top - first : top - first + side, left - before : left - before + side]


def batches(
    patches: Samples, batch: int, *, first_step: int, rank: int = 0, world: int = 1, workers: int = 0
) -> Generator[Batch, None, None]:
    """Yield without end, from ``first_step`` on, n samples stacked, n being batch / world: of :class:`Patches` LR (n, 3, p, p)
    and HR (n, 3, p * scale, p * scale).

    Step ``t`` is made of the samples ``t * batch`` to ``(t + 1) * batch - 1``, of which ``rank`` takes every ``world``-th: no
    sample comes twice, a resumed run sees what an uninterrupted one would have seen, and ``workers`` change nothing but
    the speed.

    Args:
        workers: processes that make the batches, ended when the generator is closed; with 0, this one makes them. On Linux they
            share the decoded pictures.

    Raises:
        InputError: ``batch`` is no multiple of ``world``, or, at a step, a picture cannot be read any more.
    """
    if batch < 1 or batch % world:
        raise InputError(f"a batch of {batch} cannot be divided among {world} processes; give a multiple of {world}")
    steps = _Steps(patches, batch, rank, world)
    return _checked(_in_workers(steps, first_step, workers) if workers else (steps[step] for step in count(first_step)))


@dataclass(frozen=True)
class _Steps(Dataset["Batch | SrguiError"]):
    """Step -> this rank's part of the batch, or why there is none: raised in a worker, an error would arrive as a traceback."""

    patches: Samples
    batch: int
    rank: int
    world: int

    def __getitem__(self, step: int) -> Batch | SrguiError:
        samples = range(step * self.batch + self.rank, (step + 1) * self.batch, self.world)
        try:
            given, wanted = default_collate([self.patches[sample] for sample in samples])
        except SrguiError as error:
            return error
        return given, wanted


def _checked(made: Generator[Batch | SrguiError, None, None]) -> Generator[Batch, None, None]:
    with closing(made):
        for batch in made:
            if isinstance(batch, SrguiError):
                raise batch
            yield batch


def _in_workers(steps: _Steps, first_step: int, workers: int) -> Generator[Batch | SrguiError, None, None]:
    forking = platform.system() == "Linux"  # elsewhere it is unsafe, or not there
    shared = forking and steps.patches.share()
    loader = DataLoader(
        steps,
        batch_size=None,
        sampler=count(first_step),
        num_workers=workers,
        collate_fn=_as_it_is,
        worker_init_fn=partial(_start_worker, shared=shared),
        multiprocessing_context="fork" if forking else None,
        generator=torch.Generator(),  # otherwise it draws from the global one, which a training may be using
    )
    threads = filter_threads(1)
    try:
        made = iter(loader)
    finally:
        filter_threads(threads)
    try:
        yield from made
    finally:
        del made  # ends the workers


def _start_worker(index: int, shared: bool) -> None:
    """Filter in one thread, as torch computes in a worker anyway; divide the memory if each decodes pictures for itself."""
    filter_threads(1)
    info: Any = get_worker_info()
    if not shared:
        info.dataset.patches.divide(info.num_workers)


def _as_it_is(batch: Any) -> Any:
    return batch


def _turned(samples: np.ndarray, turns: int, flip: bool) -> np.ndarray:
    """A view of (H, W, C), turned by quarters and mirrored."""
    turned = np.rot90(samples, turns)
    return turned[:, ::-1] if flip else turned
