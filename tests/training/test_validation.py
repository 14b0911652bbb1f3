from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from srgui.images import to_tensor
from srgui.metrics import psnr, round_to_8bit, ssim
from srgui.models.network import Network
from srgui.training.pairs import Pair
from srgui.training.validation import SIDE, WATCHED, Validation, mean_scores


def pair(name: str, height: int, width: int) -> Pair:
    rng = np.random.default_rng((height, width))
    lr, hr = (rng.integers(0, 256, (height * s, width * s, 3), dtype=np.uint8) for s in (1, 2))
    return Pair(Path(name), lr, hr)


def test_the_middle_of_a_picture_is_measured_as_evaluate_does(network: Network) -> None:
    large, small = pair("large", SIDE + 20, SIDE + 31), pair("small", 20, 30)
    scores, pictures = Validation([large, small], 2, None)(network)
    middle = large.lr[10 : 10 + SIDE, 15 : 15 + SIDE], large.hr[20 : 20 + 2 * SIDE, 30 : 30 + 2 * SIDE]
    expected = []
    for sr, (lr, hr) in zip(pictures, (middle, (small.lr, small.hr)), strict=True):
        with torch.inference_mode():
            assert torch.equal(sr, round_to_8bit(network(to_tensor(lr))))
        options = {"channel": "Y", "crop_border": 2}
        expected.append((psnr(sr, to_tensor(hr), **options), ssim(sr, to_tensor(hr), **options)))  # type: ignore[arg-type]
    assert (scores["psnr_y"], scores["ssim_y"]) == pytest.approx(tuple(np.mean(expected, axis=0)))
    assert scores["lpips"] is None
    over_rgb = [
        psnr(sr, to_tensor(hr), channel="RGB", crop_border=2) for sr, hr in zip(pictures, (middle[1], small.hr), strict=True)
    ]
    assert scores["psnr"] == pytest.approx(np.mean(over_rgb))


def test_only_a_few_pictures_are_watched() -> None:
    assert len(Validation([pair("a", 8, 8)] * 20, 2, None).pictures) == WATCHED


def test_a_mean_is_over_those_that_could_be_computed() -> None:
    scores = [{"psnr_y": 20.0, "ssim_y": None}, {"psnr_y": 30.0, "ssim_y": 0.5}]
    assert mean_scores(scores) == {"psnr_y": 25.0, "ssim_y": 0.5}
    assert mean_scores(scores[:1])["ssim_y"] is None
