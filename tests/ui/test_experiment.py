"""What the Lab does, without the page."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from srgui.errors import InputError, ModelError
from srgui.images import to_samples
from srgui.places import ASSETS
from srgui.protocol import Run
from srgui.ui import experiment as module
from srgui.ui.experiment import Asked, alternatives, experiment, parameters, spectrum
from srgui.ui.findings import compared_html, stages_html
from srgui.unfolding.design import Design
from srgui.unfolding.network import Unfolding

COFFEE = ASSETS / "examples" / "coffee.png"


@pytest.mark.parametrize("scale", [2, 3])
def test_a_known_blur_is_undone_better_than_by_what_needs_no_training(scale):
    found = experiment(Asked("sr", COFFEE, "K3", scale=scale), Run())
    assert len(found.psnr) == len(found.stages) == found.design.stages + 1
    assert found.psnr[-1] > max(found.beside.values())
    assert found.picture(len(found.stages) - 1).size == found.original().size
    assert found.measurement.shape[0] * scale == found.truth.shape[-2]


def test_a_real_picture_has_no_truth_and_takes_any_kernel(tmp_path):
    ink = np.zeros((25, 25))
    ink[12, 6:19] = 255
    found = experiment(Asked("sr", COFFEE, ink, real=True, scale=2), Run())
    assert found.truth is None
    assert found.psnr == []
    assert found.stages[-1].shape[-2:] == (2 * 185, 2 * 240)
    np.savetxt(tmp_path / "kernel.txt", ink)
    same = experiment(Asked("sr", COFFEE, str(tmp_path / "kernel.txt"), real=True, scale=2), Run())
    assert torch.equal(same.stages[-1], found.stages[-1])
    assert any("divided" in notice for notice in same.notices)


def test_a_kernel_may_be_kept_from_the_network_but_then_it_cannot_be_told():
    kept = experiment(Asked("sr", COFFEE, "K3", setting="unknown"), Run())
    told = experiment(Asked("sr", COFFEE, "K3"), Run())
    assert np.array_equal(kept.measurement, told.measurement)
    assert kept.psnr[0] == pytest.approx(told.psnr[0])
    assert kept.beside.keys() == {"bicubic"}
    assert kept.beside["bicubic"] < kept.psnr[-1] < told.psnr[-1]
    real = experiment(Asked("sr", COFFEE, None, real=True, setting="unknown"), Run())
    noisy = experiment(Asked("sr", COFFEE, "K9", real=True, sigma=9.0, setting="unknown"), Run())
    assert torch.allclose(real.stages[-1], noisy.stages[-1], atol=1e-5)
    assert all(other.setting == "unknown" for other in alternatives(Asked("sr", COFFEE, setting="unknown")))


def test_networks_are_compared_on_one_measurement():
    asked = Asked("sr", COFFEE, "K3")
    rivals = alternatives(asked)
    names = [(rival.model, rival.setting) for rival in rivals]
    assert names[:2] == [("srgui-lorun-sr", "sr"), ("srgui-lorun-sr", "unknown")]
    found = [experiment(rival, Run()) for rival in rivals]
    assert all(np.array_equal(one.measurement, found[0].measurement) for one in found)
    assert {one.design.sharing for one in found} == {"single", "block", "lorun"}
    table = compared_html(found)
    assert "steps each" in table
    for one in found:
        assert f"{one.psnr[-1]:.2f} dB" in table
        assert one.network in table
    assert [rival.setting for rival in alternatives(Asked("cs", COFFEE, setting="10"))] == ["10"]


def test_a_picture_of_one_colour_is_exact(tmp_path, save_png):
    flat = save_png(tmp_path / "flat.png", np.full((64, 64, 3), 128, dtype=np.uint8))
    found = experiment(Asked("sr", flat), Run())
    assert "bicubic exact" in stages_html(found)


def test_few_measurements_give_the_picture_back():
    found = experiment(Asked("cs", COFFEE), Run())
    assert found.psnr[-1] > found.psnr[0] + 2
    assert found.stages[-1].shape == found.truth.shape == (1, 1, 185, 240)
    other = experiment(Asked("cs", COFFEE, bare=True), Run())
    assert other.design.sharing == "single"
    assert not torch.equal(other.stages[-1], found.stages[-1])
    with pytest.raises(InputError, match="no weights for 7"):
        experiment(Asked("cs", COFFEE, setting="7"), Run())


def test_a_scene_has_bands_and_a_spectrum_at_each_point(monkeypatch):
    network = Unfolding(Design(task="cassi", stages=1, widths=(4, 4))).eval()
    monkeypatch.setattr(module, "_network", lambda *asked: network)
    found = experiment(Asked("cassi", COFFEE), Run())
    assert any("made up" in notice for notice in found.notices)
    values, truth = spectrum(found, 0, 10, 20)
    assert len(values) == len(truth) == 28
    assert truth == pytest.approx(found.truth[0, :, 10, 20].tolist())
    band = found.original(band=5).rgb
    assert (band[..., 0] == band[..., 2]).all()
    assert np.array_equal(band[..., :1], to_samples(found.truth[:, 4:5], 8))
    assert found.measurement.shape[1] == band.shape[1] + 2 * 27


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (Asked("sr", COFFEE, "K99"), "K1 to K12"),
        (Asked("cs", COFFEE, real=True), "super-resolution only"),
        (Asked("sr", ASSETS / "none.png"), "does not exist"),
        (Asked("sr", COFFEE, np.ones((500, 3)), real=True), "larger than the picture"),
        (Asked("sr", COFFEE, model="srgui-lorun-sr", setting="blind"), "no weights for blind"),
    ],
    ids=["kernel", "real", "picture", "large kernel", "setting"],
)
def test_what_cannot_be_tried_is_said(asked, words):
    with pytest.raises(InputError, match=words):
        experiment(asked, Run())


@pytest.mark.parametrize("task", ["sr", "cs", "cassi"])
def test_what_is_too_small_to_be_measured_is_refused(task, tmp_path, save_png, monkeypatch):
    network = Unfolding(Design(task="cassi", stages=1, widths=(4, 4))).eval()
    monkeypatch.setattr(module, "_network", lambda *asked: network) if task == "cassi" else None
    small = save_png(tmp_path / "small.png", np.zeros((15, 40, 3), dtype=np.uint8))
    with pytest.raises(InputError, match="at least"):
        experiment(Asked(task, small), Run())


@pytest.mark.parametrize("side", [40, 600])
def test_a_mask_of_another_size_is_said(side, tmp_path, monkeypatch):
    network = Unfolding(Design(task="cassi", stages=1, widths=(4, 4))).eval()
    monkeypatch.setattr(module, "_network", lambda *asked: network)
    np.save(tmp_path / "mask.npy", np.ones((side, side)))
    found = experiment(Asked("cassi", COFFEE, mask=tmp_path / "mask.npy"), Run())
    assert any(f"the mask {side} x {side}" in notice for notice in found.notices)
    assert found.stages[-1].shape[-1] == min(side, 240)


def test_without_weights_it_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr("srgui.unfolding.files.ASSETS", tmp_path)
    monkeypatch.setenv("SRGUI_HOME", str(tmp_path))
    module._network.cache_clear()
    with pytest.raises(ModelError, match="no unfolding network"):
        experiment(Asked("sr", COFFEE), Run())


def test_parameters_of_the_three_ways_to_share():
    counts = parameters(Design(stages=9))
    assert counts["single"] < counts["lorun"] < counts["block"]
    assert counts["lorun"] <= 0.4 * counts["block"]
