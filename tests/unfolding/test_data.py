"""Kernels, scenes, samples and measurements: what goes in, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from srgui.degradations.kernels import Ellipse, gaussian
from srgui.errors import InputError
from srgui.training.preflight import Item, inspect
from srgui.unfolding.design import Design
from srgui.unfolding.judge import measure, sr_example
from srgui.unfolding.kernels import as_kernel, find_kernel, the_twelve
from srgui.unfolding.physics import BlurDownsample, Cassi
from srgui.unfolding.principal import principal_rows
from srgui.unfolding.samples import make_samples
from srgui.unfolding.scenes import NANOMETRES, coded_aperture, paint, pseudo_colour, read_mask, read_scene, some_mask


def test_the_twelve_kernels_are_those_of_the_papers() -> None:
    kernels = the_twelve()
    assert kernels.shape == (12, 25, 25)
    assert torch.allclose(kernels.sum(dim=(1, 2)), torch.ones(12), atol=1e-5)
    for number, sigma in enumerate((0.7, 1.2, 1.6, 2.0)):
        assert np.abs(kernels[number].numpy() - gaussian(25, Ellipse(sigma, sigma))).max() < 1e-6
    for number, (first, second, degrees) in enumerate([(7, 2, 0), (9, 1.5, 36), (8, 1.5, 135), (7, 5, 127.8)], start=4):
        expected = gaussian(25, Ellipse(first**0.5, second**0.5, -np.radians(degrees)))
        assert np.abs(kernels[number].numpy() - expected).max() < 1e-6


def test_a_kernel_of_another_sum_is_divided_by_it_with_a_notice(tmp_path: Path, save_png: Callable[..., Path]) -> None:
    np.save(tmp_path / "k.npy", np.full((3, 5), 2.0))
    kernel, notice = find_kernel(str(tmp_path / "k.npy"))
    assert torch.allclose(kernel, torch.full((1, 1, 3, 5), 1 / 15))
    assert "sums to 30" in notice
    (tmp_path / "k.csv").write_text("0,1,0\n1,4,1\n0,1,0\n")
    assert find_kernel(str(tmp_path / "k.csv"))[0][0, 0, 1, 1] == 0.5
    spot = np.zeros((5, 5, 3), np.uint8)
    spot[2, 3] = 200
    kernel, _ = find_kernel(str(save_png(tmp_path / "k.png", spot)))
    assert kernel[0, 0, 2, 3] == 1
    assert find_kernel("k5")[1] == ""


@pytest.mark.parametrize("values", [np.zeros((3, 3)), np.full((2, 2), np.nan), -np.ones((2, 2)), np.ones(4), np.ones((0, 3))])
def test_numbers_that_are_no_kernel(values: np.ndarray) -> None:
    with pytest.raises(InputError, match="the kernel mine"):
        as_kernel(values, "mine")


def test_a_kernel_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no kernel 'K13'"):
        find_kernel("K13")
    (tmp_path / "k.npy").write_bytes(b"no numbers")
    with pytest.raises(InputError, match="cannot be read"):
        find_kernel(str(tmp_path / "k.npy"))


@pytest.fixture
def photo() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (20, 24, 3), dtype=np.uint8)


def test_painted_scenes_are_smooth_in_wavelength_and_more_than_rank_three(photo: np.ndarray) -> None:
    scene = paint(photo, np.random.default_rng(2))
    assert scene.shape == (28, 20, 24)
    assert scene.min() >= 0
    assert 0.9 < scene.max() <= 1
    flat = scene.flatten(1)
    bends = (flat[2:] - 2 * flat[1:-1] + flat[:-2]).abs().mean()
    assert bends < 0.1 * flat.mean()
    values = torch.linalg.svdvals(flat.double())
    assert values[3] > 1e-3 * values[0]
    assert torch.equal(scene, paint(photo, np.random.default_rng(2)))
    assert not torch.equal(scene, paint(photo, np.random.default_rng(3)))


def test_a_painted_scene_keeps_the_order_of_colours() -> None:
    photo = np.zeros((1, 3, 3), np.uint8)
    photo[0, range(3), range(3)] = 255
    scene = paint(photo, np.random.default_rng(0))
    red, green, blue = (NANOMETRES[int(scene[:, 0, place].argmax())] for place in range(3))
    assert blue < green < red


def test_scenes_are_read_in_both_layouts(tmp_path: Path) -> None:
    cube = np.random.default_rng(0).random((6, 7, 28))
    savemat(tmp_path / "kaist.mat", {"img": cube})
    savemat(tmp_path / "first.mat", {"other": (cube.transpose(2, 0, 1) * 65535).astype(np.uint16)})
    one, two = read_scene(tmp_path / "kaist.mat"), read_scene(tmp_path / "first.mat")
    assert one.shape == (1, 28, 6, 7)
    assert torch.allclose(one[0, 5], torch.from_numpy(cube[..., 5]).float())
    assert torch.allclose(one, two, atol=2 / 65535)
    savemat(tmp_path / "rgb.mat", {"img": cube[..., :3]})
    with pytest.raises(InputError, match="no cube of 28 bands"):
        read_scene(tmp_path / "rgb.mat")
    (tmp_path / "text.mat").write_text("this is no matrix, however long it may be" * 9)
    with pytest.raises(InputError, match=r"cannot be read as a \.mat file"):
        read_scene(tmp_path / "text.mat")


def test_masks(tmp_path: Path) -> None:
    mask = coded_aperture()
    savemat(tmp_path / "m.mat", {"mask": mask.numpy()})
    np.save(tmp_path / "m.npy", mask.numpy())
    assert torch.equal(read_mask(tmp_path / "m.mat"), mask)
    assert torch.equal(read_mask(tmp_path / "m.npy"), mask)
    for number, bad in enumerate((2 * mask, 0 * mask, mask[:0], mask[None])):
        np.save(tmp_path / f"{number}.npy", bad.numpy())
        with pytest.raises(InputError, match="is no mask"):
            read_mask(tmp_path / f"{number}.npy")


@pytest.mark.parametrize("content", [b"", b"PK", np.array(["text"]), np.array([{}], dtype=object), 1j * np.ones((3, 3))])
def test_files_that_hold_no_numbers(content: bytes | np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
        (tmp_path / "a.mat").write_bytes(content)
        with pytest.raises(InputError, match="cannot be read"):
            read_mask(tmp_path / "a.mat")
    else:
        np.save(path, content, allow_pickle=True)
    for read in (lambda: read_mask(path), lambda: find_kernel(str(path))):
        with pytest.raises(InputError, match="cannot be read"):
            read()


def test_pseudo_colour_shows_short_waves_blue_and_long_ones_red() -> None:
    for band, channel in ((2, 2), (14, 1), (26, 0)):
        scene = torch.zeros(1, 28, 2, 2)
        scene[:, band] = 1
        assert int(pseudo_colour(scene)[0, :, 0, 0].argmax()) == channel


def test_principal_rows_lose_less_than_random_ones() -> None:
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    waves = [(0.5 + 0.5 * torch.sin(x / (2 + k) + y / (5 - k)))[None] for k in range(3)]
    rows = principal_rows(waves, 6, block=4)
    assert torch.allclose(rows @ rows.T, torch.eye(6), atol=1e-5)
    block = waves[0][0, 3:7, 5:9].flatten()
    assert (block - rows.T @ (rows @ block)).norm() < 0.05 * block.norm()


@pytest.fixture
def items(tmp_path: Path, save_png: Callable[..., Path]) -> list[Item]:
    for number in range(2):
        save_png(tmp_path / "photos" / f"{number}.png", (60 + number, 70))
    return inspect([tmp_path / "photos"], scale=1, patch=48).usable()


@pytest.mark.parametrize("task", ["sr", "cs", "cassi"])
def test_samples_depend_on_seed_and_number_alone(task: str, items: list[Item]) -> None:
    design = Design(task=task)  # type: ignore[arg-type]
    once, again = (make_samples(design, items, 48, 2, 7) for _ in range(2))
    again[5]
    (given, wanted), (given_too, wanted_too) = once[9], again[9]
    assert torch.equal(wanted, wanted_too)
    assert all(torch.equal(given[key], given_too[key]) for key in given)  # type: ignore[index, union-attr]
    assert not torch.equal(wanted, once[10][1])


def test_samples_of_sr_obey_their_operator_and_share_a_scale_within_a_step(items: list[Item]) -> None:
    samples = make_samples(Design(), items, 48, 2, 0)
    scales = set()
    for number in range(12):
        given, hr = samples[number]
        assert isinstance(given, dict)
        sf = int(given["sf"])
        scales.add(sf)
        assert sf == int(samples[number ^ 1][0]["sf"])  # type: ignore[index]
        clean = BlurDownsample(given["kernel"][None], sf, (48, 48)).A(hr[None])[0]
        sigma = float(given["sigma"])
        assert float((given["y"] - clean).std()) == pytest.approx(sigma, rel=0.3, abs=1e-6)
    assert scales == {2, 3, 4}


def test_a_kernel_that_nobody_knows_does_not_move_the_picture(items: list[Item]) -> None:
    samples = make_samples(Design(step="learned"), items, 48, 2, 0)
    for number in range(12):
        kernel = samples[number][0]["kernel"]  # type: ignore[index]
        assert torch.allclose(kernel, kernel.flip(-2, -1), atol=1e-6)


def test_measures_of_the_tasks() -> None:
    truth = torch.full((1, 3, 32, 32), 128 / 255)
    off = truth.clone()
    off[..., :2, :] += 0.3  # in the border alone
    assert measure("sr", off, truth, 2)["psnr"] == np.inf
    assert measure("sr", truth + 1e-4, truth, 0)["psnr"] == np.inf  # it is rounded
    assert measure("sr", truth + 1 / 255, truth, 0)["psnr"] == pytest.approx(20 * np.log10(255), abs=1e-3)
    assert measure("cs", truth[:, :1] + 0.01, truth[:, :1], 0)["psnr"] == pytest.approx(40, abs=1e-3)
    bands = torch.cat([truth[:, :1] + 0.01, truth[:, :1] + 0.1], dim=1)
    assert measure("cassi", bands, truth[:, :2], 0)["psnr"] == pytest.approx(30, abs=1e-3)


def test_rounding_a_measurement_counts_as_noise() -> None:
    hr = torch.rand(1, 3, 24, 24)
    kernel = the_twelve()[:1, None, 10:15, 10:15]
    rounded = sr_example(hr, kernel, 2, "a", bits=8)
    error = rounded.given["y"] - BlurDownsample(kernel, 2, (24, 24)).A(hr)
    assert float(error.square().mean().sqrt()) == pytest.approx(float(rounded.given["sigma"]), rel=0.1)


def test_the_coded_aperture_is_the_same_everywhere_and_half_open() -> None:
    mask = coded_aperture()
    assert mask.shape == (256, 256)
    assert set(mask.unique().tolist()) == {0, 1}
    assert mask[0, :16].tolist() == [0, 1, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 1, 0]
    assert float(mask.mean()) == pytest.approx(0.5, abs=0.01)
    # every pixel that some twenty bands may reach gets light
    assert Cassi(mask).diagonal[..., 40:-40].min() > 0


def test_masks_to_train_with_are_sharp_and_soft() -> None:
    masks = [some_mask(32, np.random.default_rng(seed)) for seed in range(20)]
    assert {mask.shape for mask in masks} == {(32, 32)}
    assert all(mask.min() >= 0 and mask.max() <= 1 for mask in masks)
    sharp = [bool(((mask == 0) | (mask == 1)).all()) for mask in masks]
    assert any(sharp)
    assert not all(sharp)
