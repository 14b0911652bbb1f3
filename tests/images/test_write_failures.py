from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from srgui.errors import Cancelled, InputError, OutputError
from srgui.images import Layout, check_output, read_picture, write_picture

ALL = [".png", ".jpg", ".webp", ".tif"]


class Boom(Exception):
    pass


@pytest.mark.parametrize("suffix", ALL)
@pytest.mark.parametrize("error", [Cancelled(), Boom(), InputError("no"), KeyboardInterrupt()])
def test_what_the_strips_raise_passes_and_leaves_nothing(tmp_path, rgba8, suffix, error, make):
    samples = make.fitting(suffix, rgba8)
    path = tmp_path / "new" / f"a{suffix}"

    def strips() -> Iterator[np.ndarray]:
        yield samples[:9]
        assert not path.exists()
        raise error

    with pytest.raises(type(error)) as caught:
        write_picture(path, Layout(*samples.shape, 8), strips())
    assert caught.value is error
    assert make.left(tmp_path) == []


@pytest.mark.parametrize("suffix", ALL)
def test_a_failed_overwrite_keeps_the_old_file(tmp_path, rgba8, suffix, make):
    samples = make.fitting(suffix, rgba8)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"old")

    def strips() -> Iterator[np.ndarray]:
        yield samples[:9]
        raise Cancelled

    with pytest.raises(Cancelled):
        write_picture(path, Layout(*samples.shape, 8), strips(), overwrite=True)
    assert path.read_bytes() == b"old"
    assert make.left(tmp_path) == [path.name]


class Disk(io.FileIO):
    """A file on a disk that has room for ``room`` bytes."""

    room = 0
    code = errno.ENOSPC

    def write(self, data: object, /) -> int:
        if self.tell() + len(memoryview(data)) > self.room:  # type: ignore[arg-type]
            raise OSError(self.code, os.strerror(self.code))
        return super().write(data)  # type: ignore[arg-type]


@pytest.mark.parametrize("buffered", [False, True])
@pytest.mark.parametrize("room", [0, 40, 4000])
@pytest.mark.parametrize("suffix", ALL)
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, monkeypatch, suffix, room, buffered, make):
    """Buffered, a small file fails as late as on closing."""
    samples = np.random.default_rng(0).integers(0, 256, (60, 60, 3)).astype(np.uint8)
    monkeypatch.setattr(Disk, "room", room)

    def fake(path: Path, mode: str) -> object:
        return io.BufferedWriter(Disk(path, mode)) if buffered else Disk(path, mode)

    monkeypatch.setattr("srgui.images.write.open", fake, raising=False)
    with pytest.raises(OutputError, match="disk is full") as caught:
        make.save(tmp_path / "new" / f"a{suffix}", samples, quality=100)
    assert "\n" not in str(caught.value)
    assert make.left(tmp_path) == []


def test_other_errors_of_the_disk_are_said(tmp_path, rgba8, monkeypatch, make):
    monkeypatch.setattr(Disk, "code", errno.EIO)
    monkeypatch.setattr("srgui.images.write.open", Disk, raising=False)
    with pytest.raises(OutputError, match="Input/output error"):
        make.save(tmp_path / "a.png", rgba8)
    assert make.left(tmp_path) == []


def test_an_existing_file_is_refused_and_overwritten_only_on_request(tmp_path, rgba8, make):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match="--overwrite"):
        check_output(path, overwrite=False)
    with pytest.raises(OutputError, match="--overwrite"):
        make.save(path, rgba8)
    assert path.read_bytes() == b"old"
    check_output(path, overwrite=True)
    make.save(path, rgba8, overwrite=True)
    np.testing.assert_array_equal(read_picture(path).rgb, rgba8[..., :3])
    assert make.left(tmp_path) == ["a.png"]


def test_a_file_that_appears_while_the_result_is_made_is_not_overwritten(tmp_path, rgba8, make):
    path = tmp_path / "a.png"

    def strips() -> Iterator[np.ndarray]:
        path.write_bytes(b"another's")
        yield rgba8

    with pytest.raises(OutputError, match="exists already"):
        write_picture(path, Layout(*rgba8.shape, 8), strips())
    assert path.read_bytes() == b"another's"
    assert make.left(tmp_path) == ["a.png"]


def test_a_link_to_nowhere_is_an_existing_file(tmp_path, rgba8, make):
    (tmp_path / "a.png").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match="exists already"):
        check_output(tmp_path / "a.png", overwrite=False)
    with pytest.raises(OutputError, match="exists already"):
        make.save(tmp_path / "a.png", rgba8)


def test_the_input_is_refused_by_any_spelling(tmp_path, rgba8, monkeypatch, make):
    source = tmp_path / "a.png"
    make.save(source, rgba8)
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.png").symlink_to(source)
    os.link(source, tmp_path / "hard.png")
    monkeypatch.chdir(tmp_path)
    for spelling in ("a.png", "folder/../a.png", "link.png", "hard.png", str(source)):
        with pytest.raises(OutputError, match="is the input itself"):
            check_output(Path(spelling), overwrite=True, inputs=[tmp_path / "missing.png", source])
    check_output(Path("b.png"), overwrite=False, inputs=[source])


def test_folders_that_cannot_be_written_are_refused(tmp_path, rgba8, monkeypatch, make):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "a.png", tmp_path / "file" / "sub" / "a.png"):
        with pytest.raises(OutputError, match="is a file"):
            check_output(path, overwrite=False)
        with pytest.raises(OutputError, match="cannot be written"):
            make.save(path, rgba8)
    (tmp_path / "folder.png").mkdir()
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="folder"):
            check_output(tmp_path / "folder.png", overwrite=overwrite)
    with pytest.raises(OutputError):
        make.save(tmp_path / "folder.png", rgba8, overwrite=True)
    long = tmp_path / ("x" * 300 + ".png")
    with pytest.raises(OutputError, match="name"):
        check_output(long, overwrite=False)
    with pytest.raises(OutputError, match="name"):
        make.save(long, rgba8)
    assert make.left(tmp_path) == ["file", "folder.png"]
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(OutputError, match="cannot be written to"):
        check_output(tmp_path / "new" / "a.png", overwrite=False)
