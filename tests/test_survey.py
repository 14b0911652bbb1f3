"""Everything that is measured of a steered result, against the metrics of pictures that are really rendered."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from srgui.errors import MetricUnavailable
from srgui.evaluation import consistency
from srgui.inference.guidance import PIXEL, SEMANTIC, Blend, pair_weights
from srgui.inference.mask import stretch
from srgui.metrics import lr_consistency, psnr, sharpness, ssim
from srgui.protocol import Box, Run, Setting
from srgui.resample import resize
from srgui.survey import Survey

SETTINGS = [Setting({"pixel": pixel, "semantic": semantic}) for pixel, semantic in ((1, 0), (1, 1), (0.3, 0.9), (0, 0), (1.2, 0.4))]
SIZE = 600, 80  # more rows than one strip
BORDER = 4


class Kept:
    """A plane that is there already."""

    def __init__(self, values: Tensor) -> None:
        self.values, self.size = values, (values.shape[-2], values.shape[-1])

    def read(self, box: Box, run: Run) -> Tensor:
        return self.values[(..., *box.slices)]

    def close(self) -> None: ...


@pytest.fixture
def survey(picture: Callable[..., Tensor]) -> Survey:
    generator = torch.Generator().manual_seed(5)
    hr = resize(picture(75, 10), *SIZE).mul(0.6).add(0.2)
    up, pix, full = (hr + spread * torch.randn(hr.shape, generator=generator) for spread in (0.06, 0.03, 0.04))
    blend = Blend({"up": Kept(up), "pix": Kept(pix), "full": Kept(full)}, pair_weights, (PIXEL, SEMANTIC))
    lr = resize(hr, 150, 20).clamp(0, 1)
    return Survey(blend, lr, (PIXEL, SEMANTIC), hr, BORDER)


@pytest.fixture
def masked(survey: Survey) -> Survey:
    survey.paint(torch.rand(1, 1, 30, 7, generator=torch.Generator().manual_seed(1)))
    return survey


def rendered(survey: Survey, setting: Setting, part: Box | None = None) -> Tensor:
    return survey.prepared.render(setting, Run(), part)


def inside(survey: Survey, setting: Setting) -> Setting:
    return Setting(setting.values, {"pixel": 0.7, "semantic": 0.1}, survey.mask)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_the_forms_are_the_metrics_of_the_rendered_picture(survey: Survey, setting: Setting) -> None:
    assert survey.hr is not None
    forms, values = survey.forms(Run()), survey.vector(setting)
    sr = rendered(survey, setting)
    assert forms.psnr is not None
    assert forms.psnr.psnr(values) == pytest.approx(psnr(sr, survey.hr, crop_border=BORDER), abs=1e-3)
    assert forms.consistency.psnr(values) == pytest.approx(lr_consistency(sr, survey.lr), abs=1e-3)
    assert 255 * math.sqrt(2 * forms.gradient.mse(values)) == pytest.approx(sharpness(sr), rel=1e-5)


def test_ssim_is_that_of_each_rendered_picture(survey: Survey) -> None:
    assert survey.hr is not None
    for setting, found in zip(SETTINGS, survey.ssim(SETTINGS, Run()), strict=True):
        assert found == pytest.approx(ssim(rendered(survey, setting), survey.hr, crop_border=BORDER), abs=1e-4)


def test_in_a_mask_the_forms_have_a_scale_more_for_each(masked: Survey) -> None:
    assert masked.hr is not None
    assert masked.mask is not None
    forms = masked.forms(Run())
    assert forms.psnr is not None
    assert stretch(masked.mask, SIZE, Box(0, 0, *SIZE)).std() > 0.1
    for setting in SETTINGS:
        setting = inside(masked, setting)
        sr, values = rendered(masked, setting), masked.vector(setting)
        assert len(values) == 4
        assert forms.psnr.psnr(values) == pytest.approx(psnr(sr, masked.hr, crop_border=BORDER), abs=1e-3)
        assert forms.consistency.psnr(values) == pytest.approx(lr_consistency(sr, masked.lr), abs=1e-3)
        (found,) = masked.ssim([setting], Run())
        assert found == pytest.approx(ssim(sr, masked.hr, crop_border=BORDER), abs=1e-4)


def test_a_part_is_measured_as_a_picture_of_its_own(survey: Survey) -> None:
    assert survey.hr is not None
    part, setting = Box(100, 8, 400, 48), Setting({"pixel": 0.8, "semantic": 0.5})
    forms, values = survey.forms(Run(), part), survey.vector(setting)
    sr, hr = rendered(survey, setting, part), survey.hr[(..., *part.slices)]
    assert forms.psnr is not None
    assert forms.psnr.psnr(values) == pytest.approx(psnr(sr, hr, crop_border=0), abs=1e-3)
    assert survey.ssim([setting], Run(), part)[0] == pytest.approx(ssim(sr, hr, crop_border=0), abs=1e-4)
    scores = survey.scores(setting, None, Run(), part)
    assert scores["psnr_y"] == pytest.approx(forms.psnr.psnr(values), abs=0.05)
    assert scores["consistency"] == pytest.approx(forms.consistency.psnr(values), abs=0.05)
    assert scores["consistency"] == pytest.approx(consistency(survey.prepared, setting, survey.lr, Run(), Box(25, 2, 100, 12)))
    assert scores["sharpness"] == pytest.approx(sharpness(sr.clamp(0, 1)))
    assert scores["lpips"] is None


def test_a_part_in_the_border_cannot_be_measured(survey: Survey) -> None:
    for part in (Box(0, 0, BORDER, 80), Box(596, 10, 4, 10)):
        with pytest.raises(MetricUnavailable, match="nothing is left"):
            survey.forms(Run(), part)
    with pytest.raises(MetricUnavailable, match="11 x 11"):
        survey.ssim(SETTINGS, Run(), Box(10, 10, 10, 30))


def test_without_a_reference_what_needs_none_is_measured(survey: Survey) -> None:
    alone = Survey(survey.prepared, survey.lr, survey.controls, None, BORDER)
    assert alone.forms(Run()).psnr is None
    assert alone.forms(Run()).consistency == survey.forms(Run()).consistency
    scores = alone.scores(SETTINGS[0], None, Run())
    assert scores["psnr_y"] is None
    assert scores["sharpness"] is not None
    with pytest.raises(MetricUnavailable, match="no reference"):
        alone.ssim(SETTINGS, Run())
