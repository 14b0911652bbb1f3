from __future__ import annotations

import pytest

from srgui.errors import InputError
from srgui.models.build import build
from srgui.reports.kinds import ESRGAN_FINETUNE, ESRGAN_LORA, ESRGAN_LORA_L1, recipe_for, trunk
from srgui.training.learner import learner, trainable
from srgui.training.presets import PRESETS

KINDS = (ESRGAN_LORA, ESRGAN_LORA_L1, ESRGAN_FINETUNE)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: ", ".join(kind.trained))
def test_rows_are_presets_and_models(kind: object) -> None:
    assert set(kind.trained.values()) <= set(PRESETS)  # type: ignore[attr-defined]


def test_the_trunk_of_rrdbnet_is_its_dense_blocks() -> None:
    module = build({"kind": "rrdb", "features": 8, "blocks": 2}).module
    recipe = recipe_for("esrgan-trunk", module, {})
    assert recipe == PRESETS["esrgan-trunk"].recipe
    assert all(".RDB" in name for name in trainable(learner(module, recipe)))


def test_the_trunk_of_other_networks_is_all_but_the_first_and_the_last_layer() -> None:
    module = build({"kind": "compact", "features": 6, "convs": 3}).module
    recipe = recipe_for("esrgan-trunk-perceptual", module, {"steps": "7"})
    assert recipe.targets == ("body.2", "body.4", "body.6")
    assert recipe.steps == 7
    assert {name.rpartition(".")[0] for name in trainable(learner(module, recipe))} == set(recipe.targets)


def test_targets_that_are_given_win() -> None:
    module = build({"kind": "compact", "features": 6, "convs": 3}).module
    assert recipe_for("esrgan-trunk", module, {"targets": "body.*"}).targets == ("body.*",)
    assert recipe_for("esrgan-lora", module, {}).targets == ("*",)


def test_a_network_without_a_trunk_is_refused() -> None:
    module = build({"kind": "compact", "features": 6, "convs": 0}).module
    assert trunk(module, ("*.RDB*",)) == ()
    with pytest.raises(InputError, match="no targets"):
        recipe_for("esrgan-trunk", module, {})
