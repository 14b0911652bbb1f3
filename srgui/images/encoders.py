"""Strip encoders for PNG and TIFF.

A result is larger than memory should be, has up to 16 bits and four channels, and carries ICC, EXIF and text. No codec
library writes all of that a strip at a time (Pillow has no 16-bit RGB, OpenCV no metadata, neither takes strips), and both
containers are simple, so their writers are here; the compression is zlib's.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import BinaryIO, Protocol

import numpy as np

from srgui.images.exif import LONG, SHORT, UNDEFINED, Directory, header

_LEVEL = 4  # of zlib: level 6 takes twice as long for 3% less on a photograph
_PNG_COLOUR = {1: 0, 2: 4, 3: 2, 4: 6}  # channels -> colour type


class StripEncoder(Protocol):
    def write(self, strip: np.ndarray) -> None:
        """Append rows: (h, width, channels), uint8 or uint16."""

    def finish(self) -> None:
        """Write what follows the last row."""


class PngEncoder:
    """PNG (ISO 15948), 8 or 16 bits, 1 to 4 channels."""

    def __init__(
        self,
        file: BinaryIO,
        height: int,
        width: int,
        channels: int,
        depth: int,
        *,
        icc: bytes | None = None,
        exif: bytes | None = None,
        text: Mapping[str, str] | None = None,
        level: int = _LEVEL,
    ) -> None:
        self._file = file
        self._zlib = zlib.compressobj(level)
        self._pixel = channels * depth // 8
        self._above = np.zeros((1, width * self._pixel), np.uint8)
        file.write(b"\x89PNG\r\n\x1a\n")
        self._chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, _PNG_COLOUR[channels], 0, 0, 0))
        if icc:
            self._chunk(b"iCCP", b"icc\0\0" + zlib.compress(icc))
        if exif:
            self._chunk(b"eXIf", exif)
        for key, value in (text or {}).items():
            self._chunk(b"tEXt", key.encode("latin-1") + b"\0" + value.encode("latin-1"))

    def write(self, strip: np.ndarray) -> None:
        if strip.dtype == np.uint16:
            strip = strip.astype(">u2")
        rows = np.ascontiguousarray(strip).view(np.uint8).reshape(strip.shape[0], -1)
        data = self._zlib.compress(self._filtered(rows).data)
        if data:
            self._chunk(b"IDAT", data)

    def finish(self) -> None:
        self._chunk(b"IDAT", self._zlib.flush())
        self._chunk(b"IEND", b"")

    def _filtered(self, rows: np.ndarray) -> np.ndarray:
        """Filter each row by Sub, Up or Average, whichever has the least sum of absolute values."""
        left = np.zeros_like(rows)
        left[:, self._pixel :] = rows[:, : -self._pixel]
        above = np.concatenate([self._above, rows[:-1]])
        average = (left & above) + ((left ^ above) >> 1)
        candidates = ((1, rows - left), (2, rows - above), (3, rows - average))
        costs = np.stack([np.abs(c.view(np.int8).astype(np.int16)).sum(axis=1, dtype=np.int64) for _, c in candidates])
        best = costs.argmin(axis=0)
        out = np.empty((rows.shape[0], rows.shape[1] + 1), np.uint8)
        for index, (code, candidate) in enumerate(candidates):
            chosen = best == index
            out[chosen, 0] = code
            out[chosen, 1:] = candidate[chosen]
        self._above = rows[-1:].copy()
        return out

    def _chunk(self, kind: bytes, data: bytes) -> None:
        self._file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind))))


class TiffEncoder:
    """Baseline TIFF 6.0, 1, 3 or 4 channels, deflate with horizontal differencing; directories after the strips.

    Every call of ``write`` is a strip, so all but the last must have the same height. The byte order is that of ``exif``, whose
    entries are then taken over as they stand.
    """

    def __init__(
        self,
        file: BinaryIO,
        height: int,
        width: int,
        channels: int,
        depth: int,
        *,
        icc: bytes | None = None,
        exif: Directory | None = None,
    ) -> None:
        self._file = file
        self._strips: list[tuple[int, int]] = []
        self._rows = 0
        self._tags = exif.descriptive() if exif is not None else Directory()
        self._order = self._tags.order
        for tag, kind, value in ((256, LONG, width), (257, LONG, height), (259, SHORT, 8), (277, SHORT, channels), (317, SHORT, 2)):
            self._tags.put(tag, kind, value)
        self._tags.put(258, SHORT, *[depth] * channels)
        self._tags.put(262, SHORT, 1 if channels == 1 else 2)
        if channels == 4:
            self._tags.put(338, SHORT, 2)  # alpha, not premultiplied
        if icc:
            self._tags.values[34675] = UNDEFINED, icc
        file.write(header(self._order, 0))

    def write(self, strip: np.ndarray) -> None:
        self._rows = max(self._rows, len(strip))
        difference = strip.copy()
        difference[:, 1:] -= strip[:, :-1]
        data = zlib.compress(difference.astype(difference.dtype.newbyteorder(self._order)).data, _LEVEL)
        self._strips.append((self._align(), len(data)))
        self._file.write(data)

    def finish(self) -> None:
        self._tags.put(273, LONG, *(offset for offset, _ in self._strips))
        self._tags.put(278, LONG, self._rows)
        self._tags.put(279, LONG, *(count for _, count in self._strips))
        start = self._align()
        self._file.write(self._tags.tobytes(start))
        self._file.seek(0)
        self._file.write(header(self._order, start))

    def _align(self) -> int:
        if self._file.tell() % 2:
            self._file.write(b"\0")
        return self._file.tell()
