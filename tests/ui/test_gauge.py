"""What a viewer may ask to be measured, and what it gets where it cannot be."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest

from srgui.images import Picture
from srgui.inference.picture import PreparedPicture
from srgui.protocol import Run, Setting
from srgui.restorers import open_restorer
from srgui.ui.gauge import BUSY, Gauge
from srgui.ui.guide import guide
from srgui.ui.shelf import Entry, PictureLayer, Shelf

VALUES = {"pixel": 1.0, "semantic": 0.5}


@pytest.fixture
def shelf():
    return Shelf()


@pytest.fixture
def entry(shelf):
    samples = np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8)
    restorer = open_restorer(pair=True)
    prepared = PreparedPicture(restorer, Picture(samples), 4, Run())
    _, _, survey = guide(prepared, restorer.info, Setting(VALUES), None, 4)
    return shelf.put(Entry("me", "a.png", {"lr": PictureLayer(Picture(samples))}, survey=survey))


def gauge_of(shelf, busy=False):
    return Gauge(shelf, lambda: busy, lambda owner: nullcontext(Run()))


def test_forms_and_scores_of_the_whole_and_of_a_part(shelf, entry):
    gauge = gauge_of(shelf)
    forms = gauge.forms({"id": entry.id})
    assert forms["psnr"] is None
    assert np.shape(forms["consistency"]) == np.shape(forms["gradient"]) == (3, 3)
    whole, part = (gauge.scores({"id": entry.id, "values": VALUES, "box": box}) for box in (None, [8, 4, 40, 32]))
    assert whole["consistency"] != part["consistency"]


@pytest.mark.parametrize(
    "request_",
    [
        {"id": "guess"},
        {"box": [0, 0, 81, 64]},
        {"box": [-1, 0, 8, 8]},
        {"box": "all of it"},
        {"values": {"pixel": "high"}},
        {"values": None},
        {"values": {"pixel": 9}},
    ],
)
def test_what_cannot_be_measured_is_none(shelf, entry, request_):
    gauge = gauge_of(shelf)
    assert gauge.scores({"id": entry.id, "values": VALUES, **request_}) is None


def test_others_come_first(shelf, entry):
    assert gauge_of(shelf, busy=True).scores({"id": entry.id, "values": VALUES}) == BUSY


def test_a_fault_of_ours_is_not_swallowed(shelf, entry, monkeypatch):
    def broken(*_):
        raise TypeError("ours")

    monkeypatch.setattr(entry.survey, "forms", broken)
    with pytest.raises(TypeError, match="ours"):
        gauge_of(shelf).forms({"id": entry.id})


class Sketcher:
    """Shows something only to the patient."""

    def png(self, request, run, *, patient):
        assert run.cancelled is False
        return b"png" if patient else None


def test_a_preview_waits_for_what_is_missing_only_while_nobody_else_waits(shelf, entry):
    assert gauge_of(shelf).sketch({"id": entry.id}) is None, "a model without previews"
    shelf.renew(replace(entry, sketch=Sketcher()))
    assert gauge_of(shelf).sketch({"id": entry.id}) == b"png"
    assert gauge_of(shelf, busy=True).sketch({"id": entry.id}) is None
    assert gauge_of(shelf).sketch({"id": "guess"}) is None
