"""Did an adapter help? Its scores beside the base's on held-out pictures, and what can be said of the difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

from srgui.errors import InputError
from srgui.metrics import Scores

_MOST_DB = 90.0  # what an exact picture counts: as if one 8-bit sample in 15 thousand were wrong by one level
_NOTHING_DB = 0.05
_TIE_DB = 0.005  # rounds to 0.00


@dataclass(frozen=True)
class Compared:
    """One held-out picture, with the base alone and with the adapter (or after training)."""

    name: str
    base: Scores
    adapted: Scores

    @property
    def gain(self) -> float:
        """In dB of Y-PSNR; finite, as a PSNR counts at most 90 dB."""
        return _psnr(self.adapted) - _psnr(self.base)


@dataclass(frozen=True)
class Gain:
    """The gain on held-out pictures, in the order measured.

    Raises:
        InputError: there are none, or a PSNR could not be computed.
    """

    pictures: tuple[Compared, ...]

    def __post_init__(self) -> None:
        if not self.pictures:
            raise InputError("no held-out picture was measured, so no gain can be told; hold out one or more")
        for picture in self.pictures:
            if not math.isfinite(picture.gain):
                raise InputError(f"the PSNR of {picture.name} is not a number of dB, so no gain can be told; leave it out")

    @property
    def mean(self) -> float:
        """The mean gain in dB."""
        return float(np.mean([picture.gain for picture in self.pictures]))

    @cached_property
    def interval(self) -> tuple[float, float] | None:
        """The 95% interval of the mean gain by :func:`bootstrap`, dB; None for a single picture."""
        return bootstrap([picture.gain for picture in self.pictures]) if len(self.pictures) > 1 else None

    @property
    def wins(self) -> int:
        return sum(picture.gain >= _TIE_DB for picture in self.pictures)

    @property
    def losses(self) -> int:
        return sum(picture.gain <= -_TIE_DB for picture in self.pictures)

    @property
    def ties(self) -> int:
        """Pictures that differ by less than 0.005 dB."""
        return len(self.pictures) - self.wins - self.losses

    @property
    def best(self) -> Compared:
        return max(self.pictures, key=lambda picture: picture.gain)

    @property
    def worst(self) -> Compared:
        return min(self.pictures, key=lambda picture: picture.gain)

    @property
    def outcome(self) -> Literal["helped", "nothing", "worse", "unsure"]:
        """``nothing`` where the mean is within 0.05 dB of zero or the interval reaches zero; ``unsure`` where a larger difference
        was seen on a single picture, of which no interval can be given."""
        if self.interval is None:
            return "nothing" if abs(self.mean) < _NOTHING_DB else "unsure"
        low, high = self.interval
        if self.mean >= _NOTHING_DB and low >= _TIE_DB:
            return "helped"
        return "worse" if self.mean <= -_NOTHING_DB and high <= -_TIE_DB else "nothing"

    def verdict(self) -> str:
        """One plain sentence for the card."""
        begin = {
            "helped": "Helped",
            "nothing": "Nothing to gain here",
            "worse": "Made it worse",
            "unsure": "Cannot be told from one picture",
        }[self.outcome]
        gain = f"{begin}: {_db(self.mean)} dB Y-PSNR"
        if self.interval is None:
            return f"{gain} on the only held-out picture; of one picture no interval can be given, so this may be chance."
        low, high = self.interval
        doubt = ", too uneven to be sure" if self.outcome == "nothing" and abs(self.mean) >= _NOTHING_DB else ""
        count = len(self.pictures)
        interval = f"95% interval {_db(low)} to {_db(high)}"
        return f"{gain} on {count} held-out pictures ({interval}), better on {self.wins} of {count}{doubt}."

    def as_json(self) -> dict[str, Any]:
        """What :meth:`from_json` reads, and for other readers what follows from it. An infinite PSNR is the string "inf"."""
        return {
            "verdict": self.verdict(),
            "outcome": self.outcome,
            "mean_gain_db": self.mean,
            "interval_95_db": list(self.interval) if self.interval else None,
            "wins": self.wins,
            "losses": self.losses,
            "ties": self.ties,
            "best": self.best.name,
            "worst": self.worst.name,
            "base": _mean([picture.base for picture in self.pictures]),
            "adapted": _mean([picture.adapted for picture in self.pictures]),
            "pictures": [
                {"name": picture.name, "base": _written(picture.base), "adapted": _written(picture.adapted)}
                for picture in self.pictures
            ],
        }

    @classmethod
    def from_json(cls, content: Any) -> Gain:
        """Read the pictures' scores; all else is computed from them, so a file cannot claim another verdict than they give.

        Raises:
            InputError: it is not what :meth:`as_json` writes.
        """
        try:
            pictures = [Compared(str(p["name"]), _read(p["base"]), _read(p["adapted"])) for p in content["pictures"]]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise InputError(f"the gain on held-out pictures cannot be read ({reason}); measure it again") from error
        return cls(tuple(pictures))


def bootstrap(gains: Sequence[float], seed: int = 0, samples: int = 10_000) -> tuple[float, float]:
    """A 95% interval of the mean of paired differences, from means of resampled pictures.

    Source: the percentile bootstrap (Efron 1979) with its quantiles widened as Student's t is wider than the normal distribution
    (Hesterberg 2015, arXiv 1411.5279, "expanded percentile"), because plain ones are too narrow for a dozen pictures. Fewer than
    five are too few for any resampling: the interval then spans all gains, and no more. Normally distributed gains have their
    mean inside in 75% of all cases of three pictures, 89% of four, 92% of six, and about 95% from eight on.

    Args:
        gains: finite, one per picture.

    Returns:
        low <= high, the same for the same gains and seed.

    Raises:
        InputError: fewer than two gains, or one is not finite.
    """
    from scipy.special import stdtrit

    values = np.asarray(gains, dtype=np.float64)
    count = len(values)
    if count < 2 or not np.isfinite(values).all():
        raise InputError(f"no interval can be given for {count} gains {list(gains)}; give two or more finite ones")
    chosen = np.random.default_rng(seed).integers(count, size=(samples, count))
    level = NormalDist().cdf(math.sqrt(count / (count - 1)) * float(stdtrit(count - 1, 0.025)))
    low, high = np.quantile(values[chosen].mean(axis=1), [level, 1 - level])
    return float(low), float(high)


def _psnr(scores: Scores) -> float:
    psnr = scores["psnr_y"]
    return math.nan if psnr is None else min(psnr, _MOST_DB)


def _mean(scores: Sequence[Scores]) -> Scores:
    means: Scores = {"psnr_y": float(np.mean([_psnr(one) for one in scores]))}
    for key in ("ssim_y", "lpips"):
        known = [value for one in scores if (value := one[key]) is not None]
        means[key] = float(np.mean(known)) if known else None
    return means


def _written(scores: Scores) -> dict[str, float | str | None]:
    return {key: "inf" if value == math.inf else value for key, value in scores.items()}


def _read(scores: dict[str, Any]) -> Scores:
    return {key: None if scores[key] is None else float(scores[key]) for key in ("psnr_y", "ssim_y", "lpips")}


def _db(value: float) -> str:
    return f"{round(value, 2) + 0.0:+.2f}"  # adding zero turns -0.0 into 0.0
