from __future__ import annotations

import errno
import json
import os
import pickle
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from srgui.errors import AdapterError, OutputError
from srgui.lora.adapter import Adapter, attach
from srgui.lora.files import CARD, CONFIG, TENSORS, card_of, read_adapter, read_foreign, write_adapter, write_file

Make = Callable[..., Adapter]


@pytest.fixture
def folder(tmp_path: Path, network: nn.Module, adapter: Make) -> Path:
    write_adapter(adapter(network), tmp_path / "good")
    return tmp_path / "good"


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refusal(path: Path) -> str:
    with pytest.raises(AdapterError) as caught:
        read_adapter(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.mark.parametrize("form", ["conv", "reshape"])
@pytest.mark.parametrize("dora", [False, True])
def test_folder_and_file_give_the_adapter_back(
    tmp_path: Path, network: nn.Module, adapter: Make, picture: Any, form: str, dora: bool
) -> None:
    made = adapter(network, form=form, dora=dora, rank="40%", alpha=3.0, rslora=True)
    write_adapter(made, tmp_path / "a")
    write_file(made, tmp_path / "b.safetensors")
    expected = attach(network, [(made, 0.7)])(picture(6, 7))
    for path in (tmp_path / "a", tmp_path / "a" / TENSORS, tmp_path / "b.safetensors"):
        found = read_adapter(path)
        assert (found.card, found.rslora, found.dora, found.form) == (made.card, True, dora, form)
        assert (found.rank, found.alpha, found.parameters) == ("40%", 3.0, made.parameters)
        assert torch.equal(attach(network, [(found, 0.7)])(picture(6, 7)), expected)
        assert card_of(path) == made.card
    assert listing(tmp_path / "a") == [CONFIG, TENSORS, CARD]
    assert listing(tmp_path) == ["a", "b.safetensors"]


def test_what_is_there_is_not_overwritten(tmp_path: Path, folder: Path) -> None:
    made = read_adapter(folder)
    (tmp_path / "b.safetensors").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        write_adapter(made, folder)
    with pytest.raises(OutputError, match="exists already"):
        write_file(made, tmp_path / "b.safetensors")
    with pytest.raises(OutputError, match=r"must be named \.safetensors"):
        write_file(made, tmp_path / "b.bin")
    assert (tmp_path / "b.safetensors").read_text() == "mine"
    assert read_adapter(folder).card == made.card


@pytest.mark.parametrize("full_at", [TENSORS, CONFIG, CARD])
def test_a_full_disk_leaves_nothing_half_written(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, full_at: str
) -> None:
    made, write = read_adapter(folder), Path.write_bytes

    def fail(path: Path, data: bytes) -> int:
        if path.name == full_at or path.parent == tmp_path:
            write(path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OutputError, match="a cannot be written: No space left on device; free some space"):
        write_adapter(made, tmp_path / "a")
    with pytest.raises(OutputError, match="No space left on device"):
        write_file(made, tmp_path / "a.safetensors")
    assert listing(tmp_path) == ["good"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, folder: Path) -> None:
    made = read_adapter(folder)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        write_adapter(made, tmp_path / "file" / "a")
    with pytest.raises(OutputError, match="cannot be written"):
        write_file(made, tmp_path / "file" / "a.safetensors")


# What is refused


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth", ".bin"])
@pytest.mark.parametrize("content", [b"", b"none", b"\x80", b"PK\x03\x04", bytes(4000), b"\xff" * 4000, b"<html>404</html>"])
def test_what_is_no_file_of_tensors_is_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    refusal(path)


@pytest.mark.parametrize("part", [0.0, 0.001, 0.5, 0.99])
def test_a_truncated_file_is_refused(folder: Path, part: float) -> None:
    whole = (folder / TENSORS).read_bytes()
    (folder / TENSORS).write_bytes(whole[: int(len(whole) * part)])
    assert "damaged" in refusal(folder)


@pytest.mark.parametrize("length", [2**63, 2**40, 200_000_000, 10**6])
def test_a_header_that_claims_too_much_is_refused(folder: Path, length: int) -> None:
    (folder / TENSORS).write_bytes(struct.pack("<Q", length) + b"{}" + bytes(1000))
    assert "damaged" in refusal(folder)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [10**9, 10**9], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [0, 10**12]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "X9", "shape": [1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [2], "data_offsets": [4, 0]},
        {"dtype": "F8_E8M0", "shape": [4], "data_offsets": [0, 4]},
        {"dtype": "I32", "shape": [1, 1], "data_offsets": [0, 4]},
        {"dtype": "BOOL", "shape": [2, 2], "data_offsets": [0, 4]},
    ],
)
def test_a_header_that_lies_is_refused(folder: Path, entry: dict[str, Any]) -> None:
    header = json.dumps({"base_model.model.head.lora_A.weight": entry}).encode()
    (folder / TENSORS).write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    refusal(folder)


