"""Closed forms against the metrics of pictures that are really rendered."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from srgui.blends import Moments, Quadratic, luma, parts, quadratic
from srgui.errors import InputError
from srgui.metrics import psnr, round_to_8bit, ssim

scales = st.floats(0, 1.2)


def pictures(seed: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Corners and a reference that are like one another, away from black and white."""
    generator = torch.Generator().manual_seed(seed)
    base = 0.3 + 0.4 * torch.rand(1, 3, 8, 8, generator=generator)
    smooth = torch.nn.functional.interpolate(base, size=(48, 40), mode="bicubic", align_corners=False)
    noisy = [smooth + 0.03 * torch.randn(smooth.shape, generator=generator) for _ in range(4)]
    return noisy[:3], noisy[3].clamp(0, 1)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 50), scales, scales)
def test_psnr_is_that_of_the_rendered_picture(seed: int, pixel: float, semantic: float) -> None:
    (up, pix, full), hr = pictures(seed)
    border = 4
    cut = (..., slice(border, -border), slice(border, -border))
    corners = [corner[cut] for corner in luma([up, pix, full])]
    form = quadratic([(parts([c[..., :16, :] for c in corners]), luma([hr])[0][cut][..., :16, :]),
                      (parts([c[..., 16:, :] for c in corners]), luma([hr])[0][cut][..., 16:, :])])  # fmt: skip
    sr = up + pixel * (pix - up) + semantic * (full - pix)
    assert form.psnr((pixel, semantic)) == pytest.approx(psnr(sr, hr, crop_border=border), abs=1e-3)
    assert form.psnr((pixel, semantic)) == pytest.approx(psnr(round_to_8bit(sr), hr, crop_border=border), abs=0.05)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 50), scales, scales, scales, scales)
def test_in_a_mask_other_scales_hold(seed: int, pixel: float, semantic: float, in_pixel: float, in_semantic: float) -> None:
    (up, pix, full), hr = pictures(seed)
    mask = torch.rand(1, 1, 48, 40, generator=torch.Generator().manual_seed(seed))
    outside = up + pixel * (pix - up) + semantic * (full - pix)
    inside = up + in_pixel * (pix - up) + in_semantic * (full - pix)
    sr = torch.lerp(outside, inside, mask)
    values = (pixel, semantic, in_pixel, in_semantic)
    form = quadratic([(parts(luma([up, pix, full]), mask.double()), luma([hr])[0])])
    assert form.psnr(values) == pytest.approx(psnr(sr, hr, crop_border=0), abs=1e-3)
    moments = Moments(parts(luma([up, pix, full]), mask.double()), luma([hr])[0])
    assert moments.ssim(values).mean().item() == pytest.approx(ssim(sr, hr, crop_border=0), abs=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 50), scales, scales)
def test_ssim_is_that_of_the_rendered_picture(seed: int, pixel: float, semantic: float) -> None:
    (up, pix, full), hr = pictures(seed)
    sr = up + pixel * (pix - up) + semantic * (full - pix)
    found = Moments(parts(luma([up, pix, full])), luma([hr])[0]).ssim((pixel, semantic))
    assert found.mean().item() == pytest.approx(ssim(sr, hr, crop_border=0), abs=1e-4)


def test_a_blend_that_is_its_reference_has_no_error() -> None:
    (up, pix, _), _ = pictures(0)
    assert quadratic([(parts([up, pix]), pix)]).mse((1.0,)) == pytest.approx(0, abs=1e-12)
    assert Quadratic(((0.0,),)).psnr(()) == float("inf")


def test_wrong_numbers_of_scales_and_no_pixels_are_refused() -> None:
    (up, pix, _), hr = pictures(0)
    with pytest.raises(InputError, match="2 scales were given for a blend of 1"):
        quadratic([(parts([up, pix]), hr)]).mse((1.0, 1.0))
    with pytest.raises(InputError, match="no pixel"):
        quadratic([])
