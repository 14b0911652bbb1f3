from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from srgui.errors import ModelError
from srgui.models.cards import DEFAULT_MODEL, all_cards, check_name, find_card, models_folder, read_card, scan
from srgui.places import ASSETS
from srgui.restorers import FAMILIES, open_restorer

SHIPPED = sorted((ASSETS / "models").iterdir())
VALID = {
    "schema": 1,
    "id": "mine",
    "family": "spandrel",
    "scale": 4,
    "parts": {"weights": "model.safetensors"},
    "title": "Mine",
    "licence": "CC0",
}
REMOTE = {"file": "a.pth", "url": "https://example.org/a.pth", "sha256": "0" * 64}


def write(folder: Path, content: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "card.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def refusal(folder: Path, content: Any) -> str:
    with pytest.raises(ModelError) as caught:
        read_card(write(folder, content))
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder / "card.json") in message
    return message


@pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)
def test_every_shipped_card_is_valid(folder: Path) -> None:
    card = read_card(folder)
    assert card.id == folder.name
    assert card.family in FAMILIES
    assert card.present or card.downloadable
    assert card.licence
    assert card.description
    for part in card.parts.values():
        assert part.url is None or part.url.startswith("https://")


def test_the_default_comes_first_and_is_here() -> None:
    cards = all_cards()
    assert next(iter(cards)) == DEFAULT_MODEL
    assert cards[DEFAULT_MODEL].present
    assert set(cards) == {folder.name for folder in SHIPPED}


def test_a_card_is_read_as_it_is_written(tmp_path: Path) -> None:
    optional = {"description": "d", "source": "s", "trained_on": "t", "metrics": {"a": 1}, "training": {"b": 2}}
    card = read_card(write(tmp_path / "mine", VALID | optional))
    for key in ("id", "family", "scale", "title", "licence", *optional):
        assert getattr(card, key) == (VALID | optional)[key]
    assert card.parts["weights"].path == tmp_path / "mine" / "model.safetensors"
    assert card.folder == tmp_path / "mine"
    assert not card.present
    assert not card.downloadable


@pytest.mark.parametrize("key", VALID)
def test_a_missing_field_is_named(tmp_path: Path, key: str) -> None:
    assert f"{key} is missing" in refusal(tmp_path, {k: v for k, v in VALID.items() if k != key})


def test_an_unknown_field_is_named(tmp_path: Path) -> None:
    assert "unknown field licens" in refusal(tmp_path, VALID | {"licens": "MIT"})


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("schema", "1", "int"),
        ("schema", True, "int"),
        ("id", 7, "str"),
        ("family", None, "str"),
        ("scale", 4.0, "int"),
        ("scale", True, "int"),
        ("parts", ["a"], "dict"),
        ("title", {}, "str"),
        ("licence", [], "str"),
        ("description", 1, "str"),
        ("source", 1, "str"),
        ("trained_on", 1, "str"),
        ("metrics", [], "dict"),
        ("training", "x", "dict"),
    ],
)
def test_a_field_of_the_wrong_type_is_named(tmp_path: Path, key: str, value: object, kind: str) -> None:
    assert f"{key} must be {kind}" in refusal(tmp_path, VALID | {key: value})


@pytest.mark.parametrize("scale", [0, -4])
def test_a_scale_below_one_is_refused(tmp_path: Path, scale: int) -> None:
    assert f"scale {scale} is not 1 or more" in refusal(tmp_path, VALID | {"scale": scale})


def test_a_later_schema_asks_for_an_update(tmp_path: Path) -> None:
    assert "schema 2 is not 1; update srgui" in refusal(tmp_path, VALID | {"schema": 2})


@pytest.mark.parametrize("content", ["", "{", "[]", "7", "null", "[" * 100_000])
def test_what_is_not_an_object_is_refused(tmp_path: Path, content: str) -> None:
    refusal(tmp_path, content)


PATHS = ["", ".", "..", "../x", "a/b", "/etc/passwd", ".hidden", "a/", "~root", "c:\\x", "a\nb", "a\0b", "-o", "x" * 300]


@pytest.mark.parametrize("name", PATHS)
def test_ids_and_files_that_are_paths_are_refused(tmp_path: Path, name: str) -> None:
    assert "is not a plain name" in refusal(tmp_path, VALID | {"id": name})
    for part in (name, {"file": name}):
        assert "must name a file in the card's own folder" in refusal(tmp_path, VALID | {"parts": {"weights": part}})
    with pytest.raises(ModelError, match="cannot be a model's id"):
        check_name(name)


