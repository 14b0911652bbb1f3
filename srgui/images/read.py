"""Reading picture files of every mode and bit depth into a :class:`Picture`."""

from __future__ import annotations

import io
import json
import logging
import math
import os
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from srgui.errors import InputError
from srgui.images.deep import is_deep_tiff, read_deep_png, read_deep_tiff, tiff_size, upright_tiff
from srgui.images.exif import OFFSETS, ORIENTATION, SETTINGS_TAG, TIFF_MAGIC, Directory, parse, to_block
from srgui.images.picture import Picture

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif")
SETTINGS_KEY = "srgui"
_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")
_ICC_TAG = 34675
# What Pillow and its plugins raise on damaged data.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, struct.error, zlib.error)

# The limit is max_pixels(), checked on the header; Pillow's own would warn at 89 megapixels.
Image.MAX_IMAGE_PIXELS = None
# Pillow logs some of the errors that it raises; with no handler at all they would be printed.
logging.getLogger("PIL").addHandler(logging.NullHandler())


def max_pixels() -> int:
    """The largest picture that is read, in pixels: 300 megapixels, or ``SRGUI_MAX_MEGAPIXELS`` from the environment.

    Raises:
        InputError: the variable does not hold a positive number.
    """
    text = os.environ.get("SRGUI_MAX_MEGAPIXELS", "300")
    try:
        megapixels = float(text)
    except ValueError:
        megapixels = math.nan
    if not 0 < megapixels < math.inf:
        raise InputError(f"SRGUI_MAX_MEGAPIXELS is {text!r}, which is not a positive number; set it to megapixels, such as 300")
    return int(megapixels * 1e6)


def list_pictures(folder: Path) -> list[Path]:
    """The picture files directly in ``folder``, sorted by name.

    Raises:
        InputError: it is not a folder, or holds no picture.
    """
    try:
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder; give one that exists")
        found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}; give another folder") from error
    if not found:
        raise InputError(f"{folder} holds no picture; expected files ending in {', '.join(SUFFIXES)}")
    return found


def read_picture(path: str | Path) -> Picture:
    """Read a PNG, JPEG, WebP, TIFF, BMP or GIF file, 8 or 16 bits, grey, palette, CMYK, with or without alpha.

    EXIF orientation is applied. CMYK is converted to sRGB, a float TIFF to 16 bits. Of several frames the first is read.

    Raises:
        InputError: the file is missing, empty, damaged, not a picture, too large, or holds NaN or Inf.
    """
    path = Path(path)
    with _reading(path):
        data = path.read_bytes()
        if not data:
            raise InputError("the file is empty (0 bytes); the copy or download may have failed")
        return _decode(data).picture(path)


def decode_picture(data: bytes, name: str) -> Picture:
    """As :func:`read_picture`, of a file's content; messages call it ``name``.

    Raises:
        InputError: it is damaged, not a picture, or too large.
    """
    with _reading(Path(name)):
        return _decode(data).picture(Path(name))


