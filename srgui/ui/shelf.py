"""Pictures that pages look at, kept on the server under ids that cannot be guessed, within a bound on memory."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from srgui.images import Layout, Picture, encode_png
from srgui.inference.picture import PreparedPicture, to_grey
from srgui.protocol import Box, Run, Setting
from srgui.survey import Survey

TILE = 512  # as in assets/ui/viewer.js
BOUND = 2 * 2**30  # bytes over all users; the pictures looked at longest ago go first
_OVERVIEW = 2048  # longest side of the reduced copy that serves zoomed-out views


class Layer(Protocol):
    """One version of a picture, in 8 bits."""

    size: tuple[int, int]
    bytes: int

    def read(self, box: Box, level: int) -> np.ndarray:
        """(ceil(h / 2^level), ceil(w / 2^level), 3 or 4) uint8: the samples of ``box``, ``level`` times halved."""

    def close(self) -> None: ...


class PictureLayer:
    """A picture that is in memory."""

    def __init__(self, picture: Picture) -> None:
        rgb = picture.as_uint8()
        if picture.alpha is not None:
            alpha = picture.alpha if picture.depth == 8 else (picture.alpha // 257).astype(np.uint8)
            rgb = np.concatenate([rgb, alpha[..., None]], axis=2)
        self._samples = rgb
        self.size = picture.size
        self.bytes = rgb.nbytes

    def read(self, box: Box, level: int) -> np.ndarray:
        return halve(self._samples[box.slices], level)

    def close(self) -> None:
        self._samples = np.empty((0, 0, 3), np.uint8)


class PreparedLayer:
    """A result: full size from its planes, zoomed out from a copy that was reduced while the file was written."""

    def __init__(self, prepared: PreparedPicture, setting: Setting) -> None:
        self._prepared, self._setting = prepared, setting
        height, width = self.size = prepared.size
        picture = prepared.picture
        self._layout = Layout(height, width, (1 if picture.grey else 3) + (picture.alpha is not None), 8)
        self._level = max(0, (max(height, width) - 1).bit_length() - _OVERVIEW.bit_length() + 1)
        step = 2**self._level
        self._channels = 3 + (picture.alpha is not None)
        self._overview = np.zeros((-(-height // step), -(-width // step), self._channels), np.uint8)
        self._lock = threading.Lock()
        self.bytes = height * width * 6 + self._overview.nbytes

    def see(self, top: int, strip: np.ndarray) -> None:
        """Take a strip of the result into the overview; strips of a multiple of 64 rows, as saving makes them."""
        reduced = halve(strip if strip.dtype == np.uint8 else (strip // 257).astype(np.uint8), self._level)
        start = top >> self._level
        channels = self._channels
        reduced = _coloured(reduced)
        self._overview[start : start + len(reduced), :, : reduced.shape[2]] = reduced[..., :channels]
        if channels == 4 and reduced.shape[2] == 3:
            self._overview[start : start + len(reduced), :, 3] = 255

    def read(self, box: Box, level: int) -> np.ndarray:
        if level >= self._level > 0:
            step = 2**self._level
            rows, columns = slice(box.top // step, -(-box.bottom // step)), slice(box.left // step, -(-box.right // step))
            return halve(self._overview[rows, columns], level - self._level)
        with self._lock:
            return halve(_coloured(self._prepared.render(self._setting, Run(), self._layout, box)), level)

    def close(self) -> None:
        with self._lock:
            self._prepared.close()


def _coloured(samples: np.ndarray) -> np.ndarray:
    """(H, W, 1 to 4) -> (H, W, 3 or 4): grey as three equal colours."""
    if samples.shape[2] > 2:
        return samples
    grey = np.repeat(samples[..., :1], 3, axis=2)
    return grey if samples.shape[2] == 1 else np.concatenate([grey, samples[..., 1:]], axis=2)


class CornerLayer:
    """A result at one setting, for blending in the browser: 8 bits over [-1/4, 5/4], so that what overshoots is not lost."""

    def __init__(self, prepared: PreparedPicture, setting: Setting) -> None:
        self._prepared, self._setting = prepared, setting
        self.size = prepared.size
        self.bytes = 0  # its planes are counted by the result's own layer
        self._lock = threading.Lock()

    def read(self, box: Box, level: int) -> np.ndarray:
        with self._lock:
            values = self._prepared.colours.render(self._setting, Run(), box)
        if self._prepared.picture.grey:
            values = to_grey(values).expand(-1, 3, -1, -1)
        return encode_corner(avg_pool2d(values, 2**level, ceil_mode=True, count_include_pad=False) if level else values)

    def close(self) -> None:
        with self._lock:
            self._prepared.close()


def encode_corner(values: Tensor) -> np.ndarray:
    """(1, 3, h, w) -> (h, w, 3) uint8, as assets/ui/blend.js decodes it."""
    grid = values[0].add(0.25).mul(255 / 1.5).round().clamp(0, 255)
    return np.ascontiguousarray(grid.permute(1, 2, 0).to(torch.uint8).numpy())


def new_id() -> str:
    """One that cannot be guessed."""
    return secrets.token_urlsafe(16)


class Sketcher(Protocol):
    def png(self, request: Mapping[str, Any], run: Run, *, patient: bool) -> bytes | None: ...


@dataclass
class Entry:
    """A picture on the shelf: its layers by name, ``lr``, ``sr`` and ``hr``, and ``labels`` for them in place of the usual ones.

    ``guide`` is what the viewer needs to steer it, and ``survey`` what measures it meanwhile, see :mod:`srgui.ui.guide`.
    ``sketch`` shows it at settings that are not rendered yet, see :mod:`srgui.ui.sketch`.
    """

    owner: str
    name: str
    layers: dict[str, Layer]
    icc: bytes | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    guide: dict[str, Any] | None = None
    version: int = 0
    survey: Survey | None = None
    sketch: Sketcher | None = None
    id: str = field(default_factory=new_id)

    @property
    def bytes(self) -> int:
        return sum(layer.bytes for layer in self.layers.values())

    def as_item(self) -> dict[str, object]:
        """What the viewer needs to know: name and (width, height) of each layer."""
        sizes = {name: layer.size[::-1] for name, layer in self.layers.items()}
        shown = {"layers": sizes, "labels": dict(self.labels), "guide": self.guide}
        return {"id": self.id, "version": self.version, "name": self.name, **shown}

    def close(self) -> None:
        for layer in self.layers.values():
            layer.close()


class Shelf:
    """Entries by id, the most recently seen last. Safe to use from several threads."""

    def __init__(self, bound: int = BOUND) -> None:
        self._bound = bound
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, entry: Entry) -> Entry:
        """Add an entry; others leave, longest unseen first, until all fit the bound."""
        leaving = []
        with self._lock:
            self._entries[entry.id] = entry
            while len(self._entries) > 1 and sum(e.bytes for e in self._entries.values()) > self._bound:
                leaving.append(self._entries.popitem(last=False)[1])
        for old in leaving:
            old.close()
        return entry

    def renew(self, entry: Entry, former: str | None = None) -> bool:
        """Put ``entry``, which may share layers with the one of its id or of ``former``, in the place of that.

        False if that has left.
        """
        with self._lock:
            if self._entries.pop(former or entry.id, None) is None:
                return False
            self._entries[entry.id] = entry
            return True

    def get(self, identity: str) -> Entry | None:
        with self._lock:
            entry = self._entries.get(identity)
            if entry is not None:
                self._entries.move_to_end(identity)
            return entry

    def drop(self, owner: str) -> None:
        """Remove everything that belongs to ``owner``."""
        with self._lock:
            mine = [self._entries.pop(key) for key in [k for k, e in self._entries.items() if e.owner == owner]]
        for entry in mine:
            entry.close()

    def tile(self, request: Mapping[str, object]) -> bytes | None:
        """A PNG of one tile: ``id``, ``layer``, ``level``, ``x``, ``y`` as assets/ui/viewer.js asks; None if it is not there."""
        entry = self.get(str(request.get("id")))
        layer = entry.layers.get(str(request.get("layer"))) if entry is not None else None
        if entry is None or layer is None:
            return None
        numbers = [request.get(key) for key in ("level", "x", "y")]
        if not all(isinstance(n, int) and 0 <= n < 2**16 for n in numbers) or int(numbers[0]) > 16:  # type: ignore[call-overload]
            return None
        level, x, y = (int(n) for n in numbers)  # type: ignore[call-overload]
        side, (height, width) = TILE << level, layer.size
        top, left = y * side, x * side
        if top >= height or left >= width:
            return None
        return encode_png(layer.read(Box(top, left, min(side, height - top), min(side, width - left)), level), entry.icc)


def halve(samples: np.ndarray, level: int) -> np.ndarray:
    """Average blocks of 2^level x 2^level; blocks at the lower and right edge may be smaller."""
    if level == 0:
        return samples
    step = 2**level
    rows, columns = np.arange(0, samples.shape[0], step), np.arange(0, samples.shape[1], step)
    total = np.add.reduceat(np.add.reduceat(samples.astype(np.uint32), rows, axis=0), columns, axis=1)
    height = np.diff(np.append(rows, samples.shape[0]))
    width = np.diff(np.append(columns, samples.shape[1]))
    count = (height[:, None] * width[None, :])[..., None]
    return ((total + count // 2) // count).astype(np.uint8)
