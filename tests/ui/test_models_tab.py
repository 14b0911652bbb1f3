"""What the Models tab says of models that lack something."""

from __future__ import annotations

import pytest

from srgui.ui.models import _table


def test_missing_packages_are_named_with_how_to_add_them(monkeypatch):
    pytest.importorskip("diffusers")
    assert "requirements-diffusion.txt" not in _table()
    monkeypatch.setattr("srgui.models.requirements.find_spec", lambda name: None)
    assert "needs diffusers and transformers" in _table()
    assert "add them with: pip install -r requirements-diffusion.txt" in _table()