def read_settings(path: str | Path) -> Mapping[str, Any] | None:
    """The srgui settings embedded in a file, or None; reads the header only.

    Raises:
        InputError: the file is missing or not a picture.
    """
    path = Path(path)
    with _reading(path), path.open("rb") as file, Image.open(file, formats=_FORMATS) as image:
        if image.format == "TIFF":
            return _tagged_settings(getattr(image, "tag_v2", {}).get(SETTINGS_TAG))
        return _settings_of(image.info, parse(image.info.get("exif", b"")))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn whatever a file can do to its decoder into an :class:`InputError` that names the file, in one line."""
    try:
        if path.is_dir():
            raise InputError("this is a folder, not a picture")
        if path.exists() and not path.is_file():  # a pipe would block
            raise InputError("this is not a regular file")
        with warnings.catch_warnings():
            # Pillow warns of damaged EXIF entries that it meets on the way; they are read, and reported, by srgui.images.exif.
            warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
            yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; check the name") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is not a picture that can be read; expected PNG, JPEG, WebP, TIFF, BMP or GIF") from error
    except MemoryError as error:
        raise InputError(f"{path} is damaged, or there is not enough memory for its pixels; copy or export it again") from error
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.filename is not None:  # the system's, not a decoder's
            raise InputError(f"{path} cannot be read: {error.strerror}") from error
        raise InputError(f"{path} is damaged: {' '.join(str(error).split())}; copy or export it again") from error


@dataclass
class _Raw:
    """Decoded samples before orientation: (H, W) or (H, W, C) with C in 1..4, and the metadata."""

    samples: np.ndarray
    exif: Directory | None = None
    icc: object = None
    settings: Mapping[str, Any] | None = None
    notes: list[str] = field(default_factory=list)

    def picture(self, path: Path) -> Picture:
        samples = self.samples if self.samples.ndim == 3 else self.samples[..., None]
        exif = None
        if self.exif is not None:
            samples = _upright(samples, self.exif.number(ORIENTATION, 1))
            exif = _kept(self.exif)
            if self.exif.damaged:
                self.notes.append("damaged EXIF entries left out")
        channels = samples.shape[2]
        alpha = np.ascontiguousarray(samples[..., -1]) if channels in (2, 4) else None
        grey = channels <= 2
        rgb = np.repeat(samples[..., :1], 3, axis=2) if grey else np.ascontiguousarray(samples[..., :3])
        icc = self.icc if isinstance(self.icc, bytes) and self.icc else None
        return Picture(rgb, alpha, grey, icc, exif, self.settings, tuple(self.notes), path)


def _decode(data: bytes) -> _Raw:
    tags = parse(data) if data[:4] in TIFF_MAGIC else None
    if tags is None:
        return _decode_with_pillow(data, None)
    _check_size(*tiff_size(tags))
    exif = tags.descriptive()
    exif.values |= {ORIENTATION: tags.values[ORIENTATION]} if ORIENTATION in tags.values else {}
    data = upright_tiff(data, tags)
    if not is_deep_tiff(tags):
        return _decode_with_pillow(data, exif)
    samples, notes = read_deep_tiff(data, tags)
    return _Raw(samples, exif, tags.values.get(_ICC_TAG, (0, None))[1], _settings_of({}, exif), notes)


def _decode_with_pillow(data: bytes, exif: Directory | None) -> _Raw:
    """``exif``: that of a TIFF; the other formats hold theirs in a block."""
    with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
        _check_size(image.height, image.width)
        notes = []
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":
            notes.append(f"first of {frames} frames")
        image.load()
        if exif is None:
            exif = parse(_exif_block(image.info))
        settings = _settings_of(image.info, exif)
        icc = image.info.get("icc_profile")
        if image.format == "PNG" and data[24] == 16 and data[25] != 0:
            return _Raw(read_deep_png(data), exif, icc, settings, notes)
        if image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
            notes.append(f"{image.mode} converted to sRGB")
            return _Raw(np.asarray(_to_srgb(image, icc)), exif, None, settings, notes)
        grey_bits = data[24] if image.format == "PNG" else 8
        return _Raw(_samples(image, grey_bits), exif, icc, settings, notes)


def _samples(image: Image.Image, grey_bits: int) -> np.ndarray:
    """Samples of a Pillow image: uint8, or uint16 for 16-bit grey, with alpha where a colour is declared transparent."""
    if image.mode in ("I", "F"):
        raise InputError(f"32-bit samples in {image.format} are not supported; export 8 or 16 bits")
    key = image.info.get("transparency")
    if image.mode.startswith("I;16"):
        samples = np.asarray(image).astype(np.uint16)
    elif image.mode == "P":
        return np.asarray(image.convert("RGB" if key is None else "RGBA"))
    else:
        wanted = {"1": "L", "PA": "RGBA", "La": "LA", "RGBa": "RGBA", "RGBX": "RGB"}.get(image.mode, image.mode)
        samples = np.asarray(image.convert(wanted) if wanted != image.mode else image)
    if key is None or (image.mode not in ("1", "L", "RGB") and samples.dtype != np.uint16):
        return samples
    if image.mode == "L" and grey_bits < 8:
        key *= 255 // ((1 << grey_bits) - 1)  # the samples are scaled to 8 bits, the key is not
    samples = samples if samples.ndim == 3 else samples[..., None]
    opaque = (samples != np.asarray(key)).any(axis=2, keepdims=True)
    return np.concatenate([samples, np.where(opaque, np.iinfo(samples.dtype).max, 0).astype(samples.dtype)], axis=2)


def _to_srgb(image: Image.Image, icc: bytes | None) -> Image.Image:
    if icc is None or image.mode != "CMYK":
        return image.convert("RGB")
    try:
        converted = ImageCms.profileToProfile(image, io.BytesIO(icc), ImageCms.createProfile("sRGB"), outputMode="RGB")
    except ImageCms.PyCMSError:  # a profile that is damaged or not of CMYK
        converted = None
    return converted if converted is not None else image.convert("RGB")


def _check_size(height: int, width: int) -> None:
    limit = max_pixels()
    if height * width > limit:
        raise InputError(
            f"{width} x {height} pixels are more than the limit of {limit / 1e6:g} megapixels "
            "(a guard against decompression bombs); raise it with SRGUI_MAX_MEGAPIXELS"
        )


def _upright(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation (1..8) to (H, W, C)."""
    if orientation in (5, 6, 7, 8):
        samples = samples.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return np.ascontiguousarray(samples)


def _exif_block(info: Mapping[Any, Any]) -> bytes:
    block = info.get("exif", b"")
    written_by_imagemagick = info.get("Raw profile type exif")
    if not block and isinstance(written_by_imagemagick, str):
        try:
            return bytes.fromhex("".join(written_by_imagemagick.split("\n")[3:]))
        except ValueError:  # no EXIF then
            return b""
    return block if isinstance(block, bytes) else b""


def _kept(exif: Directory) -> bytes | None:
    """The EXIF without what was used in reading it and what does not hold in another file."""
    values = {tag: value for tag, value in exif.values.items() if tag != ORIENTATION and tag not in OFFSETS}
    if exif.text(SETTINGS_TAG).startswith(SETTINGS_KEY + " "):
        del values[SETTINGS_TAG]
    kept = Directory(exif.order, values=values, children=exif.children)
    return to_block(kept) if kept.values or kept.children else None


def _settings_of(info: Mapping[Any, Any], exif: Directory | None) -> Mapping[str, Any] | None:
    text = info.get(SETTINGS_KEY)
    if isinstance(text, str):
        return _settings(text)
    return _tagged_settings(exif.text(SETTINGS_TAG)) if exif is not None else None


def _tagged_settings(text: object) -> Mapping[str, Any] | None:
    if not isinstance(text, str) or not text.startswith(SETTINGS_KEY + " "):
        return None
    return _settings(text.removeprefix(SETTINGS_KEY + " "))


def _settings(text: str) -> Mapping[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # not ours, or hostile
        return None
    return value if isinstance(value, dict) else None
