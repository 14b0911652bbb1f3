"""A small training: a folder of pictures, a tiny network, and the trainer on both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from srgui.models.build import build
from srgui.models.network import Network
from srgui.training.pairs import Pairs, validation_pairs
from srgui.training.patches import Patches
from srgui.training.preflight import inspect, split
from srgui.training.recipe import Recipe
from srgui.training.trainer import Task, Trainer
from srgui.training.validation import Validation

SCALE = 2
TINY = Recipe(rank="2", patch=8, batch=4, steps=6, validate_every=3, patience=0, held_out=1, warmup=2, lr=1e-2, lr_rest=1e-2)


@pytest.fixture
def tiny_recipe() -> Recipe:
    """LoRA of rank 2, 6 steps, measured after 3 and 6."""
    return TINY


@pytest.fixture
def pictures(tmp_path: Path, save_png: Callable[..., Path]) -> Path:
    """Four pictures of 48 x 60 with edges and waves."""
    y, x = np.mgrid[0:48, 0:60]
    for index in range(4):
        waves = np.stack([np.sin(x / (3 + index) + y / 9), np.cos(y / (4 + index)), np.sign(x - y + 5 * index)], axis=2)
        save_png(tmp_path / "pictures" / f"{index}.png", (127 + 90 * waves).astype(np.uint8))
    return tmp_path / "pictures"


@pytest.fixture
def network() -> Network:
    """Compact, x2, of 6 features and 1 convolution between the first and the last."""
    return build({"kind": "compact", "features": 6, "convs": 1, "scale": SCALE})


@pytest.fixture
def computer() -> Iterator[Accelerator]:
    AcceleratorState._reset_state(reset_partial_state=True)
    yield Accelerator(cpu=True)
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def make_task(pictures: Path, network: Network) -> Callable[..., Task]:
    """A task of the tiny recipe with some fields changed, on another network if one is given."""

    def make(network: Network = network, **fields: Any) -> Task:
        recipe = replace(TINY, **fields)
        items, held = split(inspect([pictures], scale=network.scale, patch=recipe.patch).usable(), recipe.held_out, recipe.seed)
        pairs = Pairs(items, network.scale, recipe.degradation, size=recipe.resize or None)
        validation = Validation(validation_pairs(held, network.scale, recipe.degradation, recipe.seed), network.scale, None)
        patches = Patches(pairs, patch=recipe.patch, seed=recipe.seed, noisy=recipe.noisy)
        return Task(network, recipe, patches, len(items), validation, {"base": "tiny"})

    return make


@pytest.fixture
def make_trainer(make_task: Callable[..., Task], computer: Accelerator, tmp_path: Path) -> Callable[..., Trainer]:
    """A trainer of the tiny recipe with some fields changed, in a folder of its own."""

    def make(folder: str = "work", /, **fields: Any) -> Trainer:
        return Trainer(make_task(**fields), tmp_path / folder, computer)

    return make
