"""A small data set, and reports on it that take seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from srgui.reports.kinds import ESRGAN_LORA_L1, Kind
from srgui.reports.request import Request, data_sets
from srgui.reports.study import Study

SMALL = {"steps": "4", "epochs": "0", "resize": "0", "patch": "8", "batch": "2", "lr": "1e-2", "perceptual": "0", "content": "1"}


@pytest.fixture
def pages(tmp_path: Path, save_png: Callable[..., Path]) -> Path:
    """Four pictures of 64 x 64 to train on and two of 68 x 66 held out."""
    for number in range(4):
        save_png(tmp_path / "pages" / "train" / f"{number}.png", (64, 64 + number))
    for number in range(2):
        save_png(tmp_path / "pages" / "val" / f"held{number}.png", (68, 66 + number))
    return tmp_path / "pages"


@pytest.fixture
def study(tiny_files: Any, pages: Path, tmp_path: Path) -> Callable[..., Study]:
    """``study(kind, bench=(), **changes)``: a study of the tiny network on ``pages``, and ``.said`` is what it said."""

    def make(kind: Kind = ESRGAN_LORA_L1, bench: tuple[Path, ...] = (), **changes: str) -> Study:
        request = Request(
            kind, data_sets([pages]), tmp_path / "out", bench, str(tiny_files.safetensors), {**SMALL, **changes}, "cpu", workers=0
        )
        said: list[str] = []
        made = Study(request, None, "LPIPS not available: this is a test", said.append)
        made.said = said  # type: ignore[attr-defined]
        return made

    return make
