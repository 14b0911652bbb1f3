"""Any factor from a model of one factor: a second pass where it is too small, then a resize."""

from __future__ import annotations

from torch import Tensor

from srgui.errors import InputError
from srgui.protocol import Box, Prepared, Previewing, Restorer, Run, Setting, Source
from srgui.resample import needed, resize_region

LARGEST = 16.0


def check_outscale(outscale: float, scale: int) -> None:
    """Refuse a factor that two passes do not reach.

    Raises:
        InputError: it is not in (0, 16], or above ``scale`` squared.
    """
    limit = min(LARGEST, float(scale**2))
    if not 0 < outscale <= limit:
        raise InputError(f"outscale {outscale:g} is out of range; choose above 0 and up to {limit:g} for a x{scale} model")


def size_at(height: int, width: int, outscale: float) -> tuple[int, int]:
    """Height and width of the result, at least one pixel."""
    return max(1, round(height * outscale)), max(1, round(width * outscale))


def prepare_at(restorer: Restorer, source: Source, outscale: float, run: Run) -> Prepared:
    """Prepare a picture so that its renderings have exactly the size ``outscale`` asks for.

    Above the model's scale the model runs twice, the first time at its default setting, and the result is resized, with
    antialiasing when that shrinks it.
    """
    scale = restorer.info.scale
    check_outscale(outscale, scale)
    height, width = source.lr.shape[-2:]
    if outscale > scale:
        first = restorer.prepare(source, run)
        try:
            source = Source(first.render(Setting(), run).clamp(0, 1), source.extras)
        finally:
            first.close()
    prepared = restorer.prepare(source, run)
    size = size_at(height, width, outscale)
    return prepared if prepared.size == size else Resized(prepared, size)


class Resized:
    """A prepared picture at another size; renders only what a region depends on."""

    def __init__(self, inner: Prepared, size: tuple[int, int]) -> None:
        self._inner, self.size = inner, size

    def render(self, setting: Setting, run: Run, region: Box | None = None) -> Tensor:
        region = region or Box(0, 0, *self.size)
        at = needed(self._inner.size, self.size, region)
        return resize_region(self._inner.render(setting, run, at), at, self._inner.size, self.size, region)

    def preview(self, setting: Setting, run: Run, *, patient: bool = False) -> Tensor | None:
        """See :class:`srgui.protocol.Previewing`."""
        return self._inner.preview(setting, run, patient=patient) if isinstance(self._inner, Previewing) else None

    def close(self) -> None:
        self._inner.close()
