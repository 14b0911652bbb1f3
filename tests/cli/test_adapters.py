from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch

from srgui.lora.adapter import Adapter
from srgui.lora.card import AdapterCard, Base
from srgui.lora.catalogue import load_adapter, save_adapter
from srgui.lora.trainable import LoraModel, LoraSpec
from srgui.models.load import file_digest, load_network

Call = Callable[..., Any]


@pytest.fixture
def mine(tiny_files: Any) -> str:
    """An adapter of the tiny model among the user's."""
    network = load_network(tiny_files.safetensors, torch.device("cpu"))
    model = LoraModel(network.with_module(network.module).module, LoraSpec("2"), 0)
    base = Base("tiny", file_digest(tiny_files.safetensors))
    card = AdapterCard(
        "Pages", "domain", base, 4, "2", "conv", None, ("*",), metrics={"mean_gain_db": 1.25, "verdict": "It helps."}
    )
    save_adapter(Adapter(model.factors(), card, False), "mine")
    return "mine"


def test_adapters_are_listed_and_shown(srgui: Call, mine: str, home: Path) -> None:
    lines = {line.split()[0]: line for line in srgui("adapters", "list").out.splitlines()}
    assert all(part in lines["mine"] for part in ("x4", "domain", "tiny", "+1.25 dB", "Pages"))
    shown = srgui("adapters", "show", mine).out
    assert all(part in shown for part in ("It helps.", "2 (conv), alpha as the rank", str(home / "adapters" / "mine")))
    (home / "adapters" / "mine" / "card.json").write_text("{")
    result = srgui("adapters", "list")
    assert result.code == 0
    assert result.err.startswith("warning: ")


def test_an_adapter_goes_out_and_comes_back(srgui: Call, mine: str, tmp_path: Path, tiny_files: Any) -> None:
    file = tmp_path / "out.safetensors"
    assert srgui("adapters", "export", mine, file).out.strip() == str(file)
    srgui("adapters", "export", mine, file).refused("exists")
    assert "other is ready" in srgui("adapters", "import", file, "--name", "other", "-m", tiny_files.safetensors).out
    srgui("adapters", "import", file, "--name", "other", "-m", tiny_files.safetensors).refused("'other' exists already")
    srgui("adapters", "import", file, "--name", "third").refused("is for tiny", "these are")  # the default model is another
    assert "renamed is ready" in srgui("adapters", "rename", "other", "renamed").out
    for name, part in load_adapter("mine").factors.items():
        assert torch.equal(load_adapter("renamed").factors[name].A, part.A)


def test_an_adapter_is_removed_when_asked_twice(srgui: Call, mine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for answer in ("", "n\n"):
        monkeypatch.setattr("sys.stdin", StringIO(answer))
        result = srgui("adapters", "remove", mine)
        assert result.code == 1
        assert "Traceback" not in result.err
        assert load_adapter(mine)
    assert srgui("adapters", "remove", mine, "--yes").out.strip() == "mine is removed"
    srgui("adapters", "remove", mine, "--yes").refused("unknown adapter 'mine'")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show", "mien"], "Did you mean mine?"),
        (["export", "mine", "out.pth"], ".safetensors"),
        (["rename", "mine", "../x"], "'../x' cannot be an adapter's name"),
        (["rename", "mine", "mine"], "'mine' exists already"),
        (["rename", "none", "x"], "unknown adapter 'none'"),
        (["import", "missing.safetensors", "-m", "bicubic"], "bicubic"),
        (["import", "missing.safetensors"], "missing.safetensors"),
    ],
    ids=str,
)
def test_a_bad_use_of_adapters_is_one_line(
    srgui: Call, mine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    srgui("adapters", *words).refused(message)
    assert not any(tmp_path.iterdir())
