"""Where things are: the data that comes with srgui, and the folder that belongs to the user."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / "assets"


def home() -> Path:
    """The user's folder for models, adapters and temporary files: ``SRGUI_HOME``, or the platform's usual place."""
    given = os.environ.get("SRGUI_HOME")
    if given:
        return Path(given).expanduser()
    from platformdirs import user_data_path

    return user_data_path("srgui", appauthor=False)
