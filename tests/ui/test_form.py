"""The form of the Train tab: which presets go with which model."""

from __future__ import annotations

from srgui.models.cards import DEFAULT_MODEL
from srgui.training.presets import ESRGAN, PISA, PRESETS
from srgui.ui.form import model_choices, model_for, preset_choices


def names(choices):
    return [name for _, name in choices]


def test_only_presets_that_fit_the_family_are_offered():
    assert names(preset_choices(DEFAULT_MODEL)) == list(PRESETS)
    assert names(preset_choices("pisa-sr")) == list(PISA)
    assert "pisa-sr" in names(model_choices())


def test_a_preset_brings_its_model_unless_another_was_chosen(tiny_files):
    assert model_for("domain", DEFAULT_MODEL) == DEFAULT_MODEL
    assert model_for("esrgan-lora", DEFAULT_MODEL) == ESRGAN
    assert model_for("domain", ESRGAN) == DEFAULT_MODEL
    assert model_for("pisa", DEFAULT_MODEL) == "pisa-sr"
    assert model_for("esrgan-lora", "srgui-srcnn-x4") == "srgui-srcnn-x4"
    assert model_for("esrgan-lora", str(tiny_files.safetensors)) == str(tiny_files.safetensors)


def test_what_is_not_here_is_said():
    assert all("(needs a download)" in title for title, _ in preset_choices("pisa-sr"))
    assert "(needs a download)" not in preset_choices(DEFAULT_MODEL)[0][0]
