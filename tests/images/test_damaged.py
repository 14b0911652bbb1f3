from __future__ import annotations

import os
import struct
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import ImageFile

from srgui.errors import InputError
from srgui.images import list_pictures, max_pixels, read_picture, read_settings

NAMES = ["png", "png16", "jpeg", "webp", "bmp", "gif", "tiff lzw", "tiff jpeg", "tiff16", "bigtiff", "float"]


def test_files_that_are_no_pictures(tmp_path, make):
    assert "0 bytes" in make.refusal(tmp_path, b"")
    for data in (b"\n", b"just some text\n", b"%PDF-1.7", b"\x89PNG\r\n\x1a\n", b"GIF89a"):
        make.refusal(tmp_path, data)
    for data in (b"II*\0", b"II*\0\x08\0\0\0", b"MM\0+" + bytes(40)):
        make.refusal(tmp_path, data)
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(InputError, match="not a picture"):
        read_picture(tmp_path / "text.png")
    with pytest.raises(InputError, match="not a picture"):
        read_settings(tmp_path / "text.png")


@pytest.mark.parametrize("reader", [read_picture, read_settings])
def test_paths_that_are_no_files(tmp_path, reader):
    with pytest.raises(InputError, match="does not exist"):
        reader(tmp_path / "missing.png")
    with pytest.raises(InputError, match="folder"):
        reader(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        reader(tmp_path / ("x" * 300 + ".png"))
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InputError, match="not a regular file"):
        reader(tmp_path / "pipe.png")


def test_paths_with_spaces_and_unicode(tmp_path, rgba8, make):
    folder = tmp_path / "a folder" / "日本 ü"
    folder.mkdir(parents=True)
    path = folder / "ein Bild 🖼.png"
    path.write_bytes(make.png(rgba8, 8, 6))
    assert read_picture(str(path)).path == path
    assert list_pictures(folder) == [path]


def test_a_picture_may_have_a_wrong_suffix(tmp_path, rgba8, make):
    make.same(make.read(tmp_path, make.png(rgba8[..., :3], 8, 2), "really a png.jpg"), rgba8[..., :3])


@pytest.fixture
def undecoded(monkeypatch):
    """Fails the test if samples are decoded."""

    def decoded(*_args, **_kwargs):
        pytest.fail("samples were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decoded)
    monkeypatch.setattr(cv2, "imdecode", decoded)


@pytest.mark.usefixtures("undecoded")
@pytest.mark.parametrize("kind", ["bomb", "tiff_bomb"])
def test_a_decompression_bomb_is_refused_by_its_header(tmp_path, kind, make):
    message = make.refusal(tmp_path, getattr(make, kind)())
    assert "100000 x 100000" in message
    assert "300 megapixels" in message
    assert "SRGUI_MAX_MEGAPIXELS" in message


def test_the_limit_can_be_moved(tmp_path, rgba8, monkeypatch, make):
    data = make.png(rgba8, 8, 6)
    monkeypatch.setenv("SRGUI_MAX_MEGAPIXELS", "0.000485")
    assert max_pixels() == 485
    assert "27 x 18" in make.refusal(tmp_path, data)
    monkeypatch.setenv("SRGUI_MAX_MEGAPIXELS", "0.000486")
    make.read(tmp_path, data)


@pytest.mark.parametrize("value", ["many", "", "0", "-3", "nan", "inf"])
def test_a_limit_that_is_no_number_is_refused(tmp_path, rgba8, monkeypatch, value, make):
    monkeypatch.setenv("SRGUI_MAX_MEGAPIXELS", value)
    assert "SRGUI_MAX_MEGAPIXELS" in make.refusal(tmp_path, make.png(rgba8, 8, 6))


def silent(name, capfd):
    """Nothing was printed, except by Pillow's libtiff, which offers no way to be quiet about damaged strips."""
    out, err = capfd.readouterr()
    return out == "" and (err == "" or name.startswith("tiff"))


@pytest.mark.parametrize("name", NAMES)
def test_a_truncated_file_is_read_or_refused(tmp_path, rgba8, rgba16, exif, name, capfd, make):
    data = make.samples_of_files(rgba8, rgba16, exif)[name]
    make.read(tmp_path, data)
    for tenth in range(10):
        try:
            make.read(tmp_path, data[: len(data) * tenth // 10])
        except InputError as error:
            assert "\n" not in str(error)
    assert silent(name, capfd)


@pytest.mark.parametrize("name", ["png", "png16", "jpeg", "webp", "tiff lzw", "tiff16"])
def test_a_file_cut_in_the_middle_is_refused(tmp_path, rgba8, rgba16, exif, name, make):
    data = make.samples_of_files(rgba8, rgba16, exif)[name]
    make.refusal(tmp_path, data[: len(data) // 2])


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_is_read_or_refused_in_silence(tmp_path, rgba8, rgba16, exif, name, capfd, monkeypatch, make):
    monkeypatch.setenv("SRGUI_MAX_MEGAPIXELS", "1")  # a damaged header may claim a size that is costly and allowed
    data = make.samples_of_files(rgba8, rgba16, exif)[name]
    rng = np.random.default_rng(2)
    for i in range(60):
        damaged = bytearray(data)
        damaged[int(rng.integers(0, len(data) if i % 2 else min(len(data), 200)))] ^= int(rng.integers(1, 256))
        for reader in (read_picture, read_settings):
            path = tmp_path / "damaged"
            path.write_bytes(damaged)
            try:
                reader(path)
            except InputError as error:
                assert "\n" not in str(error)
    assert silent(name, capfd)


@pytest.mark.parametrize(("place", "reason"), [(-14, "checksum"), (-20, "damaged")])  # of the chunk, of the stream in it
def test_a_16_bit_png_whose_checksum_fails_is_refused(tmp_path, rgba16, make, place, reason, capfd):
    data = bytearray(make.png(rgba16, 16, 6))
    data[place] ^= 1
    assert reason in make.refusal(tmp_path, bytes(data))
    assert capfd.readouterr() == ("", "")


def test_a_chunk_that_claims_more_than_there_is_does_not_reach_libpng(tmp_path, rgba16, make, monkeypatch):
    """It would ask for the memory, and take seconds over it."""
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("libpng was asked"))
    data = bytearray(make.png(rgba16, 16, 6))
    at = data.index(b"IDAT") - 4
    data[at : at + 4] = b"\xd0\0\0\0"
    make.refusal(tmp_path, bytes(data))


def test_a_program_that_sets_up_no_logging_sees_no_noise(tmp_path, rgba8, make):
    """Pillow logs that a TIFF has too many channels for it."""
    data = bytearray(make.tiff(rgba8[..., :3]))
    struct.pack_into("<H", data, data.index(struct.pack("<HHI", 277, 3, 1)) + 8, 4000)
    (tmp_path / "a.tif").write_bytes(data)
    program = (
        "import sys; from srgui.errors import InputError; from srgui.images import read_picture\n"
        "try: read_picture(sys.argv[1])\n"
        "except InputError: print('refused')"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "a.tif")], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("refused\n", "")
