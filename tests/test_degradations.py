from __future__ import annotations

import random
from itertools import pairwise
from math import pi

import numpy as np
import pytest
from PIL import Image

from srgui.degradations import (
    DEGRADATIONS,
    bicubic_lr,
    check_degradation,
    crop_to_multiple,
    degrade,
    direct,
    find_degradation,
    is_random,
    kernels,
    realworld,
    rng_for,
    steps,
)
from srgui.degradations.light import CAMERA
from srgui.degradations.motion import motion_kernel
from srgui.degradations.realworld import FIRST, SECOND, draw_kernel
from srgui.errors import InputError

RANDOM = ["camera", "realworld", "kernels"]
ELLIPSES = [kernels.Ellipse(1.5, 1.5), kernels.Ellipse(2.5, 0.7, 0.6), kernels.Ellipse(0.2, 3.0, -2.0)]


def photo(height: int, width: int) -> np.ndarray:
    """Smooth shapes with an edge, so that blur, noise and resampling all show."""
    y, x = np.mgrid[0:height, 0:width]
    waves = np.stack([np.sin(x / 7), np.cos(y / 5), np.sin((x + y) / 11)], axis=-1)
    image: np.ndarray = np.clip(127 + 90 * waves + 30 * (x > width / 2)[..., None], 0, 255).astype(np.uint8)
    return image


