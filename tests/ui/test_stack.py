"""The choice of adapters, and who may cancel what."""

from __future__ import annotations

from srgui.models.cards import DEFAULT_MODEL
from srgui.ui.sessions import Sessions
from srgui.ui.stack import choose, refreshed


def test_a_choice_is_set_to_what_fits_the_model():
    assert choose(DEFAULT_MODEL, ["drone", "gone"])["value"] == ["drone"]
    assert choose("bicubic", ["drone"])["value"] == []


def test_a_choice_that_still_stands_is_not_set_again():
    assert "value" not in refreshed(DEFAULT_MODEL, ["drone"])
    assert "value" not in refreshed(DEFAULT_MODEL, None)
    assert refreshed(DEFAULT_MODEL, ["drone", "gone"])["value"] == ["drone"]
    assert "drone" in dict(map(reversed, refreshed(DEFAULT_MODEL, None)["choices"]))


def test_there_is_something_to_cancel_only_while_it_runs_or_waits(tmp_path):
    sessions = Sessions(tmp_path)
    assert not sessions.cancel("a")
    sessions.queue("a")
    assert sessions.cancel("a")
    assert not sessions.cancel("b")
    with sessions.running("a") as run:
        assert run.cancelled
    assert not sessions.cancel("a")
