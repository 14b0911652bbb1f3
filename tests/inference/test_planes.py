from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from srgui.errors import Cancelled, OutputError
from srgui.inference.planes import IN_MEMORY, Computed, FloatStore, MappedStore, Upsampled, store_for
from srgui.protocol import Box, Run
from srgui.resample import resize


@pytest.mark.parametrize(("store", "bound"), [(FloatStore, 0.0), (MappedStore, 2e-5)])
def test_a_store_gives_back_what_was_written(store: type[FloatStore | MappedStore], bound: float) -> None:
    kept = store(40, 50)
    values = torch.rand(1, 3, 40, 50) * 2 - 0.5  # networks overshoot [0, 1]
    for box in (Box(0, 0, 25, 50), Box(25, 0, 15, 20), Box(25, 20, 15, 30)):
        kept.write(box, values[(..., *box.slices)])
    for box in (Box(0, 0, 40, 50), Box(20, 15, 10, 10), Box(39, 49, 1, 1)):
        read = kept.read(box)
        assert read.dtype == torch.float32
        torch.testing.assert_close(read, values[(..., *box.slices)], rtol=0, atol=bound)
    kept.close()


def test_a_mapped_store_clips_what_it_cannot_hold() -> None:
    kept = MappedStore(1, 2)
    kept.write(Box(0, 0, 1, 2), torch.tensor([-3.0, 3.0]).expand(1, 3, 1, 2))
    torch.testing.assert_close(kept.read(Box(0, 0, 1, 2))[0, 0, 0], torch.tensor([-0.5, 1.5]), rtol=0, atol=2e-5)
    kept.close()


def test_a_mapped_store_is_exact_on_the_grid_of_8_bits() -> None:
    """A second pass through 16 bits must not move an 8-bit sample."""
    grid = torch.arange(256).float().div(255).expand(1, 3, 1, 256)
    kept = MappedStore(1, 256)
    kept.write(Box(0, 0, 1, 256), grid)
    assert torch.equal(kept.read(Box(0, 0, 1, 256)).mul(255).round(), grid.mul(255).round())
    kept.close()


def test_which_store_depends_on_the_size_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "posix_fallocate", lambda *args: None)
    monkeypatch.setattr(np, "memmap", lambda *args, **kwargs: np.empty(0))
    side = int((IN_MEMORY / 12) ** 0.5)
    for _ in range(2):
        stores = [store_for(side, side), store_for(side + 1, side + 1)]
        assert [type(store) for store in stores] == [FloatStore, MappedStore]
        for store in stores:
            store.close()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def full(*args: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OutputError, match=r"no room for 6 MB of working data .*; free some, or set TMPDIR"):
        MappedStore(1024, 1024)


def test_no_temporary_folder_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*args: object, **kwargs: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "TemporaryFile", missing)
    with pytest.raises(OutputError, match="No usable temporary directory"):
        MappedStore(10, 10)


def test_a_mapped_store_leaves_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    kept = MappedStore(10, 10)
    assert not list(tmp_path.iterdir())
    kept.close()


def test_upsampled_is_the_bicubic_picture(picture: Callable[..., Tensor]) -> None:
    lr = picture(20, 30)
    plane = Upsampled(lr, 4)
    assert plane.size == (80, 120)
    box = Box(13, 40, 30, 7)
    torch.testing.assert_close(plane.read(box, Run()), resize(lr, 80, 120)[(..., *box.slices)], rtol=0, atol=1e-6)


def test_a_computed_plane_is_computed_once() -> None:
    calls = []

    def compute(store: object, run: Run) -> None:
        calls.append(store)
        store.write(Box(0, 0, 4, 4), torch.ones(1, 3, 4, 4))  # type: ignore[attr-defined]

    plane = Computed((4, 4), compute)
    assert not plane.ready
    assert calls == []
    for _ in range(3):
        assert plane.read(Box(0, 0, 2, 2), Run()).shape == (1, 3, 2, 2)
    assert len(calls) == 1


def test_a_closed_plane_is_not_computed_anew_for_nobody() -> None:
    computed: list[int] = []
    plane = Computed((4, 4), lambda store, run: computed.append(1))
    upsampled = Upsampled(torch.rand(1, 3, 4, 4), 2)
    for each in (plane, upsampled):
        each.close()
        with pytest.raises(Cancelled):
            each.read(Box(0, 0, 2, 2), Run())
    assert computed == []
