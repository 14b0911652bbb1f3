"""A picture in memory, and the one conversion between its samples and tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from srgui.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Picture:
    """The samples of a file and what rides along with them.

    Attributes:
        rgb: (H, W, 3), uint8 or uint16, upright (EXIF orientation applied), sRGB-encoded or in the space of ``icc``.
        alpha: (H, W) of the same dtype, straight (not premultiplied), or None.
        grey: the file was grey; ``rgb`` holds three equal planes and a saved result is grey again.
        icc: the embedded ICC profile.
        exif: the EXIF block, a TIFF structure without the ``Exif\\0\\0`` prefix, orientation removed.
        settings: the srgui settings that made the file, if it was made here.
        notes: what was changed in reading, for the user to know ("first of 12 frames").
    """

    rgb: np.ndarray
    alpha: np.ndarray | None = None
    grey: bool = False
    icc: bytes | None = None
    exif: bytes | None = None
    settings: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = field(default=())
    path: Path | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.rgb.shape[0], self.rgb.shape[1]

    @property
    def depth(self) -> int:
        """Bits per sample, 8 or 16."""
        return self.rgb.dtype.itemsize * 8

    def tensor(self) -> Tensor:
        """The colours, (1, 3, H, W) float32 in [0, 1]."""
        return to_tensor(self.rgb)

    def as_uint8(self) -> np.ndarray:
        """The colours on the 8-bit grid, (H, W, 3) uint8."""
        return self.rgb if self.depth == 8 else to_samples(self.tensor(), 8)


def to_tensor(samples: np.ndarray) -> Tensor:
    """(H, W, C) or (H, W), uint8 or uint16 -> (1, C, H, W) float32 in [0, 1]."""
    import torch

    if samples.ndim == 2:
        samples = samples[..., None]
    top = np.float32(np.iinfo(samples.dtype).max)
    planes = np.ascontiguousarray(samples.transpose(2, 0, 1), dtype=np.float32)
    return torch.from_numpy(planes / top)[None]


def to_samples(image: Tensor, depth: int) -> np.ndarray:
    """(1, C, H, W) float -> (H, W, C) uint8 or uint16: clipped to [0, 1], rounded half to even on the grid of ``depth`` bits.

    Raises:
        ModelError: the image holds NaN, which no sample can stand for.
    """
    top = (1 << depth) - 1
    grid = image[0].float().clamp(0, 1).mul(top).round_()
    if bool(grid.isnan().any()):
        raise ModelError("the result holds NaN; the model or an adapter is broken, or half precision overflowed: try float32")
    return np.ascontiguousarray(grid.permute(1, 2, 0).cpu().numpy().astype(np.uint8 if depth == 8 else np.uint16))
