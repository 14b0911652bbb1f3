"""Planes: pictures of the result's size that a blend is made of, kept where they cost least."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from srgui.errors import Cancelled, OutputError
from srgui.protocol import Box, Run
from srgui.resample import needed, resize_region

IN_MEMORY = 96 * 2**20  # bytes of float32 up to which a plane stays in memory (8 megapixels)


class Plane(Protocol):
    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""

    def read(self, box: Box, run: Run) -> Tensor:
        """(1, 3, box.height, box.width) float32 on the CPU."""

    def close(self) -> None: ...


class Store(Protocol):
    """Where a plane that was computed is kept."""

    def write(self, box: Box, values: Tensor) -> None: ...

    def read(self, box: Box) -> Tensor: ...

    def close(self) -> None: ...


class FloatStore:
    """A plane in memory, float32."""

    def __init__(self, height: int, width: int) -> None:
        self._values = torch.empty(1, 3, height, width)

    def write(self, box: Box, values: Tensor) -> None:
        self._values[(..., *box.slices)] = values

    def read(self, box: Box) -> Tensor:
        return self._values[(..., *box.slices)]

    def close(self) -> None:
        self._values = torch.empty(0)


class MappedStore:
    """A plane in a nameless temporary file: 16 bits over [-0.5, 1.5], a step of 3e-5, six bytes a pixel.

    Raises:
        OutputError: the temporary folder has no room for it.
    """

    def __init__(self, height: int, width: int) -> None:
        size = 3 * height * width * 2
        try:
            self._file = tempfile.TemporaryFile(prefix="srgui-plane-")  # noqa: SIM115 - lives as long as the store
            try:
                # A sparse mapping would end the process when the disk fills; reserving first makes it an error.
                os.posix_fallocate(self._file.fileno(), 0, size) if hasattr(os, "posix_fallocate") else self._file.truncate(size)
            except OSError:
                self._file.close()
                raise
        except OSError as error:
            raise OutputError(
                f"the temporary folder has no room for {size / 2**20:.0f} MB of working data ({error.strerror}); "
                "free some, or set TMPDIR to another folder"
            ) from error
        self._values = np.memmap(self._file, np.uint16, "r+", shape=(3, height, width))

    def write(self, box: Box, values: Tensor) -> None:
        grid = values[0].add(0.5).mul_(65535 / 2).round_().clamp_(0, 65535)
        self._values[(slice(None), *box.slices)] = grid.numpy().astype(np.uint16)

    def read(self, box: Box) -> Tensor:
        grid = np.ascontiguousarray(self._values[(slice(None), *box.slices)], dtype=np.float32)
        return torch.from_numpy(grid).mul_(2 / 65535).sub_(0.5)[None]

    def close(self) -> None:
        self._values = np.empty(0, np.uint16)  # type: ignore[assignment]
        self._file.close()


def store_for(height: int, width: int) -> Store:
    """Memory for small planes, a mapped file for large ones; which it is depends on the size alone."""
    return FloatStore(height, width) if 3 * height * width * 4 <= IN_MEMORY else MappedStore(height, width)


class Upsampled:
    """The anchor ``up``: bicubic upsampling of the LR picture, computed for each region anew."""

    def __init__(self, lr: Tensor, scale: int) -> None:
        self._lr = lr
        self._lr_size = lr.shape[-2], lr.shape[-1]
        self.size = self._lr_size[0] * scale, self._lr_size[1] * scale

    def read(self, box: Box, run: Run) -> Tensor:
        """
        Raises:
            Cancelled: it is closed.
        """
        if not self._lr.numel():
            raise Cancelled
        at = needed(self._lr_size, self.size, box)
        return resize_region(self._lr[(..., *at.slices)], at, self._lr_size, self.size, box)

    def close(self) -> None:
        self._lr = torch.empty(0)


class Computed:
    """A plane that is computed, whole, when it is first read.

    Args:
        compute: fills the store it is given; when it raises, nothing is kept and the next read starts again.
    """

    def __init__(self, size: tuple[int, int], compute: Callable[[Store, Run], None]) -> None:
        self.size = size
        self._compute = compute
        self._store: Store | None = None
        self._closed = False
        self._lock = threading.Lock()

    @property
    def ready(self) -> bool:
        return self._store is not None

    def read(self, box: Box, run: Run) -> Tensor:
        """
        Raises:
            Cancelled: it is closed; it would be computed anew for nobody.
        """
        with self._lock:
            if self._closed:
                raise Cancelled
            if self._store is None:
                store = store_for(*self.size)
                try:
                    self._compute(store, run)
                except BaseException:
                    store.close()
                    raise
                self._store = store
            return self._store.read(box)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._store is not None:
                self._store.close()
                self._store = None
