"""Samples of more than 8 bits, which Pillow reduces or refuses: PNG and TIFF through OpenCV."""

from __future__ import annotations

import struct
import zlib

import numpy as np

from srgui.errors import InputError
from srgui.images.exif import ORIENTATION, Directory

_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _SAMPLES, _PLANAR, _EXTRA, _FORMAT = 256, 257, 258, 262, 277, 284, 338, 339
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_PREMULTIPLIED = 1
_PNG_END = b"\0\0\0\0IEND\xae\x42\x60\x82"
_SLACK = 0.5  # by which sharpening and resampling may leave [0, 1] before a float TIFF is taken to be on another scale


def is_deep_tiff(tags: Directory) -> bool:
    """Whether Pillow would lose bits of this TIFF."""
    return max(tags.numbers(_BITS), default=1) > 8


def tiff_size(tags: Directory) -> tuple[int, int]:
    """Height and width, before orientation.

    Raises:
        InputError: the directory names none.
    """
    height, width = tags.number(_HEIGHT, 0), tags.number(_WIDTH, 0)
    if height <= 0 or width <= 0:
        raise InputError("the TIFF has no picture in it; export it again")
    return height, width


def upright_tiff(data: bytes, tags: Directory) -> bytes:
    """The file with its orientation set to 1: Pillow and OpenCV apply it, each in some versions and to some modes only."""
    if ORIENTATION not in tags.where:
        return data
    patched = bytearray(data)
    struct.pack_into(tags.order + ("HHQH" if tags.big else "HHIH"), patched, tags.where[ORIENTATION], ORIENTATION, 3, 1, 1)
    return bytes(patched)


def read_deep_tiff(data: bytes, tags: Directory) -> tuple[np.ndarray, list[str]]:
    """(H, W) or (H, W, C) uint16 of a TIFF with 16-bit or float samples, and what was changed.

    Raises:
        InputError: damaged, of an unsupported kind, NaN or Inf, or floats that are not in [0, 1].
    """
    _check_kind(tags)
    samples = read_with_opencv(data)
    notes = []
    if samples.dtype.kind == "f":
        samples = _from_float(samples)
        notes.append("float TIFF converted to 16 bits")
    elif samples.dtype != np.uint16:
        raise InputError(f"TIFF samples of type {samples.dtype} are not supported; export 8 or 16 bits")
    if tags.number(_PHOTOMETRIC, _BLACK_IS_ZERO) == _WHITE_IS_ZERO:
        samples = 65535 - samples
    if samples.ndim == 3 and samples.shape[2] == 4 and tags.number(_EXTRA, 0) == _PREMULTIPLIED:
        samples = _straight(samples)
    if tags.more:
        notes.append("first page of the TIFF")
    return samples, notes


def _check_kind(tags: Directory) -> None:
    """OpenCV reads some kinds of TIFF wrongly instead of refusing them (planar, CMYK, grey with alpha)."""
    bits, count = tags.numbers(_BITS), tags.number(_SAMPLES, 1)
    kind = {1: "integer", 2: "signed", 3: "float", 4: "integer"}.get(tags.number(_FORMAT, 1), "complex")
    photometric = tags.number(_PHOTOMETRIC, _BLACK_IS_ZERO)
    if len(set(bits)) > 1 or (kind, bits[0]) not in (("integer", 16), ("float", 32), ("float", 64)):
        raise InputError(f"a TIFF of {bits[0]}-bit {kind} samples is not supported; export 8 or 16 bits")
    if count not in {_WHITE_IS_ZERO: (1,), _BLACK_IS_ZERO: (1,), _RGB: (3, 4)}.get(photometric, ()):
        names = {_WHITE_IS_ZERO: "grey", _BLACK_IS_ZERO: "grey", _RGB: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr", 8: "Lab"}
        what = names.get(photometric, f"photometric {photometric}")
        raise InputError(f"a {bits[0]}-bit {what} TIFF of {count} channels is not supported; export grey, RGB or RGBA, or a PNG")
    if count > 1 and tags.number(_PLANAR, 1) != 1:
        raise InputError(f"a {bits[0]}-bit TIFF with separate colour planes is not supported; export it interleaved, or as PNG")


def _from_float(samples: np.ndarray) -> np.ndarray:
    unusable = samples.size - int(np.isfinite(samples).sum())
    if unusable:
        raise InputError(f"{unusable} samples are NaN or Inf; export finite values in [0, 1]")
    low, high = float(samples.min()), float(samples.max())
    if low < -_SLACK or high > 1 + _SLACK:
        raise InputError(f"float samples range over [{low:.4g}, {high:.4g}]; scale them to [0, 1]")
    return np.rint(samples.clip(0, 1).astype(np.float64) * 65535).astype(np.uint16)


def _straight(samples: np.ndarray) -> np.ndarray:
    """Colours divided by the alpha they were multiplied with."""
    alpha = samples[..., 3:].astype(np.float64)
    colours = samples[..., :3] * (65535 / np.maximum(alpha, 1))
    return np.concatenate([np.rint(colours.clip(0, 65535)).astype(np.uint16), samples[..., 3:]], axis=2)


def read_deep_png(data: bytes) -> np.ndarray:
    """(H, W, C) uint16 of a PNG with 16-bit grey and alpha, RGB (with or without a colour key) or RGBA.

    Raises:
        InputError: damaged.
    """
    samples = read_with_opencv(_bare_png(data))
    if samples.dtype != np.uint16:
        raise InputError("the PNG is damaged; export it again")
    grey_alpha = data[25] == 4
    return samples[..., (0, 3)] if grey_alpha and samples.ndim == 3 else samples


def _bare_png(data: bytes) -> bytes:
    """The PNG without metadata and animation, and checked: libpng prints what it finds wrong, and trusts a chunk's length."""
    kept, at = [data[:8]], 8
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] in (b"IHDR", b"PLTE", b"tRNS", b"IDAT"):
            if end > len(data) or zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
                raise InputError("the PNG is damaged (a checksum does not match); copy or export it again")
            kept.append(data[at:end])
        at = end
    return b"".join([*kept, _PNG_END])


def read_with_opencv(data: bytes) -> np.ndarray:
    """Samples in grey, RGB or RGBA order, unchanged in depth.

    Raises:
        InputError: OpenCV cannot decode them.
    """
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        samples = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise InputError(f"the file cannot be decoded ({error.err}); export it again") from error
    if samples is None:
        raise InputError("the file is damaged or its compression is not supported; export it again")
    order = {1: (0,), 3: (2, 1, 0), 4: (2, 1, 0, 3)}
    if samples.ndim == 2:
        return samples
    if samples.shape[2] not in order:
        raise InputError(f"{samples.shape[2]} channels are not supported; export it as grey, RGB or RGBA")
    return samples[..., order[samples.shape[2]]]
