from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srgui.errors import AdapterError
from srgui.lora.card import AdapterCard, Base, parse_card, read_card

VALID: dict[str, Any] = {
    "schema": 1,
    "title": "Pages",
    "role": "domain",
    "base": {"id": "tiny", "sha256": "0" * 64},
    "scale": 4,
    "rank": "8",
    "form": "conv",
}
HERE = Path("card.json")

objects = st.dictionaries(st.text(), st.none() | st.integers() | st.text() | st.lists(st.floats(-1, 1)), max_size=3)
cards = st.builds(
    AdapterCard,
    title=st.text(),
    role=st.sampled_from(["domain", "pixel", "semantic"]),
    base=st.builds(Base, st.text(), st.none() | st.just("f" * 64)),
    scale=st.integers(1, 16),
    rank=st.integers(1, 64).map(str) | st.integers(1, 100).map("{}%".format),
    form=st.sampled_from(["conv", "reshape"]),
    alpha=st.none() | st.integers(1, 64) | st.floats(0.01, 100),
    targets=st.lists(st.text()).map(tuple),
    degradation=st.text(),
    recipe=objects,
    metrics=objects,
    licence=st.text(),
    description=st.text(),
    trained_on=st.text(),
    training_sha256=st.text(),
    cost=objects,
    limits=st.text(),
    path=st.none(),
)


@given(cards)
def test_a_card_survives_a_round_trip(card: AdapterCard) -> None:
    text = card.as_json()
    text.encode("utf-8")
    assert parse_card(text, HERE, HERE) == card


def test_a_file_name_that_is_no_unicode_can_stand_on_a_card() -> None:
    card = AdapterCard("a\udcff", "domain", Base("tiny"), 4, "8", "conv")
    assert parse_card(card.as_json().encode().decode(), HERE, HERE) == card


def test_what_is_optional_is_empty() -> None:
    card = parse_card(json.dumps(VALID), HERE, HERE)
    assert card == AdapterCard("Pages", "domain", Base("tiny", "0" * 64), 4, "8", "conv")
    assert (card.alpha, card.targets, card.metrics, card.limits) == (None, (), {}, "")


def test_a_card_knows_its_name_by_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "card.json").write_text(json.dumps(VALID))
    assert read_card(tmp_path / "pages").name == "pages"
    assert replace(read_card(tmp_path / "pages"), path=tmp_path / "a.safetensors").name == "a"
    assert replace(read_card(tmp_path / "pages"), path=None).name == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "schema 2 is not 1; update srgui"),
        ({"schema": True}, "schema must be int"),
        ({"title": 3}, "title must be str"),
        ({"role": "style"}, "role 'style' is not one of domain, pixel, semantic"),
        ({"base": {"id": "x", "md5": "y"}}, "base must be an object of id and sha256"),
        ({"base": {"sha256": "0" * 64}}, "base must be an object of id and sha256"),
        ({"base": {"id": "x", "sha256": "0"}}, "must have 64 hexadecimal digits"),
        ({"base": {"id": "x", "sha256": 7}}, "must have 64 hexadecimal digits"),
        ({"scale": 0}, "scale 0 is not 1 or more"),
        ({"scale": 4.0}, "scale must be int"),
        ({"rank": 8}, "rank must be str"),
        ({"rank": "0"}, "rank '0' is neither"),
        ({"form": "svd"}, "form 'svd' is not one of conv, reshape"),
        ({"alpha": 0}, "alpha 0 is not above 0"),
        ({"alpha": float("nan")}, "alpha nan is not above 0"),
        ({"alpha": "8"}, "alpha must be float or int or NoneType"),
        ({"targets": [1]}, "targets must be a list of patterns"),
        ({"colour": "red"}, "unknown field colour"),
        ({"metrics": []}, "metrics must be dict"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(AdapterError) as caught:
        parse_card(json.dumps(VALID | change), HERE, HERE)
    assert message in str(caught.value)
    assert str(HERE) in str(caught.value)


@pytest.mark.parametrize("key", VALID)
def test_a_missing_field_is_named(key: str) -> None:
    with pytest.raises(AdapterError, match=f"{key} is missing"):
        parse_card(json.dumps({k: v for k, v in VALID.items() if k != key}), HERE, HERE)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_card_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "card.json").write_bytes(content)
    with pytest.raises(AdapterError, match="mend it, or remove its folder"):
        read_card(tmp_path)


def test_a_missing_card_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="No such file or directory; check the folder"):
        read_card(tmp_path)
