"""Where a tiny decoder is looked for, and what is taken for one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from srgui.diffusion.tiny import HUB, open_tiny
from srgui.errors import ModelError
from srgui.models.cards import Card, Part, models_folder

CPU = torch.device("cpu")
Make = Callable[..., Card]


@pytest.fixture
def card() -> Make:
    def make(**parts: Path) -> Card:
        return Card("x", "pisa-sr", 4, {role: Part(path) for role, path in parts.items()}, "X", "none")

    return make


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of Hugging Face's."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_without_one_there_is_none(card: Make) -> None:
    assert open_tiny(card(), 4, CPU) is None


def test_it_is_found_in_the_models_folder(card: Make, tiny_folder: Path) -> None:
    shutil.copytree(tiny_folder, models_folder() / "taesd")
    found = open_tiny(card(), 4, CPU)
    assert found is not None
    assert found is open_tiny(card(), 4, CPU)
    assert not any(p.requires_grad for p in found.parameters())
    assert open_tiny(card(), 16, CPU) is None, "it is for other latents"
    (models_folder() / "taesd" / "diffusion_pytorch_model.safetensors").unlink()
    assert open_tiny(card(), 4, CPU) is None, "half of one is none"


def test_it_is_found_in_the_cache_of_the_hub(card: Make, tiny_folder: Path, cache: Path) -> None:
    place = cache / f"models--{HUB.replace('/', '--')}"
    shutil.copytree(tiny_folder, place / "snapshots" / "abc")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("abc")
    assert open_tiny(card(), 4, CPU) is not None


def test_one_that_the_card_names_must_fit(card: Make, tiny_folder: Path, tmp_path: Path) -> None:
    assert open_tiny(card(tiny=tiny_folder), 4, CPU) is not None
    with pytest.raises(ModelError, match="latents of 4 channels, and the base has 16 channels; take it off the card of x"):
        open_tiny(card(tiny=tiny_folder), 16, CPU)
    with pytest.raises(ModelError, match="no tiny decoder"):
        open_tiny(card(tiny=tmp_path), 4, CPU)
    broken = tmp_path / "broken"
    shutil.copytree(tiny_folder, broken)
    (broken / "diffusion_pytorch_model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(ModelError, match="cannot be read") as refusal:
        open_tiny(card(tiny=broken), 4, CPU)
    assert "\n" not in str(refusal.value)