class Payload:
    """Unpickled, it would create a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "a.pth", "a.bin", "a.pkl", "a.ckpt"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_code_is_refused_and_not_run(tmp_path: Path, name: str, zipped: bool) -> None:
    path, trace = tmp_path / name, tmp_path / "trace"
    if zipped:
        torch.save({"x": Payload(trace)}, path)
    else:
        path.write_bytes(pickle.dumps({"x": Payload(trace)}, protocol=2))
    message = refusal(path)
    assert "holds code (" in message or name == "a.safetensors"
    assert not trace.exists()


@pytest.mark.parametrize("content", [[1], {1: torch.zeros(2, 2)}, {"a": 1}, torch.zeros(2), {"lora_A.weight": [1]}])
def test_pickles_of_something_else_are_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "a.pt")
    refusal(tmp_path / "a.pt")


def test_a_pickle_of_tensors_is_read(tmp_path: Path) -> None:
    torch.save({"a.lora_A.weight": torch.ones(1, 2), "a.lora_B.weight": torch.ones(2, 1)}, tmp_path / "a.pt")
    assert list(read_foreign(tmp_path / "a.pt", None).factors) == ["a"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"\xff", b"[" * 100_000, b'{"peft_type": "LORA"}'])
def test_settings_that_are_none_are_refused(folder: Path, content: bytes) -> None:
    (folder / CONFIG).write_bytes(content)
    refusal(folder)


def test_metadata_that_is_no_json_is_refused(tmp_path: Path) -> None:
    tensors = {"a.lora_A.weight": torch.ones(1, 2), "a.lora_B.weight": torch.ones(2, 1)}
    for key in ("adapter_config", "card", "lora_adapter_metadata"):
        for text in ("{", "[]"):
            save_file(tensors, tmp_path / "a.safetensors", {key: text})
            refusal(tmp_path / "a.safetensors")


def test_a_card_of_another_form_than_the_tensors_is_refused(tmp_path: Path, folder: Path) -> None:
    made = read_adapter(folder)
    write_adapter(replace(made, card=replace(made.card, form="reshape")), tmp_path / "liar")
    assert "says reshape, and its tensors are in the form conv" in refusal(tmp_path / "liar")


def test_what_has_no_card_is_to_be_imported(tmp_path: Path, folder: Path) -> None:
    (folder / CARD).unlink()
    assert f"python -m srgui adapters import {folder}" in refusal(folder)
    save_file({"a.lora_A.weight": torch.ones(1, 2), "a.lora_B.weight": torch.ones(2, 1)}, tmp_path / "a.safetensors")
    assert "adapters import" in refusal(tmp_path / "a.safetensors")
    with pytest.raises(AdapterError, match="adapters import"):
        card_of(tmp_path / "a.safetensors")


@pytest.mark.parametrize("name", ["nothing", "nothing.safetensors", "nothing.pt", "nothing.txt", "x" * 300 + ".pt"])
def test_what_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    refusal(tmp_path / name)


def test_a_folder_without_tensors_is_refused(folder: Path) -> None:
    (folder / TENSORS).unlink()
    assert f"holds no {TENSORS}" in refusal(folder)