@pytest.mark.parametrize("name", ["a", "srgui-compact-x4", "4x_NMKD-Siax_200k", "RealESRGAN (2)", "größer", "v1.0+ema"])
def test_plain_names_are_names(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize(
    ("part", "problem"),
    [
        (7, "must be a file name"),
        ([], "must be a file name"),
        ({"file": 7}, "must be a file name"),
        ({}, "must name a file"),
        (REMOTE | {"size": "9"}, "unknown field size"),
        (REMOTE | {"url": "file:///etc/passwd"}, "must begin with https:// or http://"),
        (REMOTE | {"url": None}, "must be a file name"),
        (REMOTE | {"sha256": "abc"}, "64 hexadecimal digits"),
    ],
)
def test_a_part_is_read_strictly(tmp_path: Path, part: object, problem: str) -> None:
    assert problem in refusal(tmp_path, VALID | {"parts": {"weights": part}})


def test_a_downloadable_part_lives_in_the_users_folder_unless_it_is_beside_the_card(tmp_path: Path, home: Path) -> None:
    folder = write(tmp_path / "mine", VALID | {"parts": {"weights": REMOTE}})
    card = read_card(folder)
    part = card.parts["weights"]
    assert (part.path, part.url, part.sha256) == (home / "models" / "mine" / "a.pth", REMOTE["url"], REMOTE["sha256"])
    assert not card.present
    assert card.downloadable
    (folder / "a.pth").write_bytes(b"")
    assert read_card(folder).parts["weights"].path == folder / "a.pth"
    assert read_card(folder).present


def test_a_card_is_found_by_id_folder_and_file(tmp_path: Path) -> None:
    write(models_folder() / "mine", VALID)
    elsewhere = write(tmp_path / "elsewhere", VALID | {"title": "Other"})
    assert find_card("mine").title == "Mine"
    assert find_card(str(elsewhere)).title == find_card(str(elsewhere / "card.json")).title == "Other"


def test_a_shipped_model_is_not_replaced_by_one_of_the_same_id() -> None:
    write(models_folder() / "bicubic", VALID | {"id": "bicubic", "title": "Mine"})
    assert find_card("bicubic").title == "Bicubic"


def test_an_unknown_model_is_refused_with_near_names() -> None:
    with pytest.raises(ModelError, match=r"unknown model 'realesrgan-x4plsu'. Did you mean .*realesrgan-x4plus.*\?"):
        find_card("realesrgan-x4plsu")
    with pytest.raises(ModelError, match=r"unknown model 'zzz'. Known: .*bicubic, esrgan-x4, .*srgui-compact-x4"):
        find_card("zzz")


@pytest.mark.parametrize("name", ["", "~nobody-of-that-name", "x" * 5000, "a\0b", "no/such/folder"])
def test_any_text_at_all_is_an_unknown_model(name: str) -> None:
    with pytest.raises(ModelError, match="unknown model"):
        find_card(name)


@pytest.mark.parametrize("suffix", [".pth", ".PTH", ".safetensors", ".pt", ".ckpt"])
def test_a_weight_file_that_is_missing_is_called_that(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(ModelError, match="the weight file .* does not exist; check the path"):
        find_card(str(tmp_path / f"a{suffix}"))


def test_every_family_names_what_is_there() -> None:
    from importlib import import_module

    for family in FAMILIES.values():
        targets = [family.restorer, family.adapted, family.digest, family.trainable, family.options]
        found = [getattr(import_module(module), name) for module, name in (each.split(":") for each in targets if each)]
        assert callable(found[0].open)
        assert bool(family.adapted) == bool(family.digest)


def test_a_card_opens_as_a_restorer(tiny_files: Any) -> None:
    shutil.copy(tiny_files.safetensors, write(models_folder() / "mine", VALID) / "model.safetensors")
    info = open_restorer("mine", device="cpu").info
    assert (info.id, info.title, info.scale, info.licence) == ("mine", "Mine", 4, "CC0")
    assert info.digest is not None
    assert [control.name for control in info.controls] == ["pixel"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "spandrle"}, "unknown family 'spandrle'; update srgui. Did you mean spandrel?"),
        ({}, "the weights of mine are not on this machine; mend or remove its card"),
        ({"parts": {"weights": REMOTE}}, "get them with: python -m srgui models download mine"),
        ({"parts": {}}, "names no part 'weights'"),
    ],
)
def test_a_card_that_cannot_be_opened_says_why(change: dict[str, object], message: str) -> None:
    write(models_folder() / "mine", VALID | change)
    with pytest.raises(ModelError) as caught:
        open_restorer("mine", device="cpu")
    assert message in str(caught.value)


def test_a_card_of_another_scale_than_its_weights_is_refused(tiny_files: Any) -> None:
    shutil.copy(tiny_files.safetensors, write(models_folder() / "mine", VALID | {"scale": 2}) / "model.safetensors")
    with pytest.raises(ModelError, match="mine says x2, but its weights are for x4"):
        open_restorer("mine", device="cpu")


def test_a_broken_card_of_the_user_disables_only_itself(tmp_path, monkeypatch):
    monkeypatch.setenv("SRGUI_HOME", str(tmp_path))
    folder = tmp_path / "models" / "broken"
    folder.mkdir(parents=True)
    (folder / "card.json").write_text("{")
    found, problems = scan()
    assert DEFAULT_MODEL in found
    assert len(problems) == 1
    assert str(folder) in problems[0]
    assert find_card("bicubic").family == "bicubic"
