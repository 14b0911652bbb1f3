"""Where things are: the data that comes with srgui, and the folder that belongs to the user."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / "assets"
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}  # devices of Windows


def home() -> Path:
    """The user's folder for models, adapters and temporary files: ``SRGUI_HOME``, or the platform's usual place."""
    given = os.environ.get("SRGUI_HOME")
    if given:
        return Path(given).expanduser()
    from platformdirs import user_data_path

    return user_data_path("srgui", appauthor=False)


def is_plain_name(text: str) -> bool:
    """Whether a model or an adapter can be called so: the name becomes a folder's, on any system."""
    plain = text == Path(text).name and text.isprintable() and not set(text) & set('\\/:*?"<>|')
    return plain and 0 < len(text) <= 100 and text[0] not in ".-~" and text.split(".")[0].lower() not in _RESERVED


PLAIN_NAME = "use letters, digits, dots, dashes and underscores, no dot in front, and no name that Windows reserves"
