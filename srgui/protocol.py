"""The two-phase restorer: the types that every family of models and every caller share.

A :class:`Restorer` turns a :class:`Source` into a :class:`Prepared` (the heavy part, once per picture), which renders a
picture for every :class:`Setting` of its controls. The interface and the command line know nothing else of a model.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from srgui.errors import Cancelled

if TYPE_CHECKING:
    from torch import Tensor


Option = str | bool | int | float


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels: ``top``, ``left``, ``height``, ``width``."""

    top: int
    left: int
    height: int
    width: int

    @property
    def bottom(self) -> int:
        return self.top + self.height

    @property
    def right(self) -> int:
        return self.left + self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, to index the last two axes of an image tensor."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def scaled(self, factor: int) -> Box:
        return Box(self.top * factor, self.left * factor, self.height * factor, self.width * factor)

    def grown(self, margin: int, height: int, width: int) -> Box:
        """This box with ``margin`` pixels more on every side, cut at a picture of ``height`` x ``width``."""
        top, left = max(0, self.top - margin), max(0, self.left - margin)
        bottom, right = min(height, self.bottom + margin), min(width, self.right + margin)
        return Box(top, left, bottom - top, right - left)


@dataclass(frozen=True)
class Control:
    """One dial of a restorer.

    ``cost`` is what a move costs: ``client`` a blend of prepared pictures, ``decode`` one pass of a decoder,
    ``sample`` a whole sampling run.
    """

    name: str
    label: str
    help: str
    minimum: float
    maximum: float
    default: float
    cost: Literal["client", "decode", "sample"]


@dataclass(frozen=True)
class OptionField:
    """What a person may say beside the picture, as ``Source.extras`` takes it under ``name``.

    ``choices``: values by label, where there are only these.
    """

    name: str
    label: str
    help: str
    default: Option
    choices: Mapping[str, Option] = field(default_factory=dict)


@dataclass(frozen=True)
class Attached:
    """An adapter on a restorer: its name, its strength, what it is for (``domain``, ``pixel``, ``semantic``), its digest."""

    name: str
    strength: float
    role: str
    sha256: str


@dataclass(frozen=True)
class RestorerInfo:
    """What a caller may know of a restorer before it runs. ``tile``: the side that was asked for, None if it is chosen.

    ``options``: what a person may say beside the picture, each with its default, as ``Source.extras`` takes it. ``previews``:
    whether what it prepares is :class:`Previewing`.
    """

    id: str
    title: str
    family: str
    scale: int
    licence: str
    controls: tuple[Control, ...] = ()
    digest: str | None = None
    adapters: tuple[Attached, ...] = ()
    tile: int | None = None
    options: Mapping[str, Option] = field(default_factory=dict)
    previews: bool = False

    def control(self, name: str) -> Control | None:
        return next((control for control in self.controls if control.name == name), None)


@dataclass(frozen=True)
class Source:
    """What is to be restored: ``lr`` (1, 3, H, W) float32 RGB in [0, 1], and what a family needs beside it."""

    lr: Tensor
    extras: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """Values of the controls by name; a control that is not named keeps its default.

    Where ``mask`` (1, 1, h, w, in [0, 1], of any size: it is stretched over the result) is 1, the values of ``masked`` hold
    instead.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    masked: Mapping[str, float] | None = None
    mask: Tensor | None = None


@dataclass(frozen=True)
class Forecast:
    """What a run will take: ``tiles``, peak working ``memory`` in bytes, ``seconds``.

    ``host``: bytes of main memory beside it, where the work is on another device. ``move``: seconds that a move of a control takes
    afterwards, where it is more than a blend, and ``first_move`` that the first one takes on top.
    """

    tiles: int
    memory: int
    seconds: float
    host: int = 0
    move: float = 0.0
    first_move: float = 0.0


@dataclass(frozen=True)
class Progress:
    """``done`` of ``total`` units of ``what`` (``tiles``, ``strips``)."""

    what: str
    done: int
    total: int


class Run:
    """Carries progress out of a computation and the wish to cancel into it.

    Args:
        report: called in the computing thread after each unit of work.
    """

    def __init__(self, report: Callable[[Progress], None] | None = None) -> None:
        self._report = report
        self._cancel = threading.Event()

    def child(self, report: Callable[[Progress], None]) -> Run:
        """A run that reports elsewhere and is cancelled together with this one."""
        child = Run(report)
        child._cancel = self._cancel
        return child

    def cancel(self) -> None:
        self._cancel.set()

    @property
    def cancelled(self) -> bool:
        return self._cancel.is_set()

    def check(self) -> None:
        """Raise :class:`~srgui.errors.Cancelled` if :meth:`cancel` was called."""
        if self._cancel.is_set():
            raise Cancelled

    def progress(self, what: str, done: int, total: int) -> None:
        if self._report is not None:
            self._report(Progress(what, done, total))
        self.check()


@runtime_checkable
class Prepared(Protocol):
    """A picture on which the heavy part is done, or will be when it is first needed."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the result."""

    def render(self, setting: Setting, run: Run, region: Box | None = None) -> Tensor:
        """The result, or a ``region`` of it: (1, 3, h, w) float32, not clipped."""

    def close(self) -> None:
        """Free what was kept; rendering afterwards is an error."""


@runtime_checkable
class Previewing(Protocol):
    """A prepared picture of which a setting is shown at once, small and roughly, where rendering it takes longer."""

    def preview(self, setting: Setting, run: Run, *, patient: bool = False) -> Tensor | None:
        """(1, 3, h, w) in [0, 1], of about the result's shape; None where it cannot be had at once, unless ``patient``."""


@runtime_checkable
class Restorer(Protocol):
    info: RestorerInfo

    def forecast(self, height: int, width: int) -> Forecast:
        """What an LR picture of this size will take at the default setting."""

    def prepare(self, source: Source, run: Run) -> Prepared:
        """Start on a picture. May be lazy: the passes run when a plane is first read."""
