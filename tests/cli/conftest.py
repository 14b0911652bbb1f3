"""The command line in this process, and pictures for it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from srgui.cli import main
from srgui.errors import MetricUnavailable


@dataclass(frozen=True)
class Called:
    """How a command ended."""

    code: int | str
    out: str
    err: str

    def refused(self, *words: str, code: int = 2) -> None:
        """One line on stderr, which holds all of ``words``."""
        assert self.code == code
        assert "Traceback" not in self.err
        (line,) = self.err.splitlines()
        assert line.startswith("error: ")
        for word in words:
            assert word in line


@pytest.fixture
def srgui(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Called]:
    """Runs the command line in this process."""

    def call(*args: object) -> Called:
        monkeypatch.setattr(sys, "argv", ["srgui", *map(str, args)])
        with pytest.raises(SystemExit) as exit:
            main()
            raise SystemExit(0)
        out, err = capsys.readouterr()
        return Called(exit.value.code or 0, out, err)

    return call


@pytest.fixture(autouse=True)
def _no_lpips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its weights would be downloaded."""

    def load(net: str) -> None:
        raise MetricUnavailable("LPIPS not available: this is a test")

    monkeypatch.setattr("srgui.metrics.load_lpips", load)
    monkeypatch.setattr("srgui.tuning.tune.load_lpips", load)


@pytest.fixture
def hr_dir(tmp_path: Path, save_png: Callable[..., Path]) -> Path:
    """Two pictures of smooth patterns; the sides of the second are no multiples of the scale."""
    for index, (height, width) in enumerate([(48, 64), (50, 67)]):
        y, x = np.mgrid[0:height, 0:width]
        planes = np.stack([np.sin(x / 6 + index), np.cos(y / 5), np.sin((x + y) / 8)], axis=2)
        save_png(tmp_path / "hr" / f"{index}.png", (127 + 100 * planes).round().astype(np.uint8))
    return tmp_path / "hr"
