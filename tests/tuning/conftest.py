"""Pictures, and orders for trainings on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from srgui.training.recipe import Recipe
from srgui.tuning.order import Order


@pytest.fixture
def make_order(tmp_path: Path, save_png: Callable[..., Path], tiny_files: Any) -> Callable[..., Order]:
    """An order for an adapter of the tiny model on four pictures, with some fields changed."""
    for index in range(4):
        save_png(tmp_path / "hr" / f"{index}.png", (40 + index, 48))

    def make(recipe: Recipe | None = None, **fields: Any) -> Order:
        small = recipe or Recipe(patch=6, batch=2, steps=2, rank="2")
        values = {"name": "mine", "pictures": (str(tmp_path / "hr"),), "model": str(tiny_files.safetensors), "recipe": small}
        return Order(**{**values, "device": "cpu", "workers": 0, **fields})

    return make
