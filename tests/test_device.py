from __future__ import annotations

from pathlib import Path

import pytest
import torch

from srgui import device
from srgui.errors import InputError
from srgui.places import home

GIB = 2**30


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 8 GiB available, and a control group to be filled in."""
    (tmp_path / "meminfo").write_text(f"MemTotal: {16 * 2**20} kB\nMemAvailable: {8 * 2**20} kB\n")
    monkeypatch.setattr(device, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(device, "_CGROUPS", tmp_path)
    return tmp_path


def group(folder: Path, version: int, limit: int | str, used: int, cache: int) -> None:
    folder = folder if version == 2 else folder / "memory"
    folder.mkdir(exist_ok=True)
    names = ("max", "current", "inactive_file") if version == 2 else ("limit_in_bytes", "usage_in_bytes", "total_inactive_file")
    (folder / f"memory.{names[0]}").write_text(f"{limit}\n")
    (folder / f"memory.{names[1]}").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{names[2]} {cache}\nactive_file 7\n")


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("limit", "used", "cache", "free"),
    [
        (4 * GIB, 1 * GIB, 0, 3 * GIB),
        (2**63 - 4096, 1 * GIB, 0, 8 * GIB),
        (1 * GIB, 2 * GIB, 0, 0),
        (4 * GIB, 4 * GIB, 3 * GIB, 3 * GIB),  # what is only cache is free
    ],
)
def test_free_memory_is_bounded_by_the_control_group(
    machine: Path, version: int, limit: int, used: int, cache: int, free: int
) -> None:
    group(machine, version, limit, used, cache)
    assert device.free_memory(torch.device("cpu")) == free


def test_a_control_group_without_a_limit(machine: Path) -> None:
    group(machine, 2, "max", 3 * GIB, 0)
    assert device.free_memory(torch.device("cpu")) == 8 * GIB


def test_free_memory_without_a_control_group(machine: Path) -> None:
    assert device.free_memory(torch.device("cpu")) == 8 * GIB


def test_free_memory_of_this_machine_is_a_number() -> None:
    assert device.free_memory(torch.device("cpu")) >= 0


def test_devices_are_picked_by_name() -> None:
    assert device.pick("cpu") == torch.device("cpu")
    assert device.pick("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert device.available()[-1] == "cpu"
    for name in device.available():
        assert str(device.pick(name)) == name


@pytest.mark.parametrize("name", ["", "tpu", "cuda:", "cuda:-1", "cuda:x", "cuda:99", "cudax", "CPU"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    if name == "cuda:" and torch.cuda.is_available():
        pytest.skip("is a GPU here")
    with pytest.raises(InputError, match=r"use (auto|cpu)"):
        device.pick(name)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 5 bytes"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 5 bytes"), True),
        (RuntimeError("shapes cannot be multiplied"), False),
        (ValueError("can't allocate memory"), False),
    ],
)
def test_what_running_out_of_memory_looks_like(error: Exception, expected: bool) -> None:
    assert device.is_out_of_memory(error) == expected


def test_home_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SRGUI_HOME", str(tmp_path / "mine"))
    assert home() == tmp_path / "mine"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SRGUI_HOME", "~/models")
    assert home() == tmp_path / "models"
    monkeypatch.delenv("SRGUI_HOME")
    assert home().name == "srgui"
