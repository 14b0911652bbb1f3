"""Writing results: strips in, a complete file under its final name out, or nothing at all."""

from __future__ import annotations

import errno
import io
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from srgui.errors import OutputError
from srgui.images.encoders import PngEncoder, StripEncoder, TiffEncoder
from srgui.images.exif import EXIF, LONG, SETTINGS_TAG, Directory, parse, to_block
from srgui.images.read import SETTINGS_KEY

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
_LONGEST = {"JPEG": 65535, "WEBP": 16383}
_TIFF_LIMIT = 2**32 - 2**24  # bytes; the offsets have 32 bits
_JPEG_EXIF_LIMIT = 65533  # bytes; the length of a segment has 16 bits
_BLOCK = 1 << 18  # bytes that are encoded at a time


@dataclass(frozen=True)
class Layout:
    """The shape of a file to be written. ``channels``: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA; ``depth``: 8 or 16."""

    height: int
    width: int
    channels: int
    depth: int


def suffix_of(path: Path) -> str:
    """The suffix of an output, lower case.

    Raises:
        OutputError: no format is written under it.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise OutputError(f"{path}: files ending in {suffix or 'nothing'} cannot be written; use {', '.join(FORMATS)}")
    return suffix


def layout_of(suffix: str, height: int, width: int, *, depth: int, grey: bool, alpha: bool) -> Layout:
    """What a format can keep of a picture: JPEG has no alpha, JPEG and WebP have 8 bits, only PNG has grey with alpha."""
    kind = FORMATS[suffix]
    alpha = alpha and kind != "JPEG"
    grey = grey and (kind == "PNG" or (kind != "WEBP" and not alpha))
    return Layout(height, width, (1 if grey else 3) + alpha, depth if kind in ("PNG", "TIFF") else 8)


def check_output(path: Path, *, overwrite: bool, inputs: Iterable[Path] = ()) -> None:
    """Refuse, before any work is done, an output that could not or must not be written.

    Raises:
        OutputError: unknown suffix, the output is one of ``inputs``, exists already, or its folder cannot be written.
    """
    suffix_of(path)
    try:
        if any(_same_file(path, source) for source in inputs):
            raise OutputError(f"{path} is the input itself; choose another name")
        if path.is_dir():
            raise OutputError(f"{path} is a folder; choose another name")
        _check_free(path, overwrite)
        folder = path.parent
        existing = next(p for p in (folder, *folder.parents) if p.exists())
    except OSError as error:  # such as a name that is too long, or a folder that may not be searched
        raise OutputError(f"{path} cannot be written: {error.strerror}; choose another name or folder") from error
    if not existing.is_dir():
        raise OutputError(f"{existing} is a file, so {path} cannot be put into it; choose another folder")
    if not os.access(existing, os.W_OK):
        raise OutputError(f"the folder {existing} cannot be written to; choose another folder")


def write_picture(
    path: Path,
    layout: Layout,
    strips: Iterable[np.ndarray],
    *,
    icc: bytes | None = None,
    exif: bytes | None = None,
    settings: Mapping[str, Any] | None = None,
    quality: int = 95,
    overwrite: bool = False,
) -> None:
    """Write ``strips``, (h, width, channels) arrays from top to bottom, to ``path`` in the format of its suffix.

    The file appears under its name when it is complete; whatever goes wrong, also in making the strips, leaves nothing.

    Args:
        layout: what the strips add up to. JPEG and WebP take 8 bits; JPEG takes no alpha.
        strips: uint8 or uint16 as ``layout.depth`` says, of any heights; the file does not depend on how they are cut.
        icc: ICC profile; left out where it is of grey and the file of RGB, or the reverse.
        exif: TIFF structure, as :class:`~srgui.images.Picture` holds it; its pixel dimensions are brought up to date.
        settings: embedded as JSON, in a PNG text chunk or in the EXIF tag ProcessingSoftware.
        quality: 1 to 100 for JPEG and WebP; WebP at 100 is lossless.

    Raises:
        OutputError: the format cannot hold the picture, the file exists, the disk is full or the folder cannot be written.
        ValueError: the strips or their number do not fit the layout, or the layout does not fit the format.
    """
    kind = FORMATS[suffix_of(path)]
    _check_layout(suffix_of(path), layout)
    with _replacing(path, overwrite) as file:
        encoder = _encoder(kind, file, layout, _fitting(icc, layout), exif, settings, quality)
        for block in _blocks(strips, layout):
            encoder.write(block)
        encoder.finish()


def encode_png(samples: np.ndarray, icc: bytes | None = None) -> bytes:
    """Encode (H, W, C) uint8 or uint16 as PNG in memory, quickly: for pieces that go over the wire."""
    out = io.BytesIO()
    height, width, channels = samples.shape
    encoder = PngEncoder(out, height, width, channels, samples.dtype.itemsize * 8, icc=icc, level=1)
    encoder.write(samples)
    encoder.finish()
    return out.getvalue()


def _check_layout(suffix: str, layout: Layout) -> None:
    kind, height, width = FORMATS[suffix], layout.height, layout.width
    longest = _LONGEST.get(kind)
    if longest and max(height, width) > longest:
        raise OutputError(f"{width} x {height} is more than {kind} can hold ({longest} pixels a side); use .png or .tiff")
    if kind == "TIFF" and height * width * layout.channels * layout.depth // 8 > _TIFF_LIMIT:
        raise OutputError(f"{width} x {height} at {layout.depth} bits is more than TIFF can hold (4 GiB); use .png")
    grey, alpha = layout.channels < 3, layout.channels % 2 == 0
    if layout != layout_of(suffix, height, width, depth=layout.depth, grey=grey, alpha=alpha):
        raise ValueError(f"{layout} does not fit {kind}")


def _encoder(
    kind: str,
    file: BinaryIO,
    layout: Layout,
    icc: bytes | None,
    exif: bytes | None,
    settings: Mapping[str, Any] | None,
    quality: int,
) -> StripEncoder:
    shape = (layout.height, layout.width, layout.channels, layout.depth)
    text = json.dumps(settings, ensure_ascii=True) if settings is not None else None
    tags = _exif(exif, layout)
    if text is not None and kind != "PNG":
        tags.put_text(SETTINGS_TAG, f"{SETTINGS_KEY} {text}")
    if kind == "TIFF":
        return TiffEncoder(file, *shape, icc=icc, exif=tags)
    block = to_block(tags) if tags.values or tags.children else None
    if kind == "PNG":
        return PngEncoder(file, *shape, icc=icc, exif=block, text={SETTINGS_KEY: text} if text else None)
    return _PillowEncoder(kind, file, layout, icc, block, quality)


def _exif(exif: bytes | None, layout: Layout) -> Directory:
    """The EXIF of the source, its pixel dimensions brought up to date."""
    tags = (parse(exif) if exif else None) or Directory()
    details = tags.children.get(EXIF, Directory())
    for directory, across, down in ((tags, 256, 257), (details, 0xA002, 0xA003)):
        for tag, size in ((across, layout.width), (down, layout.height)):
            if tag in directory.values:
                directory.put(tag, LONG, size)
    return tags


def _fitting(icc: bytes | None, layout: Layout) -> bytes | None:
    """The profile, if it is of the colour space of the file: a reader may refuse a file whose profile is not."""
    fits = {b"GRAY": layout.channels < 3, b"RGB ": layout.channels >= 3, b"CMYK": False}
    return icc if icc and fits.get(icc[16:20], True) else None


def _blocks(strips: Iterable[np.ndarray], layout: Layout) -> Iterator[np.ndarray]:
    """The rows of ``strips``, cut anew into blocks of one height; a block is valid until the next is asked for."""
    dtype = np.dtype(f"u{layout.depth // 8}")
    rows = max(1, _BLOCK // (layout.width * layout.channels * dtype.itemsize))
    block = np.empty((min(rows, layout.height), layout.width, layout.channels), dtype)
    filled = total = 0
    for strip in strips:
        if strip.dtype != dtype or strip.shape[1:] != block.shape[1:]:
            raise ValueError(f"a strip of {strip.shape} {strip.dtype} does not fit {layout}")
        total += len(strip)
        if total > layout.height:
            raise ValueError(f"{total} rows or more were given for {layout}")
        while len(strip):
            taken = min(len(block) - filled, len(strip))
            block[filled : filled + taken] = strip[:taken]
            strip = strip[taken:]
            filled += taken
            if filled == len(block):
                yield block
                filled = 0
    if total < layout.height:
        raise ValueError(f"{total} rows were given for {layout}")
    if filled:
        yield block[:filled]


class _PillowEncoder:
    """JPEG and WebP, which are encoded whole, from an 8-bit copy."""

    def __init__(self, kind: str, file: BinaryIO, layout: Layout, icc: bytes | None, exif: bytes | None, quality: int) -> None:
        if kind == "JPEG" and exif and len(exif) > _JPEG_EXIF_LIMIT - 6:
            raise OutputError(f"EXIF and settings of {len(exif)} bytes are more than JPEG can hold; use .png, .tiff or .webp")
        self._kind, self._file, self._icc, self._exif, self._quality = kind, file, icc, exif, quality
        self._pixels = np.empty((layout.height, layout.width, layout.channels), np.uint8)
        self._row = 0

    def write(self, strip: np.ndarray) -> None:
        self._pixels[self._row : self._row + len(strip)] = strip
        self._row += len(strip)

    def finish(self) -> None:
        pixels = self._pixels
        image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        extras: dict[str, Any] = {"exif": b"Exif\0\0" + self._exif if self._exif else None, "icc_profile": self._icc}
        if self._kind == "JPEG":
            extras["subsampling"] = 0 if self._quality >= 90 else 2
        else:
            extras |= {"lossless": self._quality == 100, "exact": True}
        # Not straight into the file: Pillow's encoders then write past Python, and a full disk comes back as "encoder error -2".
        out = io.BytesIO()
        image.save(out, self._kind, quality=self._quality, **{k: v for k, v in extras.items() if v is not None})
        self._file.write(out.getbuffer())


@contextmanager
def _replacing(path: Path, overwrite: bool) -> Iterator[BinaryIO]:
    """A file that takes the name ``path`` only when the block has ended well; otherwise it and the folders made for it go."""
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.part")
    made: list[Path] = []
    try:
        _check_free(path, overwrite)
        made = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                yield file
            _check_free(path, overwrite)  # it may have appeared meanwhile
            os.replace(temporary, path)
            made = []
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutputError(f"the disk is full while writing {path}; free some space or choose another folder") from error
        reason = "its folder is a file" if error.errno in (errno.EEXIST, errno.ENOTDIR) else error.strerror or error
        raise OutputError(f"{path} cannot be written: {reason}; choose another name or folder") from error
    finally:
        for folder in made:
            with suppress(OSError):  # not made yet, or in use by another writer
                folder.rmdir()


def _check_free(path: Path, overwrite: bool) -> None:
    if not overwrite and os.path.lexists(path):
        raise OutputError(f"{path} exists already; choose another name or pass --overwrite")


def _same_file(a: Path, b: Path) -> bool:
    return a.exists() and b.exists() and a.samefile(b)
