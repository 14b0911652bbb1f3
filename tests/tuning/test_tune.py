from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from srgui.errors import AdapterError, InputError, OutputError, TrainingError
from srgui.lora.catalogue import adapters_folder, find_adapter
from srgui.protocol import Run
from srgui.training.recipe import Recipe
from srgui.tuning import tune as tuning
from srgui.tuning.order import Order
from srgui.tuning.result import Result
from srgui.tuning.tune import accelerator, prepare, together, tune, written

Make = Callable[..., Order]


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, save_png: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Without LPIPS, with one ordinary picture, and with an accelerator that no other test has set."""
    save_png(tmp_path / "assets" / "examples" / "a.png", (32, 32))
    monkeypatch.setattr("srgui.tuning.result.ASSETS", tmp_path / "assets")
    monkeypatch.setattr(tuning, "_lpips", lambda: None)
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def run(order: Order, folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    computer, events = accelerator(order), list[dict[str, Any]]()
    folder.mkdir(exist_ok=True)
    return tune(prepare(order, computer), folder, Run(), events.append, computer), events


def test_what_was_found_is_told_kept_and_on_the_card(make_order: Make, tmp_path: Path) -> None:
    found, events = run(make_order(), tmp_path / "job")
    assert [event["kind"] for event in events if "step" not in event] == ["preflight", "measuring", "result"]
    assert events[-1] == {"kind": "result", **found}
    card = find_adapter("mine")
    assert Path(found["place"]) == card.path == adapters_folder() / "mine"
    assert (found["metrics"], found["cost"]) == (card.metrics, card.cost)
    assert card.cost["on"].startswith("1 photograph of")
    assert written(tmp_path / "job") == json.loads(json.dumps(found))
    assert sorted(path.name for path in (tmp_path / "job" / tuning.RESULT / "samples").iterdir())[:2] == ["0-base.png", "0-hr.png"]


def test_a_result_that_cannot_be_written_is_not_taken_for_written(
    make_order: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        (adapters_folder() / "mine").mkdir(parents=True)  # somebody else's
        raise OutputError("no space")

    monkeypatch.setattr(Result, "write", full)
    with pytest.raises(OutputError, match="no space"):
        run(make_order(), tmp_path / "job")
    assert written(tmp_path / "job") is None


def test_a_network_from_nothing_has_its_own_scores(make_order: Make, tmp_path: Path) -> None:
    recipe = Recipe(method="full", patch=6, batch=2, steps=2)
    order = make_order(recipe, model="", network={"kind": "compact", "features": 4, "convs": 1})
    found, _ = run(order, tmp_path / "job")
    assert found["metrics"].keys() == {"psnr_y", "ssim_y", "lpips", "psnr"}
    assert found["cost"] == {}


def test_everything_wrong_is_found_before_anything_is_written(make_order: Make, home: Path) -> None:
    for order, error in (
        (make_order(Recipe(targets=("bod.*",), patch=6)), AdapterError),
        (make_order(Recipe(patch=60)), InputError),
        (make_order(Recipe(patch=6, held_out=4)), InputError),
    ):
        with pytest.raises(error):
            prepare(order, accelerator(order))
    assert not home.exists()


# Several processes


@pytest.mark.parametrize("elsewhere", ["", "only there it fails"])
@pytest.mark.parametrize("here", ["", "only here it fails"])
def test_where_one_fails_all_fail(monkeypatch: pytest.MonkeyPatch, here: str, elsewhere: str) -> None:
    monkeypatch.setattr(tuning, "gather_object", lambda problems: [*problems, elsewhere])
    computer: Any = SimpleNamespace(num_processes=2)

    def make() -> int:
        if here:
            raise InputError(here)
        return 3

    if not here and not elsewhere:
        assert together(computer, make) == 3
    else:
        with pytest.raises(InputError if here else TrainingError, match=here or elsewhere):
            together(computer, make)


def test_a_batch_is_divided_evenly(make_order: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    order = make_order(Recipe(patch=6, batch=3))
    monkeypatch.setattr(Accelerator, "num_processes", 2)
    monkeypatch.setattr(tuning, "gather_object", lambda problems: problems * 2)
    with pytest.raises(InputError, match="a batch of 3 cannot be divided among 2 processes"):
        prepare(order, accelerator(order))
