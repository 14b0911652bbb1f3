"""A whole picture through a restorer: colours, alpha, grey, and the file it ends in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from srgui.images import FORMATS, Layout, Picture, layout_of, suffix_of, to_samples, to_tensor, write_picture
from srgui.inference.outscale import prepare_at
from srgui.protocol import Box, Option, Prepared, Previewing, Restorer, Run, Setting, Source

_STRIP = 2**20  # pixels of the result rendered at a time while saving, about
STRIP_ROWS = 64  # every strip but the last has a multiple of this many rows
_LUMA = (0.299, 0.587, 0.114)


class PreparedPicture:
    """The colours of a picture prepared by a restorer, and its alpha prepared by the same restorer.

    Alpha is an own pass: the plane as a grey picture, with no invented detail, which would fray its edges. Where alpha is 0 the
    colours are unknown, and a network would draw them into the visible edge; they are replaced by those of the nearest visible
    pixel first.
    """

    def __init__(
        self, restorer: Restorer, picture: Picture, outscale: float, run: Run, options: Mapping[str, Option] | None = None
    ) -> None:
        """
        Args:
            options: those of ``restorer.info.options`` that are not to be the defaults.
        """
        self.picture = picture
        alpha = picture.alpha
        self.lr = to_tensor(picture.rgb if alpha is None else _bleed(picture.rgb, alpha))
        self.colours = prepare_at(restorer, Source(self.lr, options or {}), outscale, run)
        self._faithful = Setting({"semantic": 0.0} if restorer.info.control("semantic") else {})
        self._alpha: Prepared | float | None = None
        if alpha is not None and alpha.min() == alpha.max():
            self._alpha = float(alpha.flat[0]) / np.iinfo(alpha.dtype).max
        elif alpha is not None:
            self._alpha = prepare_at(restorer, Source(to_tensor(alpha).expand(1, 3, -1, -1)), outscale, run)

    @property
    def size(self) -> tuple[int, int]:
        return self.colours.size

    def render(self, setting: Setting, run: Run, layout: Layout, region: Box | None = None) -> np.ndarray:
        """(h, w, layout.channels) samples of ``layout.depth`` bits; where the layout has no alpha, on white."""
        box = region or Box(0, 0, *self.size)
        values = self.colours.render(setting, run, box).clamp(0, 1)
        alpha = self._render_alpha(run, box)
        if layout.channels <= 2:
            values = to_grey(values)
        if alpha is not None:
            values = torch.cat([values, alpha], dim=1) if layout.channels % 2 == 0 else values * alpha + (1 - alpha)
        return to_samples(values, layout.depth)

    def preview(self, setting: Setting, run: Run, *, patient: bool = False) -> Tensor | None:
        """The colours, small and at once: see :class:`srgui.protocol.Previewing`; None where the model has no previews."""
        return self.colours.preview(setting, run, patient=patient) if isinstance(self.colours, Previewing) else None

    def save(
        self,
        path: Path,
        setting: Setting,
        run: Run,
        *,
        settings: Mapping[str, Any] | None = None,
        quality: int = 95,
        overwrite: bool = False,
        seen: Callable[[int, np.ndarray], None] | None = None,
    ) -> tuple[str, ...]:
        """Render strip by strip into the file; see :func:`srgui.images.write_picture` for formats and errors.

        Returns:
            What the format could not keep, for the user to know.

        Args:
            seen: called with each strip's first row and samples, for those who want a look while it passes.
        """
        picture, (height, width) = self.picture, self.size
        layout = layout_of(suffix_of(path), height, width, depth=picture.depth, grey=picture.grey, alpha=self._alpha is not None)
        write_picture(
            path,
            layout,
            self._strips(setting, run, layout, seen),
            icc=picture.icc,
            exif=picture.exif,
            settings=settings,
            quality=quality,
            overwrite=overwrite,
        )
        kind = FORMATS[suffix_of(path)]
        reduced = f"{picture.depth} bits reduced to {layout.depth} for {kind}" if layout.depth < picture.depth else ""
        flat = f"transparency put on white for {kind}" if self._alpha is not None and layout.channels % 2 else ""
        return tuple(note for note in (reduced, flat) if note)

    def close(self) -> None:
        self.colours.close()
        if isinstance(self._alpha, Prepared):
            self._alpha.close()

    def _render_alpha(self, run: Run, box: Box) -> Tensor | None:
        if self._alpha is None:
            return None
        if isinstance(self._alpha, float):
            return torch.full((1, 1, box.height, box.width), self._alpha)
        return self._alpha.render(self._faithful, run, box).mean(dim=1, keepdim=True).clamp(0, 1)

    def _strips(
        self, setting: Setting, run: Run, layout: Layout, seen: Callable[[int, np.ndarray], None] | None
    ) -> Iterator[np.ndarray]:
        rows = max(1, _STRIP // layout.width // STRIP_ROWS) * STRIP_ROWS
        total = -(-layout.height // rows)
        for index in range(total):
            top = index * rows
            strip = self.render(setting, run, layout, Box(top, 0, min(rows, layout.height - top), layout.width))
            if seen is not None:
                seen(top, strip)
            yield strip
            run.progress("strips", index + 1, total)


def to_grey(values: Tensor) -> Tensor:
    """The luma of (1, 3, H, W), as grey pictures are saved: (1, 1, H, W)."""
    return (values * torch.tensor(_LUMA).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)


def _bleed(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Give each fully transparent pixel the colour of the nearest pixel that is not."""
    hidden = alpha == 0
    if not hidden.any() or hidden.all():
        return rgb
    from scipy.ndimage import distance_transform_edt

    rows, columns = distance_transform_edt(hidden, return_distances=False, return_indices=True)
    return rgb[rows, columns]
