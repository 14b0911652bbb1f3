from __future__ import annotations

import json
from math import inf, nan
from typing import Any

import numpy as np
import pytest

from srgui.errors import InputError
from srgui.metrics import Scores
from srgui.training.gain import Compared, Gain, bootstrap


def scores(psnr_y: float | None, ssim_y: float | None, lpips: float | None) -> Scores:
    return {"psnr_y": psnr_y, "ssim_y": ssim_y, "lpips": lpips}


def gain(*differences: float, base: float = 30.0) -> Gain:
    return Gain(
        tuple(
            Compared(f"{index}.png", scores(base, 0.9, None), scores(base + difference, 0.95, 0.1))
            for index, difference in enumerate(differences)
        )
    )


@pytest.mark.parametrize(("count", "least"), [(4, 0.83), (8, 0.90), (16, 0.91), (40, 0.92)])
def test_the_interval_contains_the_mean_about_as_often_as_it_says(count: int, least: float) -> None:
    """95% of 400 draws have a standard error of 1%; below eight pictures no resampling can reach it."""
    rng = np.random.default_rng(count)
    draws = rng.normal(0.3, 0.2, size=(400, count))
    inside = [low <= 0.3 <= high for low, high in (bootstrap(list(row), samples=1000) for row in draws)]
    assert least <= np.mean(inside) <= 0.985


def test_the_interval_surrounds_the_mean_and_narrows() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for count in (5, 20, 80):
        values = rng.normal(1, 1, count)
        low, high = bootstrap(list(values))
        assert values.min() <= low < values.mean() < high <= values.max()
        widths.append(high - low)
    assert widths[0] > widths[1] > widths[2]


def test_the_interval_follows_shift_and_seed() -> None:
    values = list(np.random.default_rng(1).normal(0, 1, 12))
    low, high = bootstrap(values)
    assert bootstrap(values) == (low, high)
    assert bootstrap(values, seed=1) == pytest.approx((low, high), abs=0.1)
    assert bootstrap([value + 7 for value in values]) == pytest.approx((low + 7, high + 7))
    assert bootstrap([0.25] * 6) == (0.25, 0.25)
    assert bootstrap([1.0, 2.0, 4.0]) == (1, 4)


@pytest.mark.parametrize("gains", [[], [1.0], [1.0, nan], [1.0, inf]])
def test_no_interval_of_too_few_or_infinite_gains(gains: list[float]) -> None:
    with pytest.raises(InputError, match="two or more finite"):
        bootstrap(gains)


def test_it_helped() -> None:
    found = gain(2.61, 2.1, 3.12)
    expected = "Helped: +2.61 dB Y-PSNR on 3 held-out pictures (95% interval +2.10 to +3.12), better on 3 of 3."
    assert found.verdict() == expected
    assert (found.outcome, found.wins, found.losses, found.ties) == ("helped", 3, 0, 0)
    assert (found.best.name, found.worst.name) == ("2.png", "1.png")


def test_it_made_it_worse() -> None:
    found = gain(-0.5, -0.4, -0.6, -0.3)
    expected = "Made it worse: -0.45 dB Y-PSNR on 4 held-out pictures (95% interval -0.60 to -0.30), better on 0 of 4."
    assert found.verdict() == expected
    assert (found.outcome, found.wins, found.losses) == ("worse", 0, 4)


@pytest.mark.parametrize(
    ("differences", "end"),
    [
        ((0.03, 0.03, 0.04), "better on 3 of 3."),
        ((-0.03, -0.03, -0.04), "better on 0 of 3."),
        ((3.0, 2.0, -1.0), "better on 2 of 3, too uneven to be sure."),
        ((-3.0, -2.0, 1.0), "better on 1 of 3, too uneven to be sure."),
        ((-0.001, -0.001), "+0.00 dB Y-PSNR on 2 held-out pictures (95% interval +0.00 to +0.00), better on 0 of 2."),
    ],
)
def test_there_was_nothing_to_gain(differences: tuple[float, ...], end: str) -> None:
    found = gain(*differences)
    assert found.outcome == "nothing"
    assert found.verdict().startswith("Nothing to gain here: ")
    assert found.verdict().endswith(end)


