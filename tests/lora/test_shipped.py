"""The adapters that come with srgui: whole, for the bundled base, and as good as their cards say."""

from __future__ import annotations

from pathlib import Path

import pytest

from srgui.evaluation import Protocol, evaluate
from srgui.images import list_pictures
from srgui.lora.adapter import check_fits
from srgui.lora.card import read_card
from srgui.lora.catalogue import SHIPPED, load_adapter
from srgui.models.cards import DEFAULT_MODEL
from srgui.places import ASSETS, ROOT
from srgui.protocol import Run, Setting
from srgui.restorers import open_network, open_restorer

NAMES = sorted(path.parent.name for path in SHIPPED.glob("*/card.json"))
DOMAINS = [name for name in NAMES if read_card(SHIPPED / name).role == "domain"]


def test_there_are_some() -> None:
    assert {"documents", "drone", "microscopy"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_fits_the_bundled_base_and_says_what_it_is(name: str) -> None:
    card, network = open_network(DEFAULT_MODEL)
    adapter = load_adapter(name)
    check_fits(network.module, adapter, network.digest)
    assert adapter.card.base.id == card.id
    assert adapter.card.base.sha256 == network.digest
    assert all((adapter.card.description, adapter.card.limits, adapter.card.trained_on, adapter.card.metrics, adapter.card.recipe))
    assert adapter.card.licence == "Apache-2.0"


@pytest.mark.parametrize("name", DOMAINS)
def test_each_for_a_domain_says_what_it_costs_on_ordinary_photographs(name: str) -> None:
    card = read_card(SHIPPED / name)
    assert card.cost["on"].startswith("CBSD68")
    assert card.cost["mean_gain_db"] == pytest.approx(card.cost["adapted"]["psnr_y"] - card.cost["base"]["psnr_y"], abs=1e-6)
    assert (SHIPPED / name / "preview.webp").is_file()


@pytest.mark.parametrize("name", DOMAINS)
def test_the_gain_is_that_of_the_card(name: str, shared: Path) -> None:
    card = read_card(SHIPPED / name)
    pictures = list_pictures(shared / "data" / "domains" / name / "val")[:2]
    claimed = {p["name"]: p["adapted"]["psnr_y"] - p["base"]["psnr_y"] for p in card.metrics["pictures"]}
    protocol = Protocol(card.degradation, 0)
    base, adapted = (
        evaluate(open_restorer(adapters=adapters), pictures, protocol, Setting(), Run())[0] for adapters in ([], [(name, 1.0)])
    )
    for before, after in zip(base, adapted, strict=True):
        assert after.model["psnr_y"] - before.model["psnr_y"] == pytest.approx(claimed[before.name], abs=0.01)


def test_all_that_is_shipped_stays_small() -> None:
    files = [path for folder in (SHIPPED, ASSETS) for path in folder.rglob("*") if path.is_file()]
    assert ROOT / "adapters" == SHIPPED
    assert sum(path.stat().st_size for path in files) < 12e6
