"""Options of a family: as the page has them, and as a model takes them."""

from __future__ import annotations

from dataclasses import asdict

from srgui.diffusion.options import FIELDS, Options
from srgui.models.cards import DEFAULT_MODEL
from srgui.restorers import option_fields
from srgui.ui.options import read_options, written


def test_every_option_of_the_family_can_be_set_on_the_page():
    assert {field.name: field.default for field in option_fields("pisa-sr")} == asdict(Options())
    for field in FIELDS:
        assert not field.choices or field.default in field.choices.values()
        for value in field.choices.values():
            Options.of({field.name: value})


def test_what_is_written_is_read_again_and_only_by_its_family():
    chosen = {**asdict(Options()), "prompt": "a cat", "sampled": True, "seed": 7, "colour": "wavelet"}
    values = written("pisa-sr", chosen)
    assert read_options("pisa-sr", values) == chosen
    assert read_options(DEFAULT_MODEL, values) == {}
    assert read_options("pisa-sr", written(DEFAULT_MODEL, chosen)) == asdict(Options())
    assert read_options("pisa-sr", [None] * len(values)) == asdict(Options())
    assert read_options("pisa-sr", ["a cat"]) == {"prompt": "a cat"}
