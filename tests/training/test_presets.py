from __future__ import annotations

import pytest

from srgui.errors import InputError
from srgui.models.build import build
from srgui.models.cards import DEFAULT_MODEL, find_card
from srgui.training.learner import learner, trainable
from srgui.training.presets import BASES, PRESETS, preset


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_fits_the_model_it_starts_from(name: str) -> None:
    chosen = preset(name)
    card = find_card(chosen.model)
    assert card.family == "spandrel"
    network = build({**card.network, "blocks": 2, "features": 8} if card.network else {"kind": "compact", "features": 8})
    assert trainable(learner(network.module, chosen.recipe))
    assert chosen.title
    assert chosen.description


def test_the_recipes_of_the_papers() -> None:
    assert preset("domain").model == preset("full").model == DEFAULT_MODEL
    lora, trunk = preset("esrgan-lora").recipe, preset("esrgan-trunk").recipe
    assert (lora.method, lora.rank, lora.targets) == ("lora", "4", ("*",))
    assert (lora.content, lora.perceptual, lora.adversarial, lora.loss) == (1e-2, 1.0, 5e-3, "l1")
    assert (trunk.method, trunk.loss, trunk.lr, trunk.beta1, trunk.beta2) == ("full", "mse", 1e-4, 0.9, 0.999)
    assert (trunk.resize, trunk.batch, trunk.schedule, trunk.warmup, trunk.ema) == (256, 1, "constant", 0, 0)
    perceptual = preset("esrgan-trunk-perceptual").recipe
    assert (perceptual.content, perceptual.perceptual) == (0, 1)
    assert [trunk.total_steps(80), perceptual.total_steps(80)] == [5 * 80, 10 * 80]


@pytest.mark.parametrize("name", BASES)
def test_a_base_trains_every_weight(name: str) -> None:
    network = build({"kind": "srcnn" if name == "srcnn" else "compact"})
    learnt = trainable(learner(network.module, BASES[name]))
    assert sum(p.numel() for p in learnt.values()) == network.parameters


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(InputError, match="there is no preset 'esrgan-loar'. Did you mean esrgan-lora"):
        preset("esrgan-loar")
