"""Small pictures and metadata that the tests of this room share."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from srgui.errors import InputError
from srgui.images import Layout, Picture, read_picture, write_picture

HEIGHT, WIDTH = 18, 27
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


@pytest.fixture
def rgba16() -> np.ndarray:
    """(18, 27, 4) uint16: gradients with noise, so that rows, columns and channels all differ."""
    rng = np.random.default_rng(0)
    down, across = np.mgrid[0:HEIGHT, 0:WIDTH]
    planes = [down * 3000, across * 2300, (down + across) * 1400, 65535 - down * 2500]
    noisy = np.stack(planes, axis=2) + rng.integers(0, 600, (HEIGHT, WIDTH, 4))
    return noisy.clip(0, 65535).astype(np.uint16)


@pytest.fixture
def rgba8(rgba16: np.ndarray) -> np.ndarray:
    return (rgba16 >> 8).astype(np.uint8)


@pytest.fixture
def icc() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture
def exif() -> bytes:
    """An EXIF block made by Pillow: orientation 6, Exif and GPS directories, pixel dimensions of another size."""
    block = Image.Exif()
    block[0x010F] = "Maker"
    block[0x0110] = "Model 7"
    block[0x0112] = 6
    block[0x8769] = {0x829A: 0.005, 0x9003: "2024:05:06 07:08:09", 0x9286: b"ASCII\0\0\0hello", 0xA002: 4000, 0xA003: 3000}
    block[0x8825] = {1: "N", 2: (48.0, 51.0, 29.5), 3: "E", 4: (2.0, 17.0, 40.0)}
    return block.tobytes().removeprefix(b"Exif\0\0")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def packed(values: np.ndarray, bits: int) -> bytes:
    """Scanlines of (H, W, C) samples, each with filter 0 in front."""
    if bits >= 8:
        rows = values.astype(f">u{bits // 8}").reshape(len(values), -1).view(np.uint8)
    else:
        digits = (values.reshape(len(values), -1, 1) >> np.arange(bits - 1, -1, -1)) & 1
        rows = np.packbits(digits.reshape(len(values), -1).astype(np.uint8), axis=1)
    return b"".join(b"\0" + row.tobytes() for row in rows)


def png(values: np.ndarray, bits: int, colour: int, extra: bytes = b"", interlaced: bool = False) -> bytes:
    """A PNG of (H, W, C) samples, written from the specification: Pillow writes neither every depth nor interlaced."""
    height, width = values.shape[:2]
    passes = [values[top::down, left::across] for top, left, down, across in ADAM7] if interlaced else [values]
    data = b"".join(packed(part, bits) for part in passes if part.size)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, int(interlaced)))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def pillow(samples: np.ndarray | Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    (samples if isinstance(samples, Image.Image) else Image.fromarray(samples)).save(out, kind, **options)
    return out.getvalue()


def tiff(samples: np.ndarray, photometric: str = "rgb", **options: object) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, samples, photometric=photometric, **options)
    return out.getvalue()


def read(folder: Path, data: bytes, name: str = "picture") -> Picture:
    path = folder / name
    path.write_bytes(data)
    return read_picture(path)


def refusal(folder: Path, data: bytes) -> str:
    """The message with which a file is refused, without its path; one line."""
    with pytest.raises(InputError) as caught:
        read(folder, data)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(folder / "picture"))
    return message.removeprefix(str(folder / "picture"))


def three(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey.reshape(*grey.shape[:2], 1), 3, axis=2)


def same(picture: Picture, rgb: np.ndarray, alpha: np.ndarray | None = None, *, grey: bool = False) -> None:
    assert picture.rgb.dtype == rgb.dtype
    np.testing.assert_array_equal(picture.rgb, rgb)
    assert (picture.alpha is None) == (alpha is None)
    if alpha is not None and picture.alpha is not None:
        assert picture.alpha.dtype == rgb.dtype
        np.testing.assert_array_equal(picture.alpha, alpha)
    assert picture.grey == grey


def stored_sideways(samples: np.ndarray, kind: str, orientation: int) -> bytes:
    if kind == "TIFF":
        return tiff(samples, extratags=[(274, "H", 1, orientation, True)])
    block = Image.Exif()
    block[0x0112] = orientation
    return pillow(samples, kind, exif=block.tobytes(), **({"lossless": True} if kind == "WEBP" else {}))


def entries(block: bytes | None) -> Image.Exif:
    assert block is not None
    found = Image.Exif()
    found.load(block)
    return found


def samples_of_files(rgba8: np.ndarray, rgba16: np.ndarray, exif: bytes) -> dict[str, bytes]:
    block = b"Exif\0\0" + exif
    frames = [Image.fromarray(rgba8[..., :3]).convert("P")] * 2
    return {
        "png": pillow(rgba8, "PNG", exif=block),
        "png16": png(rgba16, 16, 6),
        "jpeg": pillow(rgba8[..., :3], "JPEG", exif=block),
        "webp": pillow(rgba8, "WEBP", exif=block),
        "bmp": pillow(rgba8[..., :3], "BMP"),
        "gif": pillow(frames[0], "GIF", save_all=True, append_images=frames[1:], transparency=3),
        "tiff lzw": pillow(rgba8, "TIFF", compression="tiff_lzw"),
        "tiff jpeg": pillow(rgba8[..., :3], "TIFF", compression="jpeg"),
        "tiff16": tiff(rgba16[..., :3], compression="zlib"),
        "bigtiff": tiff(rgba16[..., :3], bigtiff=True, tile=(16, 16)),
        "float": tiff((rgba16[..., :3] / 65535).astype(np.float32)),
    }


def bomb() -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(100_000))) + chunk(b"IEND", b"")


def tiff_bomb() -> bytes:
    tags = [(256, 100_000), (257, 100_000), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1), (278, 100_000), (279, 100)]
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + body + bytes(104)


def save(path: Path, samples: np.ndarray, height: int = 5, **options: object) -> bytes:
    """Write (H, W, C) samples in strips of ``height`` rows, in the layout that they have."""
    layout = Layout(*samples.shape, samples.dtype.itemsize * 8)
    write_picture(path, layout, [samples[top : top + height] for top in range(0, len(samples), height)], **options)
    return path.read_bytes()


def fitting(suffix: str, rgba8: np.ndarray) -> np.ndarray:
    return rgba8[..., :3] if suffix == ".jpg" else rgba8


def with_opencv(data: bytes) -> np.ndarray:
    """Samples as (H, W, C), RGB(A)."""
    samples = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert samples is not None
    return samples[..., None] if samples.ndim == 2 else samples[..., [2, 1, 0, 3][: samples.shape[2]]]


def left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def make() -> SimpleNamespace:
    """The functions above: the tests are imported without a package, so they cannot import them."""
    return SimpleNamespace(
        chunk=chunk,
        png=png,
        pillow=pillow,
        tiff=tiff,
        read=read,
        refusal=refusal,
        three=three,
        same=same,
        stored_sideways=stored_sideways,
        entries=entries,
        samples_of_files=samples_of_files,
        bomb=bomb,
        tiff_bomb=tiff_bomb,
        save=save,
        fitting=fitting,
        with_opencv=with_opencv,
        left=left,
    )
