"""Results made again from what their files carry, and masks by command."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srgui.images import Layout, read_picture, read_settings, write_picture
from srgui.lora.catalogue import SHIPPED, adapters_folder
from tests.cli.conftest import Called

Call = Callable[..., Called]


@pytest.fixture
def source(tmp_path: Path, save_png: Callable[..., Path]) -> Path:
    return save_png(tmp_path / "a.png", (24, 20))


@pytest.fixture
def mask(tmp_path: Path, save_png: Callable[..., Path]) -> Path:
    samples = np.zeros((40, 50, 3), np.uint8)
    samples[:, 25:] = 255
    return save_png(tmp_path / "mask.png", samples)


@pytest.fixture
def upscaled(srgui: Call, tmp_path: Path, source: Path) -> Callable[..., Path]:
    def make(name: str, *options: object) -> Path:
        called = srgui("upscale", source, "-o", tmp_path / name, *options)
        assert called.code == 0, called.err
        return tmp_path / name

    return make


def pixels(path: Path) -> np.ndarray:
    return read_picture(path).rgb


def settings(path: Path) -> dict[str, Any]:
    return dict(read_settings(path) or {})


@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff", "webp"])
def test_a_result_is_made_again_from_its_file(upscaled: Callable[..., Path], mask: Path, suffix: str) -> None:
    options = ["--pixel", 0.8, "--semantic", 0.6, "--mask", mask, "--masked-semantic", 1.2, "--outscale", 3, "--tile", 16]
    first = upscaled(f"first.{suffix}", *options)
    again = upscaled(f"again.{suffix}", "--like", first)
    assert np.array_equal(pixels(first), pixels(again))
    assert settings(first) == settings(again)
    assert settings(first)["masked"] == {"pixel": 0.8, "semantic": 1.2}
    assert settings(first)["tile"] == 16


def test_what_is_given_besides_is_changed(upscaled: Callable[..., Path], mask: Path) -> None:
    first = upscaled("first.png", "--semantic", 0.6, "--mask", mask, "--outscale", 3)
    other = settings(upscaled("other.png", "--like", first, "--semantic", 0.2, "--outscale", 2, "--tile", 32))
    assert other["values"] == {"pixel": 1.0, "semantic": 0.2}
    assert other["mask"] == settings(first)["mask"]
    assert (other["outscale"], other["tile"]) == (2, 32)


def test_the_mask_changes_what_is_white_in_it(upscaled: Callable[..., Path], mask: Path) -> None:
    outside, inside = upscaled("o.png", "--semantic", 1), upscaled("i.png", "--semantic", 0)
    found = pixels(upscaled("m.png", "--semantic", 1, "--mask", mask))
    assert np.array_equal(found[:, :38], pixels(outside)[:, :38])
    assert np.array_equal(found[:, -38:], pixels(inside)[:, -38:])


def test_a_renamed_adapter_is_found_by_what_it_is(
    srgui: Call, tmp_path: Path, source: Path, upscaled: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SRGUI_HOME", str(tmp_path / "home"))
    shutil.copytree(SHIPPED / "microscopy", adapters_folder() / "mine")
    monkeypatch.setattr("srgui.lora.catalogue.SHIPPED", tmp_path / "none")
    first = upscaled("first.png", "-a", "mine:0.5")
    (adapters_folder() / "mine").rename(adapters_folder() / "renamed")
    again = upscaled("again.png", "--like", first)
    assert np.array_equal(pixels(first), pixels(again))
    (found,) = settings(again)["adapters"]
    assert (found["name"], found["strength"], found["role"]) == ("renamed", 0.5, "domain")
    shutil.rmtree(adapters_folder())
    srgui("upscale", source, "-o", tmp_path / "b.png", "--like", first).refused("adapter", "import the one that was used")


def test_what_cannot_be_made_again_is_refused(
    srgui: Call, tmp_path: Path, source: Path, mask: Path, upscaled: Callable[..., Path]
) -> None:
    def refused(*options: object) -> Callable[..., None]:
        return srgui("upscale", source, "-o", tmp_path / "out.png", *options).refused

    plain = upscaled("plain.png")
    refused("--like", source)("carries no settings of srgui")
    refused("--like", tmp_path / "nowhere.png")("does not exist")
    refused("--like", plain, "-m", "srgui-srcnn-x4")("other weights", "--model")
    refused("--like", plain, "-a", "pixel")("leave --adapter out")
    refused("--option", "prompt=a cat")("prompt")
    refused("--masked-semantic", 1)("give one with --mask")
    refused("--mask", tmp_path / "nowhere.png")("does not exist")
    refused("--mask", mask, "-m", "bicubic")("no 'semantic' scale")
    rgb = pixels(plain)
    for key, wrong in (("values", {"pixel": "high"}), ("outscale", None), ("mask", "???"), ("adapters", [1])):
        broken = {**settings(plain), key: wrong, **({"masked": {}} if key == "mask" else {})}
        write_picture(tmp_path / "broken.png", Layout(*rgb.shape, 8), [rgb], settings=broken, overwrite=True)
        refused("--like", tmp_path / "broken.png")("broken.png", "settings" if key != "mask" else "mask")
    assert not (tmp_path / "out.png").exists()