def test_crop_keeps_the_top_left_corner() -> None:
    hr = photo(13, 18)
    assert np.array_equal(crop_to_multiple(hr, 4), hr[:12, :16])
    assert crop_to_multiple(hr[..., 0], 5).shape == (10, 15)
    assert crop_to_multiple(hr, 20).size == 0


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_bicubic_is_pillows(scale: int) -> None:
    hr = photo(61, 47)
    cropped = Image.fromarray(hr).crop((0, 0, 47 // scale * scale, 61 // scale * scale))
    expected = np.asarray(cropped.resize((47 // scale, 61 // scale), Image.Resampling.BICUBIC))
    assert np.array_equal(bicubic_lr(hr, scale), expected)
    assert np.array_equal(degrade("bicubic", hr, scale, rng_for(0, "a")), expected)


@pytest.mark.parametrize("name", DEGRADATIONS)
@pytest.mark.parametrize("size", [(4, 4), (4, 400), (400, 4), (7, 6), (41, 66)])
def test_size_is_exact_for_any_picture(name: str, size: tuple[int, int]) -> None:
    for scale in (1, 2, 3, 4):
        for seed in range(12):
            lr = degrade(name, photo(*size), scale, rng_for(seed, "a.png"))
            assert lr.shape == (size[0] // scale, size[1] // scale, 3)
            assert lr.dtype == np.uint8


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_result_depends_on_nothing_but_seed_and_name(name: str) -> None:
    import torch

    hr = photo(48, 64)
    original = hr.copy()
    first = degrade(name, hr, 4, rng_for(3, "a.png"))
    np.random.seed(99)
    torch.manual_seed(99)
    random.seed(99)
    assert np.array_equal(degrade(name, hr, 4, rng_for(3, "a.png")), first)
    assert np.array_equal(hr, original)


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_thread_count_changes_nothing(name: str) -> None:
    import cv2

    before = cv2.getNumThreads()
    results = []
    for threads in (1, 2):
        cv2.setNumThreads(threads)
        results.append([degrade(name, photo(120, 160), 2, rng_for(seed, "a.png")) for seed in range(4)])
    cv2.setNumThreads(before)
    assert np.array_equal(results[0], results[1])


@pytest.mark.parametrize("name", RANDOM)
def test_seed_and_name_change_the_result(name: str) -> None:
    results = [degrade(name, photo(48, 64), 4, rng_for(*key)) for key in [(0, "a.png"), (0, "b.png"), (1, "a.png")]]
    assert all(not np.array_equal(a, b) for a, b in pairwise([*results, results[0]]))


def test_generator_is_the_same_on_every_machine() -> None:
    """Numbers worked out once from sha256("0/a.png"): they change only if pictures made elsewhere can no longer be made here."""
    assert rng_for(0, "a.png").integers(1 << 32, size=3).tolist() == [1429208131, 2291344996, 3718977401]
    assert rng_for(0, "caf\u00e9").random() == rng_for(0, "cafe\u0301").random()
    assert rng_for(1, "1").random() != rng_for(11, "").random()
    assert 0 <= rng_for(-1, "undecodable\udcff.png").random() < 1


def test_unknown_name_tells_the_near_one() -> None:
    with pytest.raises(InputError, match="Did you mean realworld"):
        degrade("realword", photo(8, 8), 2, rng_for(0, "a"))


@pytest.mark.parametrize("name", DEGRADATIONS)
@pytest.mark.parametrize(
    ("hr", "scale", "words"),
    [
        (photo(3, 9), 4, "9 x 3"),
        (photo(8, 8).astype(np.float32), 2, "float32"),
        (photo(8, 8)[..., 0], 2, r"\(8, 8\)"),
        (photo(8, 8), 0, "scale of 0"),
    ],
)
def test_unusable_hr_is_refused(name: str, hr: np.ndarray, scale: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        degrade(name, hr, scale, rng_for(0, "a"))


@pytest.mark.parametrize("size", range(7, 22, 2))
def test_kernels_sum_to_one_and_are_symmetric(size: int) -> None:
    for ellipse in ELLIPSES:
        shapes = [kernels.gaussian(size, ellipse)]
        shapes += [kernels.generalized_gaussian(size, ellipse, beta) for beta in (0.5, 4.0)]
        shapes += [kernels.plateau(size, ellipse, beta) for beta in (1.0, 2.0)]
        for kernel in shapes:
            assert kernel.min() >= 0
            check_kernel(kernel, size)
    for cutoff in (pi / 5, pi / 3, pi):
        check_kernel(kernels.sinc(size, cutoff), size)


def check_kernel(kernel: np.ndarray, size: int) -> None:
    assert kernel.shape == (size, size)
    assert kernel.sum() == pytest.approx(1, abs=1e-12)
    assert np.allclose(kernel, kernel[::-1, ::-1], rtol=0, atol=1e-14)


@pytest.mark.parametrize("ellipse", [kernels.Ellipse(1.5, 1.5), kernels.Ellipse(2.0, 1.2, 0.6), kernels.Ellipse(1.2, 2.0, pi / 2)])
def test_gaussian_has_the_covariance_of_its_ellipse(ellipse: kernels.Ellipse) -> None:
    kernel = kernels.gaussian(41, ellipse)
    y, x = np.mgrid[-20:21, -20:21]
    c, s = np.cos(ellipse.angle), np.sin(ellipse.angle)
    turn = np.array([[c, -s], [s, c]])
    expected = turn @ np.diag([ellipse.sigma_x**2, ellipse.sigma_y**2]) @ turn.T
    measured = [[(kernel * a * b).sum() for b in (x, y)] for a in (x, y)]
    assert np.allclose(measured, expected, atol=1e-6)


def test_beta_flattens_the_top_and_one_is_the_gaussian() -> None:
    ellipse = kernels.Ellipse(2.0, 1.0)
    assert np.allclose(kernels.generalized_gaussian(15, ellipse, 1.0), kernels.gaussian(15, ellipse))
    for shape in (kernels.generalized_gaussian, kernels.plateau):
        drawn = [shape(15, ellipse, beta) for beta in (0.5, 1.0, 2.0, 4.0)]
        beside_the_peak = [kernel[7, 8] / kernel[7, 7] for kernel in drawn]  # half a sigma away
        assert beside_the_peak == sorted(beside_the_peak)
        assert beside_the_peak[0] < 0.8 < 0.99 < beside_the_peak[-1]


def test_sinc_is_a_bessel_low_pass() -> None:
    special = pytest.importorskip("scipy.special")
    y, x = np.mgrid[-10:11, -10:11]
    r = np.hypot(x, y)
    r[10, 10] = 1e-9
    expected = special.j1(r * pi / 3) / r
    assert np.allclose(kernels.sinc(21, pi / 3), expected / expected.sum(), rtol=0, atol=1e-12)
    response = np.abs(np.fft.fft2(kernels.sinc(21, pi / 3), (256, 256)))[0]
    assert response[:30].min() > 0.8
    assert response[60:129].max() < 0.1


def test_blur_by_a_centred_point_is_identity_and_keeps_flat_pictures() -> None:
    image = steps.to_float(photo(9, 12))
    point = np.zeros((21, 21))
    point[10, 10] = 1
    assert np.allclose(steps.blur(image, point), image, atol=1e-12)
    flat = np.full((5, 1, 3), 0.3)
    assert np.allclose(steps.blur(flat, kernels.gaussian(21, kernels.Ellipse(3, 3))), flat, atol=1e-12)


def test_bicubic_down_rounds_to_the_8_bit_one() -> None:
    hr = photo(48, 64)
    difference = steps.to_uint8(steps.bicubic_down(steps.to_float(hr), 4)).astype(int) - bicubic_lr(hr, 4)
    assert np.abs(difference).max() <= 1


def test_gaussian_noise_has_its_sigma() -> None:
    grey = np.full((200, 200, 3), 0.5)
    noise = (steps.gaussian_noise(grey, 6.0, False, rng_for(0, "a")) - grey) * 255
    assert noise.std() == pytest.approx(6.0, rel=0.01)
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.02
    same = steps.gaussian_noise(grey, 6.0, True, rng_for(0, "a")) - grey
    assert np.allclose(same[..., 0], same[..., 2])


def test_poisson_noise_has_the_variance_of_the_signal() -> None:
    image = np.repeat(np.arange(128) / 255, 400).reshape(128, 400, 1) * np.ones(3)  # 128 levels, so 128 photons are white
    noise = steps.poisson_noise(image, 1.0, False, rng_for(0, "a")) - image
    assert noise[100:].var() == pytest.approx(image[100:].mean() / 128, rel=0.05)
    assert np.allclose(noise[0], 0, atol=1e-12)
    half = steps.poisson_noise(image, 0.5, False, rng_for(0, "a")) - image
    assert np.allclose(half[100:], noise[100:] / 2, atol=1e-12)
    grey = steps.poisson_noise(image, 1.0, True, rng_for(0, "a")) - image
    assert np.allclose(grey[..., 0], grey[..., 2])


def test_jpeg_loses_more_at_a_lower_quality() -> None:
    image = steps.to_float(photo(64, 64))
    errors = [np.square(steps.jpeg(image, quality) - image).mean() for quality in (30, 60, 95)]
    assert errors[0] > errors[1] > errors[2] > 0
    with pytest.raises(InputError, match="65500"):
        steps.jpeg(np.zeros((1, 65501, 3)), 90)


@pytest.mark.parametrize("scale", [2, 4])
def test_camera_draws_within_its_ranges_and_fills_them(scale: int) -> None:
    rng = rng_for(0, "a")
    draws = [CAMERA.draw(scale, rng) for _ in range(2000)]
    cases: list[tuple[list[float], float, float]] = [
        ([d.sigma * 2 / scale for d in draws], 0.4, 1.2),
        ([d.noise for d in draws], 1, 6),
        ([d.quality or 0 for d in draws], 60, 95),
    ]
    for values, low, high in cases:
        margin = 0.03 * (high - low)
        assert low <= min(values) < low + margin
        assert high - margin < max(values) <= high
        assert np.mean(values) == pytest.approx((low + high) / 2, abs=margin)
    assert {d.quality for d in draws} == set(range(60, 96))


def test_drawn_kernels_are_kernels() -> None:
    rng = rng_for(0, "a")
    drawn = [draw_kernel(FIRST.blur_sigma, rng) for _ in range(300)]
    assert {len(kernel) for kernel in drawn} == set(range(7, 22, 2))
    for kernel in drawn:
        check_kernel(kernel, len(kernel))
    assert 0.03 < np.mean([kernel.min() < 0 for kernel in drawn]) < 0.17  # only sinc kernels, one in ten, are negative


@pytest.mark.parametrize("stage", [FIRST, SECOND])
def test_resize_factors_follow_their_stage(stage: realworld.Stage) -> None:
    rng = rng_for(0, "a")
    factors = np.array([realworld._draw_factor(stage, rng) for _ in range(4000)])
    assert stage.resize_range[0] <= factors.min() < stage.resize_range[0] + 0.02
    assert stage.resize_range[1] - 0.02 < factors.max() <= stage.resize_range[1]
    shares = [(factors > 1).mean(), (factors < 1).mean(), (factors == 1).mean()]
    assert shares == pytest.approx(stage.resize_p, abs=0.03)


def test_random_degradations_lose_more_than_bicubic_and_still_show_the_picture() -> None:
    hr = photo(96, 128)
    clean = bicubic_lr(hr, 2).astype(float)
    for name in ("camera", "realworld"):
        for seed in range(8):
            lr = degrade(name, hr, 2, rng_for(seed, "a")).astype(float)
            assert 1 < np.abs(lr - clean).mean() < 40
            assert np.corrcoef(lr.ravel(), clean.ravel())[0, 1] > 0.8


# One text for every degradation


def test_camera_is_custom_with_its_ranges() -> None:
    text = "custom:blur=0.4-1.2,noise=1-6,jpeg=60-95"
    for scale in (2, 3, 4):
        for seed in range(4):
            camera, custom = (degrade(name, photo(61, 47), scale, rng_for(seed, "a")) for name in ("camera", text))
            assert np.array_equal(camera, custom)
    reordered = degrade("custom:jpeg=60-95,noise=1-6,blur=0.4-1.2", photo(61, 47), 2, rng_for(0, "a"))
    assert np.array_equal(reordered, degrade("camera", photo(61, 47), 2, rng_for(0, "a")))


def test_custom_steps_are_what_they_say() -> None:
    hr = photo(60, 80)
    rng = rng_for(0, "a")
    image = steps.to_float(hr)
    plain = steps.bicubic_down(image, 2)
    for sigma in (0.7, 1.5):
        blurred = steps.bicubic_down(
            steps.blur(image, kernels.gaussian(2 * int(np.ceil(4 * sigma)) + 1, kernels.Ellipse(sigma, sigma))), 2
        )
        assert np.array_equal(degrade(f"custom:blur={sigma}", hr, 2, rng), steps.to_uint8(blurred))
    assert np.array_equal(degrade("custom:blur=0", hr, 2, rng), steps.to_uint8(plain))
    assert np.array_equal(degrade("custom:jpeg=50", hr, 2, rng), steps.to_uint8(steps.jpeg(plain, 50)))
    noise = degrade("custom:noise=9", np.full((400, 400, 3), 128, np.uint8), 2, rng).astype(float) - 128
    assert noise.std() == pytest.approx(9, rel=0.02)


@pytest.mark.parametrize(
    ("text", "random"),
    [
        ("bicubic", False),
        ("camera", True),
        ("realworld", True),
        ("kernels", True),
        ("custom:blur=1", False),
        ("custom:blur=1-1.0,jpeg=80", False),
        ("custom:noise=0", False),
        ("custom:noise=3", True),
        ("custom:blur=1-2", True),
        ("custom:jpeg=80-81", True),
    ],
)
def test_random_is_what_depends_on_the_generator(text: str, random: bool) -> None:
    check_degradation(text)
    assert is_random(text) == random
    results = [degrade(text, photo(48, 64), 2, rng_for(seed, "a")) for seed in range(8)]
    assert any(not np.array_equal(results[0], other) for other in results) == random


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("camra", "unknown degradation 'camra'. Did you mean camera?"),
        ("custom", "unknown degradation 'custom'. Did you mean custom:?"),
        ("", "unknown degradation ''. Known: bicubic, camera, custom:, kernels, realworld."),
        ("custom:", "no step ''"),
        ("custom:blurr=1", "no step 'blurr', as in custom:blur=0.4-1.2,noise=1-6,jpeg=60-95. Did you mean blur?"),
        ("custom:blur", "'blur' is neither a value nor a range"),
        ("custom:blur=-1", "'blur=-1' is neither a value nor a range"),
        ("custom:blur=nan", "'blur=nan' is neither"),
        ("custom:blur=1-2-3", "'blur=1-2-3' is neither"),
        ("custom:blur=1,", "no step ''"),
        ("custom:blur=1,blur=2", "names blur twice"),
        ("custom:blur=11", "blur=11 is out of range; blur goes from 0 to 10"),
        ("custom:noise=6-1", "noise=6-1 is out of range; noise goes from 0 to 100, the lower value first"),
        ("custom:jpeg=0-90", "jpeg=0-90 is out of range; jpeg goes from 1 to 100"),
        ("custom:jpeg=70.5", "jpeg=70.5 is no JPEG quality; give whole numbers"),
    ],
)
def test_what_is_no_degradation_is_told_why(text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        check_degradation(text)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


# The family of the 12 kernels


def test_kernels_of_the_family_are_kernels() -> None:
    rng = rng_for(0, "a")
    drawn = [direct.draw_kernel(rng) for _ in range(400)]
    for kernel in drawn:
        assert kernel.shape == (25, 25)
        assert kernel.min() >= 0
        assert kernel.sum() == pytest.approx(1, abs=1e-9)
    symmetric = [kernel for kernel in drawn if np.allclose(kernel, kernel[::-1, ::-1], rtol=0, atol=1e-14)]
    assert 0.4 < len(symmetric) / len(drawn) < 0.6  # the Gaussian half
    variances = np.array([eigenvalues(kernel) for kernel in symmetric])
    assert 0.55 < variances.min() < 1.5
    assert 9 < variances.max() < 12  # a little is lost beyond 25 x 25
    spreads = np.sqrt([eigenvalues(kernel)[1] for kernel in drawn if not any(kernel is other for other in symmetric)])
    assert np.percentile(spreads, 10) < 2.5
    assert np.percentile(spreads, 90) > 5  # the motion kernels of the 12 have 3.7 to 6.4


def eigenvalues(kernel: np.ndarray) -> np.ndarray:
    """Of the covariance, ascending."""
    where = np.mgrid[: len(kernel), : len(kernel)].reshape(2, -1)
    return np.linalg.eigvalsh(np.cov(where, aweights=kernel.ravel(), ddof=0))


def test_direct_downsampling_keeps_the_upper_left_of_a_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    hr = photo(66, 50)
    kernel = motion_kernel(25, rng_for(0, "a"))
    monkeypatch.setattr(direct, "draw_kernel", lambda rng: kernel)
    for scale in (1, 2, 3):
        cropped = crop_to_multiple(hr, scale) / 255
        expected = ndimage.convolve(cropped, kernel[..., None], mode="mirror")[::scale, ::scale]
        lr = degrade("kernels", hr, scale, rng_for(0, "a"))
        assert np.abs(lr - expected * 255).max() <= 0.5 + 1e-6


# Regions


@pytest.mark.parametrize("text", ["bicubic", "custom:blur=0.8", "custom:blur=2.5", "kernels"])
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_what_lies_beyond_the_reach_does_not_matter(text: str, scale: int) -> None:
    hr = np.random.default_rng(0).integers(0, 256, (60 * scale, 72 * scale, 3), dtype=np.uint8)
    reach = find_degradation(text).reach(scale)
    whole = degrade(text, hr, scale, rng_for(1, "a"))
    top, left, side = 24, 30, 9
    area = tuple(slice((start - reach) * scale, (start + side + reach) * scale) for start in (top, left))
    part = degrade(text, hr[area], scale, rng_for(1, "a"))
    assert np.array_equal(part[reach:-reach, reach:-reach], whole[top : top + side, left : left + side])


@pytest.mark.parametrize("scale", [2, 4])
def test_the_filters_of_the_long_chain_do_not_reach_further(scale: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """JPEG carries a change to the whole of a block, and shot noise depends on all levels: both apart."""
    monkeypatch.setattr(steps, "jpeg", lambda image, quality: image)
    monkeypatch.setattr(steps, "poisson_noise", lambda image, strength, grey, rng: image)
    reach, side = find_degradation("realworld").reach(scale), 6
    hr = photo((2 * reach + side + 20) * scale, (2 * reach + side + 20) * scale)
    changed = np.random.default_rng(0).integers(0, 256, hr.shape, dtype=np.uint8)
    inside = slice(10 * scale, (10 + 2 * reach + side) * scale)
    changed[inside, inside] = hr[inside, inside]
    seen = slice(10 + reach, 10 + reach + side)
    for seed in range(25):
        one, other = (degrade("realworld", picture, scale, rng_for(seed, "a"))[seen, seen] for picture in (hr, changed))
        assert np.array_equal(one, other)
