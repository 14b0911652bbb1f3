"""The measurement matrix that suits photographs best where reconstruction is linear: where a learned Phi starts."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from srgui.unfolding.physics.sensing import BLOCK


def principal_rows(pictures: Iterable[Tensor], rows: int, block: int = BLOCK) -> Tensor:
    """(rows, block^2) orthonormal float32: the leading eigenvectors of the second moments of all blocks at every 4th pixel.

    Args:
        pictures: (1, H, W) each, at least ``block`` on a side.
    """
    moments = torch.zeros(block**2, block**2, dtype=torch.float64)
    for picture in pictures:
        blocks = picture[0].unfold(0, block, 4).unfold(1, block, 4).reshape(-1, block**2).double()
        moments += blocks.T @ blocks
    values, vectors = torch.linalg.eigh(moments)
    return vectors[:, values.argsort(descending=True)[:rows]].T.float().contiguous()
