from __future__ import annotations

import json
import math
import types
import typing
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from srgui.errors import InputError
from srgui.training.recipe import Recipe, changed, read_recipe

KINDS = typing.get_type_hints(Recipe)
NAMES = [field.name for field in fields(Recipe)]


def values(name: str) -> st.SearchStrategy[Any]:
    kind = KINDS[name]
    if typing.get_origin(kind) is typing.Literal:
        return st.sampled_from(typing.get_args(kind))
    if isinstance(kind, types.GenericAlias):
        return st.lists(st.text(), min_size=1, max_size=3).map(tuple)
    if kind is int:
        return st.integers(4, 10**6)
    if kind is float:
        return st.floats(0.05 if name == "zoom" else 0, 0.99)
    return st.booleans() if kind is bool else st.text()


recipes = st.fixed_dictionaries({}, optional={name: values(name) for name in NAMES if name != "content"}).map(
    lambda given: replace(Recipe(), **given)
)


@pytest.mark.parametrize("suffix", [".toml", ".json", ".TOML"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(recipe=recipes)
def test_a_recipe_is_read_as_it_was_written(tmp_path: Path, suffix: str, recipe: Recipe) -> None:
    path = tmp_path / f"recipe{suffix}"
    recipe.write(path)
    assert read_recipe(path) == recipe
    assert changed(Recipe(), json.loads(json.dumps(recipe.as_dict()))) == recipe


@given(recipe=recipes.filter(lambda recipe: not any("," in target for target in recipe.targets)))
def test_a_recipe_can_be_given_as_text(recipe: Recipe) -> None:
    texts = {name: ",".join(value) if isinstance(value, list) else str(value) for name, value in recipe.as_dict().items()}
    assert changed(Recipe(), texts) == recipe


def test_fields_that_are_not_there_keep_their_defaults(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("steps = 7\nlr = 1\n")
    assert read_recipe(tmp_path / "a.toml") == Recipe(steps=7, lr=1.0)


NUMBERS = [name for name in NAMES if KINDS[name] in (int, float)]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [-1, math.nan, math.inf, "many", True, None, [1]])
def test_a_number_that_cannot_be_is_refused_by_its_name(name: str, value: object) -> None:
    with pytest.raises(InputError, match=f"^{name} = "):
        changed(Recipe(), {name: value})


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NUMBERS and KINDS[name] is not str])
def test_a_choice_that_is_none_is_refused_by_its_name(name: str) -> None:
    for value in ("nothing like it", 3):
        if KINDS[name] != tuple[str, ...] or value == 3:
            with pytest.raises(InputError, match=f"^{name} = "):
                changed(Recipe(), {name: value})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stesp": 5}, "no field 'stesp'. Did you mean steps"),
        ({"steps": 0}, "steps = 0 is out of range; use 1 or more"),
        ({"steps": "1.5"}, "steps = '1.5' must be of type int"),
        ({"ema": 1}, "ema = 1.0 is out of range; use 0 or more and below 1"),
        ({"loss": "l2"}, "loss = 'l2' is not known. Did you mean l1"),
        ({"targets": ()}, "no targets trains nothing"),
        ({"content": 0}, "has nothing to minimise"),
    ],
)
def test_messages_say_the_value_the_reason_and_the_remedy(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        changed(Recipe(), values)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.toml", "steps = ", "is not TOML"),
        ("a.json", "{", "is not JSON"),
        ("a.json", "[1]", "is not a table of fields"),
        ("a.json", '{"steps": 1e400}', "steps = inf"),
        ("a.json", "[" * 100_000, "is not JSON"),
        ("a.yaml", "steps: 3", "must be named .toml or .json"),
        ("a.toml", None, "cannot be read: No such file"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError) as caught:
        read_recipe(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# The learning rate


def rates(recipe: Recipe, steps: int) -> list[float]:
    return [recipe.rate(step, steps) for step in range(steps + 1)]


def test_a_cosine_falls_from_one_to_zero_after_a_linear_rise() -> None:
    found = rates(Recipe(warmup=10, schedule="cosine"), 100)
    assert found[:9] == pytest.approx([(step + 1) / 10 * 0.5 * (1 + math.cos(math.pi * step / 100)) for step in range(9)])
    assert found[50] == pytest.approx(0.5)
    assert found[9:] == sorted(found[9:], reverse=True)
    assert found[100] == pytest.approx(0, abs=1e-12)


def test_a_horizon_stretches_the_cosine_and_a_cooldown_ends_at_zero() -> None:
    found = rates(Recipe(warmup=0, horizon=200, cooldown=20), 100)
    assert found[0] == 1
    assert found[80] == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.4)))
    assert found[90] == pytest.approx(0.5 * 0.5 * (1 + math.cos(math.pi * 0.45)))
    assert found[100] == 0


def test_a_constant_rate_stays_and_a_cooldown_longer_than_the_training_is_all_of_it() -> None:
    assert rates(Recipe(warmup=0, schedule="constant"), 9) == [1.0] * 10
    assert rates(Recipe(warmup=0, schedule="constant", cooldown=100), 4) == [1, 0.75, 0.5, 0.25, 0]


@pytest.mark.parametrize(("epochs", "pictures", "batch", "steps"), [(0, 80, 4, 9), (5, 80, 1, 400), (1, 10, 4, 3), (2, 3, 16, 1)])
def test_epochs_count_pictures(epochs: int, pictures: int, batch: int, steps: int) -> None:
    assert Recipe(epochs=epochs, batch=batch, steps=9).total_steps(pictures) == steps
