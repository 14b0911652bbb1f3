from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from srgui.errors import Cancelled, InputError
from srgui.evaluation import Measured, Protocol, consistency, evaluate, score, summary
from srgui.inference.engine import Engine
from srgui.inference.pixel import BicubicRestorer, PixelRestorer
from srgui.metrics import lr_consistency, psnr, ssim
from srgui.models.network import Network
from srgui.protocol import RestorerInfo, Run, Setting, Source

INFO = RestorerInfo("test", "Test", "spandrel", 4, "none")


@pytest.fixture
def restorer(tiny: Network) -> PixelRestorer:
    return PixelRestorer(tiny, INFO, Engine(16))


@pytest.mark.parametrize("size", [(150, 20), (64, 30), (1, 1), (5, 90)])
def test_consistency_equals_that_of_the_whole_picture(
    restorer: PixelRestorer, tiny: Network, picture: Callable[..., Tensor], size: tuple[int, int]
) -> None:
    lr = picture(*size)
    found = consistency(restorer.prepare(Source(lr), Run()), Setting(), lr, Run())
    assert found == pytest.approx(lr_consistency(tiny(lr).clamp(0, 1), lr), abs=1e-3)


def test_a_flat_picture_is_wholly_consistent() -> None:
    lr = torch.full((1, 3, 9, 9), 0.5)
    assert consistency(BicubicRestorer(INFO).prepare(Source(lr), Run()), Setting(), lr, Run()) > 100


def test_scores_are_of_the_rounded_picture(picture: Callable[..., Tensor]) -> None:
    hr = picture(40, 40).mul(255).round().div(255)
    sr = (hr + 0.02 * picture(40, 41)[..., :40]).clamp(0, 1)
    rounded = sr.mul(255).round().div(255)
    found = score(sr, hr, 4, None)
    assert found["psnr_y"] == pytest.approx(psnr(rounded, hr, channel="Y", crop_border=4))
    assert found["ssim_y"] == pytest.approx(ssim(rounded, hr, channel="Y", crop_border=4))
    assert found["lpips"] is None
    assert score(hr, hr, 4, None)["psnr_y"] == math.inf


def test_what_cannot_be_computed_is_none_and_left_out_of_the_mean() -> None:
    small, large = torch.zeros(1, 3, 10, 10), torch.full((1, 3, 10, 10), 0.1)
    first = score(small, large, 4, None)
    assert first["psnr_y"] is not None
    assert first["ssim_y"] is None
    measured = [Measured("a", first, first), Measured("b", first | {"ssim_y": 0.5}, first)]
    report = summary(measured, {"seed": 1})
    assert report["mean"]["ssim_y"] == 0.5
    assert report["bicubic"]["ssim_y"] is None
    assert report["settings"] == {"seed": 1}


def test_pictures_of_another_size_are_refused() -> None:
    with pytest.raises(InputError):
        score(torch.zeros(1, 3, 40, 40), torch.zeros(1, 3, 40, 44), 4, None)


def test_one_failing_picture_does_not_stop_the_others(
    restorer: PixelRestorer, tmp_path: Path, save_png: Callable[..., Path]
) -> None:
    paths = [save_png(tmp_path / "a.png", (40, 40)), tmp_path / "b.png", save_png(tmp_path / "c.png", (40, 40))]
    paths[1].write_text("no picture")
    measured, failed = evaluate(restorer, paths, Protocol(), Setting(), Run())
    assert [m.name for m in measured] == ["a.png", "c.png"]
    assert [path for path, _ in failed] == [paths[1]]


def test_a_cancel_is_no_failed_picture(
    restorer: PixelRestorer, tmp_path: Path, save_png: Callable[..., Path], watch: Callable[..., Run]
) -> None:
    path = save_png(tmp_path / "a.png", (120, 120))
    with pytest.raises(Cancelled):
        evaluate(restorer, [path], Protocol(), Setting(), watch(2))
