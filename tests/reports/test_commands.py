from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from srgui.cli import main
from srgui.errors import MetricUnavailable

SMALL = ["--workers", 0, "--set", "patch=8", "--set", "batch=2", "--set", "resize=0", "--set", "perceptual=0", "--set", "content=1"]
Call = Callable[..., SimpleNamespace]


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs ``report`` in this process: ``code``, ``out`` and ``err``."""

    def unavailable(net: str) -> None:
        raise MetricUnavailable("LPIPS not available: this is a test")

    def call(*args: object) -> SimpleNamespace:
        monkeypatch.setattr("srgui.metrics.load_lpips", unavailable)
        monkeypatch.setattr(sys, "argv", ["srgui", "report", *map(str, args)])
        with pytest.raises(SystemExit) as exit:
            main()
            raise SystemExit(0)
        out, err = capsys.readouterr()
        return SimpleNamespace(code=exit.value.code or 0, out=out, err=err)

    return call


@pytest.mark.parametrize(
    ("name", "options", "rows"),
    [
        ("esrgan-lora", ["--l1"], ["bicubic", "tiny", "LoRA, L1"]),
        ("esrgan-finetune", [], ["bicubic", "srgui-srcnn-x4", "tiny", "trunk, MSE", "trunk, perceptual"]),
    ],
)
def test_a_report_is_one_command(
    report: Call, pages: Path, tiny_files: Any, tmp_path: Path, name: str, options: list[str], rows: list[str]
) -> None:
    out = tmp_path / "a" / "report"
    common = ["--data", pages, "--model", tiny_files.safetensors, "--out", out, "--steps", 2, *SMALL]
    result = report(name, *common, *options)
    assert result.code == 0, result.err
    content = json.loads((out / "report.json").read_text())
    assert [row["method"] for row in content["data"][0]["tables"][0]["rows"]] == rows
    assert [training["recipe"]["steps"] for training in content["data"][0]["trainings"]] == [2] * (
        len(rows) - rows.index("tiny") - 1
    )
    assert (out / "report.md").read_text() in result.out
    assert content["report"] == name


def test_ctrl_c_keeps_what_was_trained(
    report: Call, pages: Path, tiny_files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        args[4].check()

    former = signal.getsignal(signal.SIGINT)
    command = ["--data", pages, "--model", tiny_files.safetensors, "--out", tmp_path / "out", "--l1", "--steps", 2, *SMALL]
    with monkeypatch.context() as patched:
        patched.setattr("srgui.reports.study.measure", interrupted)
        result = report("esrgan-lora", *command)
    assert result.code == 2
    assert result.err.splitlines()[-1] == "error: stopped; the same command goes on from here"
    assert signal.getsignal(signal.SIGINT) is former
    assert not (tmp_path / "out" / "report.md").exists()
    result = report("esrgan-lora", *command)
    assert result.code == 0, result.err
    assert "goes on from step 2 of 2" in result.out


def test_what_cannot_be_used_is_one_line(report: Call, pages: Path, tmp_path: Path) -> None:
    for args, word in (
        (["--data", tmp_path / "nowhere"], "nowhere"),
        (["--data", pages, "--model", "bicubic"], "bicubic"),
        (["--data", pages, "--set", "steps"], "FIELD=VALUE"),
        (["--data", pages, "--bench", tmp_path / "none"], "none"),
    ):
        result = report("esrgan-lora", *args, "--out", tmp_path / "out")
        assert result.code == 2
        (line,) = [line for line in result.err.splitlines() if not line.startswith("LPIPS")]
        assert line.startswith("error: ")
        assert word in line
