from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from srgui.errors import InputError, SrguiError
from srgui.models.cards import DEFAULT_MODEL
from srgui.training.presets import PRESETS
from srgui.training.recipe import Recipe
from srgui.tuning.order import Order, beneath, check_order, spare_workers

Make = Callable[..., Order]


def test_an_order_survives_json(make_order: Make) -> None:
    order = make_order(Recipe(targets=("a", "b")), network={"kind": "compact"}, val_dir="v", lr_dir="l", pair_by="order")
    assert Order.from_json(json.loads(json.dumps(order.as_json()))) == order


@pytest.mark.parametrize("change", [{"recipe": None}, {"recipe": {"steps": 0}}, {"pictures": 3}, {"colour": "red"}], ids=str)
def test_an_order_that_is_none_is_refused(make_order: Make, change: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Order.from_json({**make_order().as_json(), **change})
    with pytest.raises(InputError, match="cannot be read"):
        Order.from_json({})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "../x"}, "cannot be an adapter's name"),
        ({"device": "tpu"}, "unknown device"),
        ({"recipe": Recipe(rank="0")}, "'0'"),
        ({"recipe": Recipe(rank="200%")}, "200%"),
        ({"recipe": Recipe(method="full"), "name": "bicubic"}, "a model 'bicubic' exists already"),
    ],
    ids=str,
)
def test_what_can_be_refused_at_once_is(make_order: Make, change: dict[str, Any], message: str) -> None:
    check_order(make_order())
    with pytest.raises(SrguiError) as caught:
        check_order(make_order(**change))
    assert message in str(caught.value)


@pytest.mark.parametrize(("cores", "workers"), [(None, 0), (1, 0), (3, 0), (4, 1), (16, 4), (256, 8)])
def test_few_cores_have_no_workers_to_spare(monkeypatch: pytest.MonkeyPatch, cores: int | None, workers: int) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert spare_workers() == workers


def test_detail_lies_on_the_models_pixel_adapter() -> None:
    assert beneath(PRESETS["semantic"], DEFAULT_MODEL) == (("pixel", 1.0),)
    assert beneath(PRESETS["semantic"], "srgui-srcnn-x4") == ()
    assert beneath(PRESETS["pixel"], DEFAULT_MODEL) == ()
    order = replace(Order("a", ("b",), DEFAULT_MODEL, Recipe()), under=(("pixel", 0.5),))
    assert Order.from_json(json.loads(json.dumps(order.as_json()))) == order
