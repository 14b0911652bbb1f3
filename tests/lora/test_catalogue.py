from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from srgui.errors import AdapterError, OutputError
from srgui.lora import catalogue
from srgui.lora.adapter import Adapter, attach
from srgui.lora.card import Base
from srgui.lora.catalogue import (
    adapters_folder,
    all_adapters,
    export_adapter,
    find_adapter,
    import_adapter,
    load_adapter,
    new_name,
    remove_adapter,
    rename_adapter,
    save_adapter,
    scan,
)
from srgui.lora.files import TENSORS, write_adapter, write_file

Make = Callable[..., Adapter]


@pytest.fixture(autouse=True)
def shipped(tmp_path: Path, network: nn.Module, adapter: Make, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of shipped adapters that holds one, ``drone``."""
    folder = tmp_path / "shipped"
    write_adapter(adapter(network, 1), folder / "drone")
    monkeypatch.setattr(catalogue, "SHIPPED", folder)
    return folder


@pytest.fixture
def pages(network: nn.Module, adapter: Make) -> Adapter:
    return adapter(network, 2)


def test_shipped_and_own_adapters_are_found_by_name(pages: Adapter) -> None:
    assert save_adapter(pages, "pages").name == "pages"
    assert list(all_adapters()) == ["drone", "pages"]
    assert find_adapter("pages").path == adapters_folder() / "pages"
    assert load_adapter("pages").factors.keys() == pages.factors.keys()
    assert load_adapter("drone").card.name == "drone"


def test_an_adapter_is_found_by_the_path_of_its_folder_or_file(tmp_path: Path, pages: Adapter) -> None:
    write_adapter(pages, tmp_path / "somewhere" / "x")
    write_file(pages, tmp_path / "y.safetensors")
    for path in (tmp_path / "somewhere" / "x", tmp_path / "somewhere" / "x" / TENSORS, tmp_path / "y.safetensors"):
        assert load_adapter(str(path)).card == pages.card


@pytest.mark.parametrize("name", ["dron", "../drone", "~nobody/x", "/", "", ".", "x" * 5000, "a\0b", "nul"])
def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(AdapterError) as caught:
        find_adapter(name)
    if name == "dron":
        assert str(caught.value) == "unknown adapter 'dron'. Did you mean drone?"


def test_one_broken_adapter_disables_only_itself(shipped: Path, pages: Adapter) -> None:
    save_adapter(pages, "pages")
    for root in (shipped, adapters_folder()):
        (root / "broken").mkdir()
        (root / "broken" / "card.json").write_text("{")
    shutil.copytree(shipped / "drone", adapters_folder() / ".0123")
    cards, problems = scan()
    assert list(cards) == ["drone", "pages"]
    assert len(problems) == 2
    assert all("broken" in problem for problem in problems)


@pytest.mark.parametrize("name", ["../x", "/x", "a/b", "a\\b", "", ".", "..", ".hidden", "nul", "CON.txt", "a\nb", "x" * 200, "~x"])
def test_a_name_that_is_a_path_or_reserved_is_refused(pages: Adapter, name: str) -> None:
    save_adapter(pages, "pages")
    for attempt in (lambda: save_adapter(pages, name), lambda: rename_adapter("pages", name)):
        with pytest.raises(AdapterError, match="cannot be an adapter's name; use letters"):
            attempt()
    for lost in (lambda: rename_adapter(name, "new"), lambda: remove_adapter(name)):
        with pytest.raises(AdapterError, match="unknown adapter"):
            lost()
    assert list(all_adapters()) == ["drone", "pages"]


@pytest.mark.parametrize("name", ["drone", "pages"])
def test_a_name_that_exists_is_refused(pages: Adapter, name: str) -> None:
    save_adapter(pages, "pages")
    save_adapter(pages, "other")
    for attempt in (lambda: new_name(name), lambda: save_adapter(pages, name), lambda: rename_adapter("other", name)):
        with pytest.raises(AdapterError, match="exists already"):
            attempt()


def test_own_adapters_are_renamed_and_removed(pages: Adapter) -> None:
    save_adapter(pages, "pages")
    assert rename_adapter("pages", "Old prints").name == "Old prints"
    assert list(all_adapters()) == ["drone", "Old prints"]
    remove_adapter("Old prints")
    assert list(all_adapters()) == ["drone"]
    assert list(adapters_folder().iterdir()) == []


def test_shipped_adapters_stay(shipped: Path) -> None:
    for attempt in (lambda: rename_adapter("drone", "mine"), lambda: remove_adapter("drone")):
        with pytest.raises(AdapterError, match="'drone' came with srgui and stays as it is"):
            attempt()
    assert (shipped / "drone" / TENSORS).is_file()


def test_what_is_exported_can_be_imported(tmp_path: Path, network: nn.Module, pages: Adapter, picture: Any) -> None:
    save_adapter(pages, "pages")
    export_adapter("pages", tmp_path / "out.safetensors")
    with pytest.raises(OutputError, match="exists already"):
        export_adapter("pages", tmp_path / "out.safetensors")
    card = import_adapter(tmp_path / "out.safetensors", network, "tiny", "a" * 64, 2)
    assert (card.name, card) == ("out", pages.card)
    assert import_adapter(adapters_folder() / "pages", network, "tiny", "a" * 64, 2, "copy").name == "copy"
    x = picture(6, 6)
    for name in ("out", "copy"):
        assert torch.equal(attach(network, [(load_adapter(name), 1.0)])(x), attach(network, [(pages, 1.0)])(x))


def test_an_adapter_of_others_gets_a_card(tmp_path: Path, network: nn.Module, adapter: Make) -> None:
    made = adapter(network, alpha=6.0)
    tensors = {f"{name}.lora_{role}.weight": getattr(part, role) for name, part in made.factors.items() for role in "AB"}
    tensors |= {f"{name}.alpha": torch.tensor(6.0) for name in made.factors}
    save_file(tensors, tmp_path / "from web.safetensors")
    card = import_adapter(tmp_path / "from web.safetensors", network, "tiny", "b" * 64, 2)
    assert (card.name, card.title, card.role, card.scale) == ("from web", "from web", "domain", 2)
    assert (card.base, card.rank, card.alpha, card.form) == (Base("tiny", "b" * 64), "2", 6.0, "conv")
    assert (card.licence, card.description) == ("unknown", "imported from from web.safetensors")


def test_what_does_not_fit_is_not_imported(tmp_path: Path, network: nn.Module, pages: Adapter, tiny: Any) -> None:
    write_adapter(pages, tmp_path / "pages")
    for wrong, message in (
        ((tiny.module, "other", None, 2), "does not fit this network"),
        ((network, "other", "b" * 64, 2), "is for tiny with weights of sha256 aaaa"),
        ((network, "tiny", "a" * 64, 4), "is for x2, and tiny is x4"),
    ):
        with pytest.raises(AdapterError, match=message):
            import_adapter(tmp_path / "pages", *wrong)
    for missing in ("nothing", "x" * 300 + ".pt", "nothing.safetensors"):
        with pytest.raises(AdapterError):
            import_adapter(tmp_path / missing, network, "tiny", None, 2)
    assert list(all_adapters()) == ["drone"]


def test_a_card_that_knows_no_digest_gets_that_of_the_model(tmp_path: Path, network: nn.Module, pages: Adapter) -> None:
    write_adapter(replace(pages, card=replace(pages.card, base=Base("tiny"))), tmp_path / "pages")
    assert import_adapter(tmp_path / "pages", network, "tiny", "c" * 64, 2).base == Base("tiny", "c" * 64)


def test_a_home_that_cannot_be_written_is_an_error(home: Path, pages: Adapter) -> None:
    home.parent.mkdir(exist_ok=True)
    home.write_text("a file")
    with pytest.raises(OutputError, match="cannot be written"):
        save_adapter(pages, "pages")


def test_an_interrupted_card_is_reported(pages: Adapter) -> None:
    save_adapter(pages, "pages")
    content = json.loads((adapters_folder() / "pages" / "card.json").read_text())
    (adapters_folder() / "pages" / "card.json").write_text(json.dumps(content)[:-5])
    assert "is not JSON" in scan()[1][0]
    with pytest.raises(AdapterError, match="is not JSON"):
        load_adapter("pages")
