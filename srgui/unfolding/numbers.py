"""Numbers that people bring as .npy files."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from srgui.errors import InputError


def read_npy(path: Path) -> np.ndarray:
    """The array in a .npy file, as float64; nothing in it is executed.

    Raises:
        InputError: it cannot be read, or holds no real numbers.
    """
    try:
        found = np.load(path, allow_pickle=False)
        if not isinstance(found, np.ndarray) or found.dtype.kind not in "buif":
            raise ValueError("no array of real numbers")
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read ({error}); save it with numpy.save") from error
    return found.astype(np.float64)
