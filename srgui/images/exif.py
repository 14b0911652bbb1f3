"""EXIF blocks and TIFF directories, entry by entry and byte for byte.

Pillow's reader gives decoded values and its writer encodes them anew: text becomes ASCII, rationals are reduced, and one damaged
entry loses all that follow with a warning. Here an entry is its type and its bytes, in the byte order of the block it came from.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Literal

Order = Literal["<", ">"]

ORIENTATION = 0x0112
EXIF, GPS, INTEROP = 0x8769, 0x8825, 0xA005
SETTINGS_TAG = 0x000B  # ProcessingSoftware: free text that cameras leave empty
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

BYTE, ASCII, SHORT, LONG, UNDEFINED = 1, 2, 3, 4, 7
_UNIT = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}  # bytes of a value
_INTEGER = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_LONG8 = (16, 17, 18)  # only in a BigTIFF
_POINTER = (4, 13, 16, 18)
_CHILDREN = {0: (EXIF, GPS), EXIF: (INTEROP,), GPS: (), INTEROP: ()}

# What of the first directory describes the picture rather than the samples of the file it stands in: description, make, model,
# resolution and its unit, software, date, artist, rating, copyright and the fields of Windows' file properties.
_DESCRIPTIVE = {270, 271, 272, 282, 283, 296, 305, 306, 315, 0x4746, 0x4749, 0x8298, *range(0x9C9B, 0x9CA0), SETTINGS_TAG}
# Offsets into the file that is read, meaningless in another.
OFFSETS = {273, 279, 288, 289, 324, 325, 330, 513, 514}


@dataclass
class Directory:
    """One directory. ``values``: tag -> (type, bytes); ``children``: tag of the pointer -> directory.

    ``where`` holds the file position of each entry, ``more`` whether another directory follows (a page, a thumbnail), and
    ``damaged`` whether entries were left out because they point outside of the data.
    """

    order: Order = "<"
    big: bool = False
    values: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    children: dict[int, Directory] = field(default_factory=dict)
    where: dict[int, int] = field(default_factory=dict)
    more: bool = False
    damaged: bool = False

    def numbers(self, tag: int) -> tuple[int, ...]:
        """The integers of an entry; empty if it is missing or of another type."""
        kind, data = self.values.get(tag, (SHORT, b""))
        if kind not in _INTEGER:
            return ()
        return struct.unpack(f"{self.order}{len(data) // _UNIT[kind]}{_INTEGER[kind]}", data)

    def number(self, tag: int, default: int) -> int:
        return next(iter(self.numbers(tag)), default)

    def text(self, tag: int) -> str:
        """The ASCII text of an entry; empty if it is missing or of another type."""
        kind, data = self.values.get(tag, (ASCII, b""))
        return data.rstrip(b"\0").decode("ascii", "replace") if kind == ASCII else ""

    def put(self, tag: int, kind: int, *numbers: int) -> None:
        self.values[tag] = kind, struct.pack(f"{self.order}{len(numbers)}{_INTEGER[kind]}", *numbers)

    def put_text(self, tag: int, text: str) -> None:
        self.values[tag] = ASCII, text.encode("ascii") + b"\0"

    def descriptive(self) -> Directory:
        """What can stand in any file's first directory: the description of the picture, with Exif and GPS."""
        values = {tag: value for tag, value in self.values.items() if tag in _DESCRIPTIVE and value[0] not in _LONG8}
        return Directory(self.order, values=values, children=dict(self.children), damaged=self.damaged)

    def tobytes(self, offset: int) -> bytes:
        """The directory and all that belongs to it, as it stands at the even ``offset`` of a file that is not a BigTIFF."""
        tags = sorted(self.values.keys() | self.children.keys())
        end = offset + 2 + 12 * len(tags) + 4
        entries, payloads = [], []
        for tag in tags:
            if tag in self.children:
                kind, count, data, field_ = LONG, 1, self.children[tag].tobytes(end), struct.pack(self.order + "I", end)
            else:
                kind, data = self.values[tag]
                count = len(data) // _UNIT[kind]
                if len(data) <= 4:
                    data, field_ = b"", data.ljust(4, b"\0")
                else:
                    field_ = struct.pack(self.order + "I", end)
            data += b"\0" * (len(data) % 2)
            entries.append(struct.pack(self.order + "HHI", tag, kind, count) + field_)
            payloads.append(data)
            end += len(data)
        return b"".join([struct.pack(self.order + "H", len(tags)), *entries, b"\0\0\0\0", *payloads])


def header(order: Order, first: int) -> bytes:
    """The 8 bytes a TIFF structure begins with; ``first`` is where its first directory is."""
    return (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, first)


def to_block(directory: Directory) -> bytes:
    """A directory as an EXIF block, without the ``Exif\\0\\0`` prefix."""
    return header(directory.order, 8) + directory.tobytes(8)


def parse(data: bytes) -> Directory | None:
    """The first directory of an EXIF block or a TIFF file, with its Exif, GPS and Interop directories; None if it is neither."""
    while data.startswith(b"Exif\0\0"):
        data = data[6:]
    if data[:4] not in TIFF_MAGIC:
        return None
    order: Order = "<" if data[:2] == b"II" else ">"
    big = b"+" in data[:4]
    try:
        (first,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
    except struct.error:
        return None
    return _Reader(data, order, big).directory(first, 0)


class _Reader:
    def __init__(self, data: bytes, order: Order, big: bool) -> None:
        self._data, self._order, self._big = data, order, big
        # Entries of a sound file do not overlap. Without a limit many entries that point to the same bytes would fill the memory.
        self._budget = len(data)

    def directory(self, at: int, pointer: int) -> Directory:
        found = Directory(self._order, self._big)
        count_format, entry_format, size = ("Q", "HHQ8s", 20) if self._big else ("H", "HHI4s", 12)
        try:
            (count,) = struct.unpack_from(self._order + count_format, self._data, at)
            at += struct.calcsize(count_format)
            for place in range(at, at + size * count, size):
                tag, kind, number, inline = struct.unpack_from(self._order + entry_format, self._data, place)
                found.where[tag] = place
                self._entry(found, pointer, tag, kind, number, inline)
            end = at + size * count
            found.more = any(self._data[end : end + (8 if self._big else 4)])
        except struct.error:  # the directory reaches beyond the data
            found.damaged = True
        return found

    def _entry(self, found: Directory, pointer: int, tag: int, kind: int, count: int, inline: bytes) -> None:
        length = count * _UNIT.get(kind, 0)
        data = inline[:length]
        if length > len(inline):
            (start,) = struct.unpack(self._order + ("Q" if self._big else "I"), inline)
            if start + length > len(self._data) or length > self._budget:
                found.damaged = True
                return
            self._budget -= length
            data = self._data[start : start + length]
        if tag in _CHILDREN[pointer]:
            start = struct.unpack(self._order + _INTEGER[kind], data)[0] if kind in _POINTER and count == 1 else 0
            child = self.directory(start, tag) if start else Directory(damaged=True)
            found.damaged |= child.damaged
            if child.values:
                found.children[tag] = child
        elif data and (not pointer or kind not in _LONG8):
            found.values[tag] = kind, data