def test_identical_pictures_are_ties() -> None:
    found = gain(0.0, 0.0, 0.004)
    assert (found.wins, found.losses, found.ties) == (0, 0, 3)
    assert gain(0, 0).interval == (0, 0)


@pytest.mark.parametrize(
    ("difference", "begin"),
    [
        (2.0, "Cannot be told from one picture: +2.00"),
        (0.01, "Nothing to gain"),
        (-1.0, "Cannot be told from one picture: -1.00"),
    ],
)
def test_one_picture_has_no_interval(difference: float, begin: str) -> None:
    found = gain(difference)
    assert found.interval is None
    assert found.verdict().startswith(begin)
    assert found.verdict().endswith("on the only held-out picture; of one picture no interval can be given, so this may be chance.")
    assert found.as_json()["interval_95_db"] is None


def exact(base: float, adapted: float) -> Compared:
    return Compared("exact.png", scores(base, 1.0, 0.0), scores(adapted, 1.0, 0.0))


def test_an_infinite_psnr_counts_as_90_db() -> None:
    pictures = gain(1.0, 1.0).pictures
    assert exact(inf, inf).gain == 0
    assert exact(40.0, inf).gain == 50
    assert exact(inf, 40.0).gain == -50
    found = Gain((*pictures, exact(inf, inf)))
    assert found.mean == pytest.approx(2 / 3)
    assert found.ties == 1
    assert found.as_json()["base"]["psnr_y"] == pytest.approx(50)


@pytest.mark.parametrize("found", [gain(2.0), gain(1.0, -1.0, 0.5), Gain((exact(inf, inf), exact(40.0, inf)))])
def test_json_round_trip(found: Gain) -> None:
    text = json.dumps(found.as_json(), allow_nan=False)
    again = Gain.from_json(json.loads(text))
    assert again == found
    assert again.as_json() == found.as_json()


def test_json_says_what_follows_from_the_scores() -> None:
    content = gain(2.0, 1.0).as_json()
    assert content["verdict"] == gain(2.0, 1.0).verdict()
    assert (content["mean_gain_db"], content["interval_95_db"]) == (1.5, [1, 2])
    assert content["base"] == pytest.approx({"psnr_y": 30, "ssim_y": 0.9, "lpips": None})
    assert content["adapted"] == pytest.approx({"psnr_y": 31.5, "ssim_y": 0.95, "lpips": 0.1})


def test_a_file_cannot_claim_another_verdict() -> None:
    content = gain(-2.0, -1.0).as_json() | {"verdict": "Helped: +9.00 dB", "mean_gain_db": 9, "wins": 2}
    assert Gain.from_json(content) == gain(-2.0, -1.0)


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        {},
        {"pictures": None},
        {"pictures": "abc"},
        {"pictures": []},
        {"pictures": [{"name": "a.png", "base": {}, "adapted": {}}]},
        {"pictures": [{"name": "a.png", "base": {"psnr_y": "much", "ssim_y": 1, "lpips": None}, "adapted": {}}]},
        {"pictures": [{"name": "a.png", "base": {"psnr_y": 10**400, "ssim_y": 1, "lpips": None}, "adapted": {}}]},
    ],
)
def test_damaged_json_is_refused(content: Any) -> None:
    with pytest.raises(InputError, match="held-out picture") as caught:
        Gain.from_json(content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [nan, -inf, None])
def test_a_psnr_that_is_no_number_is_refused(value: float | None) -> None:
    with pytest.raises(InputError, match=r"PSNR of 0\.png is not a number"):
        Gain((Compared("0.png", scores(30.0, None, None), scores(value, None, None)),))
