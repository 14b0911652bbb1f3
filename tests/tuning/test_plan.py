from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from srgui.errors import AdapterError, InputError, ModelError
from srgui.lora.adapter import Adapter, attach
from srgui.lora.card import AdapterCard, Base
from srgui.lora.catalogue import save_adapter
from srgui.lora.trainable import LoraModel, LoraSpec
from srgui.models.load import file_digest
from srgui.models.network import Network
from srgui.training.presets import preset
from srgui.training.recipe import Recipe
from srgui.tuning.order import Order
from srgui.tuning.plan import Plan

Make = Callable[..., Order]


def test_pictures_are_split_and_held_out_ones_are_not_trained_on(make_order: Make) -> None:
    plan = Plan(make_order())
    train, held = plan.items
    assert (len(train), len(held)) == (3, 1)
    assert not {item.sha256 for item in train} & {item.sha256 for item in held}
    assert [pair.path for pair in plan.held_out] == [item.path for item in held]
    assert plan.steps == 2


def test_a_folder_named_twice_is_drawn_twice_as_often(make_order: Make, tmp_path: Path, save_png: Callable[..., Path]) -> None:
    save_png(tmp_path / "more" / "a.png", (50, 50))
    order = make_order()
    twice = Plan(replace(order, pictures=(*order.pictures, str(tmp_path / "more"), str(tmp_path / "more"))))
    names = [item.path.name for item in twice.items[0]]
    assert (names.count("a.png"), len(set(names)), len(names)) == (2, 4, 5)


def test_given_validation_pictures_are_all_held_out(make_order: Make, tmp_path: Path, save_png: Callable[..., Path]) -> None:
    save_png(tmp_path / "val" / "v.png", (44, 44))
    train, held = Plan(make_order(val_dir=str(tmp_path / "val"))).items
    assert len(train) == 4
    assert [item.path.name for item in held] == ["v.png"]
    with pytest.raises(InputError, match=r"0\.png is in the validation folder and among the training pictures"):
        _ = Plan(make_order(val_dir=str(tmp_path / "hr"))).items


def test_what_a_training_belongs_to(make_order: Make, tiny_files: Any) -> None:
    plan, other = Plan(make_order()), Plan(make_order(Recipe(held_out=2, patch=6)))
    assert plan.identity["base"] == file_digest(tiny_files.safetensors)
    assert plan.identity["pictures"] == Plan(make_order()).identity["pictures"] != other.identity["pictures"]
    assert "compact" in Plan(make_order(model="", network={"kind": "compact"})).identity["base"]


def test_the_network_is_this_trainings_own(make_order: Make) -> None:
    first, second = Plan(make_order()), Plan(make_order())
    assert first.network.digest == second.network.digest is not None
    assert not {p.data_ptr() for p in first.network.module.parameters()} & {
        p.data_ptr() for p in second.network.module.parameters()
    }


def test_without_weights_the_network_is_counted_by_its_shape(make_order: Make) -> None:
    recipe = replace(preset("esrgan-lora").recipe, patch=6, targets=("*.RDB*",))
    with pytest.raises(ModelError, match="not on this machine; get them with: python -m srgui models download esrgan-x4"):
        Plan(make_order(recipe, model="esrgan-x4"))
    counts = Plan(make_order(recipe, model="esrgan-x4"), weights=False).counts()
    assert counts == {"trainable": 1_642_752, "total": 16_697_987, "modules": 345}


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_forecast_is_of_all_steps(make_order: Make, method: str) -> None:
    plan = Plan(make_order(Recipe(method=method, patch=6, batch=2, steps=70)))  # type: ignore[arg-type]
    before = [p.clone() for p in plan.network.module.parameters()]
    found = plan.forecast()
    assert found["steps"] == 70
    assert found["seconds"] == pytest.approx(70 * found["seconds_per_step"])
    assert found["memory"] > plan.network.parameters * 4
    assert all((a == b).all() for a, b in zip(before, plan.network.module.parameters(), strict=True))


def test_a_larger_batch_takes_more_memory(make_order: Make) -> None:
    few, many = (Plan(make_order(Recipe(patch=6, batch=batch))).forecast()["memory"] for batch in (1, 8))
    assert many > few


def test_with_a_zoom_pictures_are_also_shown_smaller(make_order: Make) -> None:
    plain, zoomed = Plan(make_order(Recipe(patch=4))), Plan(make_order(Recipe(patch=4, zoom=0.5)))
    pairs = zoomed.patches.pairs
    count = len(plain.items[0])
    assert zoomed.items == plain.items
    assert len(plain.patches.pairs) == count
    assert len(pairs) == 3 * count
    for index in range(len(pairs)):
        height, width = pairs.lr_size(index)
        assert pairs[index].hr.shape == (height * zoomed.network.scale, width * zoomed.network.scale, 3)
    heights = [pairs.lr_size(index)[0] for index in (0, count, 2 * count)]
    assert heights[0] > heights[1] > heights[2] >= 4


def test_pictures_too_small_to_be_shrunk_are_shown_as_they_are(make_order: Make) -> None:
    assert len(Plan(make_order(Recipe(patch=10, zoom=0.1))).patches.pairs) == 3


def test_what_is_trained_lies_on_adapters(make_order: Make, tiny: Network) -> None:
    factors = LoraModel(tiny.module, LoraSpec("2"), 0)
    with torch.no_grad():
        for factor in factors.lora_B:
            factor.fill_(0.05)
    card = AdapterCard("below", "pixel", Base("", tiny.digest), 4, "2", "conv")
    below = Adapter(factors.factors(), card)
    save_adapter(below, "below")
    plan = Plan(replace(make_order(), under=(("below", 0.5),)))
    lr = torch.rand(1, 3, 8, 8)
    expected = attach(tiny.module, [(below, 0.5)])(lr)
    torch.testing.assert_close(plan.network(lr), expected, rtol=0, atol=1e-5)
    assert plan.under == [{"name": "below", "strength": 0.5, "sha256": below.digest}]
    assert plan.identity != Plan(make_order()).identity
    other = replace(below, card=replace(card, base=Base("x", "0" * 64)))
    save_adapter(other, "other")
    with pytest.raises(AdapterError, match="is for x"):
        Plan(replace(make_order(), under=(("other", 1.0),)))
