from __future__ import annotations

import errno
import json
import os
import pickle
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from srgui.errors import MemoryLimitError
from srgui.images import read_picture, read_settings, to_tensor
from srgui.metrics import psnr, round_to_8bit, ssim
from srgui.models.cards import all_cards
from srgui.places import ROOT
from srgui.resample import resize

Save = Callable[..., Path]
Call = Callable[..., Any]


def waves(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    planes = np.stack([np.sin(x / 6), np.cos(y / 5), np.sin((x + y) / 8)], axis=2)
    return (127 + 100 * planes).round().astype(np.uint8)


# upscale


def test_a_picture_is_upscaled_with_the_default_model(srgui: Call, tmp_path: Path, save_png: Save) -> None:
    source, target = save_png(tmp_path / "a.png", (20, 24)), tmp_path / "new" / "b.png"
    result = srgui("upscale", source, "-o", target, "--device", "cpu")
    assert result.code == 0
    assert str(target) in result.out
    assert read_picture(target).size == (80, 96)
    settings = read_settings(target)
    assert settings is not None
    assert settings["model"] == "srgui-compact-x4"


@pytest.mark.parametrize(("outscale", "size"), [(1.5, (18, 24)), (8, (96, 128)), (0.5, (6, 8)), (16, (192, 256))])
def test_any_outscale(srgui: Call, tmp_path: Path, save_png: Save, tiny_files: Any, outscale: float, size: tuple[int, int]) -> None:
    source = save_png(tmp_path / "a.png", (12, 16))
    result = srgui("upscale", source, "-o", str(tmp_path) + "/", "--model", tiny_files.pth, "--outscale", outscale)
    assert result.code == 0
    assert read_picture(tmp_path / f"a_x{outscale:g}.png").size == size


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (2, 3)])
def test_very_small_and_very_long_pictures_work(
    srgui: Call, tmp_path: Path, save_png: Save, tiny_files: Any, size: tuple[int, int]
) -> None:
    source = save_png(tmp_path / "a.png", size)
    assert srgui("upscale", source, "-o", tmp_path / "b.png", "-m", tiny_files.safetensors).code == 0
    assert read_picture(tmp_path / "b.png").size == (size[0] * 4, size[1] * 4)


def test_pixel_zero_is_bicubic(srgui: Call, tmp_path: Path, save_png: Save, tiny_files: Any) -> None:
    source = save_png(tmp_path / "a.png", (10, 10))
    assert srgui("upscale", source, "-o", tmp_path / "zero.png", "-m", tiny_files.pth, "--pixel", 0).code == 0
    assert srgui("upscale", source, "-o", tmp_path / "bicubic.png", "-m", "bicubic").code == 0
    assert np.array_equal(read_picture(tmp_path / "zero.png").rgb, read_picture(tmp_path / "bicubic.png").rgb)


def test_the_tile_does_not_change_the_file_by_more_than_rounding(
    srgui: Call, tmp_path: Path, save_png: Save, tiny_files: Any
) -> None:
    source = save_png(tmp_path / "a.png", (50, 60))
    for tile in (16, "auto"):
        assert srgui("upscale", source, "-o", tmp_path / f"{tile}.png", "-m", tiny_files.pth, "--tile", tile).code == 0
    a, b = (read_picture(tmp_path / f"{tile}.png").rgb.astype(int) for tile in (16, "auto"))
    assert np.abs(a - b).max() <= 1
    assert (a != b).mean() <= 1e-4


def test_a_folder_of_pictures_goes_into_a_folder(srgui: Call, tmp_path: Path, save_png: Save) -> None:
    for name in "ab":
        save_png(tmp_path / "in" / f"{name}.png", (8, 8))
    assert srgui("upscale", tmp_path / "in", "-o", tmp_path / "out", "-m", "bicubic", "--format", "webp").code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a_x4.webp", "b_x4.webp"]


def test_one_bad_picture_is_exit_code_1_and_all_bad_2(srgui: Call, tmp_path: Path, save_png: Save) -> None:
    good, bad = save_png(tmp_path / "a.png", (8, 8)), tmp_path / "b.png"
    bad.write_bytes(b"")
    srgui("upscale", bad, good, "-o", tmp_path / "out", "-m", "bicubic").refused(str(bad), "empty", code=1)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a_x4.png"]
    result = srgui("upscale", bad, tmp_path / "c.png", "-o", tmp_path / "new", "-m", "bicubic")
    assert result.code == 2
    assert len(result.err.splitlines()) == 2
    assert not (tmp_path / "new").exists()


def test_a_failure_that_does_not_name_its_picture_is_given_its_name(
    srgui: Call, tmp_path: Path, save_png: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise MemoryLimitError("no memory")

    monkeypatch.setattr("srgui.inference.batch.PreparedPicture", fail)
    source = save_png(tmp_path / "a.png", (8, 8))
    srgui("upscale", source, "-o", tmp_path / "b.png", "-m", "bicubic").refused(f"{source}: no memory")


# Existing files


def test_nothing_is_overwritten_unless_asked(srgui: Call, tmp_path: Path, save_png: Save) -> None:
    source, target = save_png(tmp_path / "a.png", (8, 8)), save_png(tmp_path / "b.png", (3, 3))
    before = target.read_bytes()
    srgui("upscale", source, "-o", target, "-m", "bicubic").refused(str(target), "exists already", "--overwrite")
    assert target.read_bytes() == before
    assert srgui("upscale", source, "-o", target, "-m", "bicubic", "--overwrite").code == 0
    assert read_picture(target).size == (32, 32)


@pytest.mark.parametrize("flag", [[], ["--overwrite"]])
def test_the_output_is_never_the_input(srgui: Call, tmp_path: Path, save_png: Save, flag: list[str]) -> None:
    source = save_png(tmp_path / "a.png", (8, 8))
    before = source.read_bytes()
    (tmp_path / "link.png").symlink_to(source)
    for out in (source, tmp_path / "." / "a.png", tmp_path / "link.png"):
        srgui("upscale", source, "-o", out, "-m", "bicubic", *flag).refused("is the input itself; choose another name")
    assert source.read_bytes() == before


# Bad input: one line, exit code 2, nothing written


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(height: int, width: int) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(100_000))) + chunk(b"IEND", b"")


def bad_picture(kind: str, folder: Path) -> Path:
    path = folder / {"truncated jpeg": "a.jpg", "nan tiff": "a.tiff", "inf tiff": "a.tif"}.get(kind, "a.png")
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("not a picture\n")
    elif kind.startswith("truncated"):
        Image.fromarray(waves(64, 64)).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif kind == "bomb":
        path.write_bytes(bomb(100_000, 100_000))
    elif kind.endswith("tiff"):
        samples = np.full((8, 8, 3), 0.5, np.float32)
        samples[3, 3, 1] = float(kind.split()[0])
        tifffile.imwrite(path, samples, photometric="rgb")
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("empty", ["the file is empty (0 bytes)"]),
        ("text", ["is not a picture that can be read; expected PNG"]),
        ("truncated jpeg", ["is damaged"]),
        ("truncated png", ["is damaged"]),
        ("bomb", ["100000 x 100000 pixels", "limit of 300 megapixels", "SRGUI_MAX_MEGAPIXELS"]),
        ("nan tiff", ["NaN"]),
        ("inf tiff", ["Inf"]),
        ("missing", ["does not exist; check the name"]),
    ],
)
def test_a_bad_picture(srgui: Call, tmp_path: Path, kind: str, words: list[str]) -> None:
    path = bad_picture(kind, tmp_path)
    srgui("upscale", path, "-o", tmp_path / "out" / "b.png", "-m", "bicubic").refused(str(path), *words)
    assert not (tmp_path / "out").exists()


def test_the_limit_of_pixels_can_be_changed(srgui: Call, tmp_path: Path, save_png: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    source = save_png(tmp_path / "a.png", (20, 20))
    monkeypatch.setenv("SRGUI_MAX_MEGAPIXELS", "0.0003")
    srgui("upscale", source, "-o", tmp_path / "b.png", "-m", "bicubic").refused("20 x 20 pixels", "SRGUI_MAX_MEGAPIXELS")
    monkeypatch.setenv("SRGUI_MAX_MEGAPIXELS", "0.0004")
    assert srgui("upscale", source, "-o", tmp_path / "b.png", "-m", "bicubic").code == 0


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("file/b.png", ["file is a file"]),
        ("file/new/b.png", ["file is a file"]),
        ("b.gif", ["files ending in .gif cannot be written; use .png"]),
        ("b", ["files ending in nothing cannot be written; use .png"]),
        ("b" * 300 + ".png", ["name too long"]),
        ("b" * 5000 + ".png", ["name too long"]),
        ("b" * 5000 + "/", ["name too long"]),
    ],
)
def test_an_output_that_cannot_be(srgui: Call, tmp_path: Path, save_png: Save, out: str, words: list[str]) -> None:
    source = save_png(tmp_path / "a.png", (8, 8))
    (tmp_path / "file").write_text("in the way")
    srgui("upscale", source, "-o", f"{tmp_path}/{out}", "-m", "bicubic").refused(*words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "file"]


def test_a_full_disk(srgui: Call, tmp_path: Path, save_png: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    source = save_png(tmp_path / "a.png", (8, 8))

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    srgui("upscale", source, "-o", tmp_path / "new" / "b.png", "-m", "bicubic").refused("the disk is full while writing")
    assert not (tmp_path / "new").exists()


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def bad_model(kind: str, folder: Path, tiny_files: Any) -> str:
    path = folder / "weights.pth"
    if kind == "text":
        path.write_text("not weights")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        path.write_bytes(tiny_files.pth.read_bytes()[:1000])
    elif kind == "code":
        path.write_bytes(pickle.dumps({"params": Payload(folder / "trace")}, protocol=2))
    elif kind == "denoiser":
        from spandrel.architectures.DnCNN import DnCNN

        torch.save(DnCNN(in_nc=3, out_nc=3, nc=8, nb=9, act_mode="R").state_dict(), path)
    elif kind == "picture":
        Image.fromarray(waves(8, 8)).save(folder / "weights.png")
        return str(folder / "weights.png")
    return str(path)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("text", ["is not a weight file"]),
        ("empty", ["is not a weight file"]),
        ("truncated", ["is not a weight file or is damaged"]),
        ("code", ["holds code", "was not opened; get a .safetensors file"]),
        ("denoiser", ["DnCNN", "not for super-resolution; choose an SR model"]),
        ("picture", ["is not a weight file; expected a name ending in .safetensors"]),
        ("missing", ["does not exist; check the path"]),
    ],
)
def test_a_bad_weight_file(srgui: Call, tmp_path: Path, save_png: Save, tiny_files: Any, kind: str, words: list[str]) -> None:
    source, model = save_png(tmp_path / "a.png", (8, 8)), bad_model(kind, tmp_path, tiny_files)
    srgui("upscale", source, "-o", tmp_path / "out" / "b.png", "-m", model).refused(model, *words)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-m", "realesrgan-x4plsu"], ["unknown model 'realesrgan-x4plsu'", "Did you mean", "realesrgan-x4plus"]),
        (["-m", "esrgan-x4"], ["not on this machine", "python -m srgui models download esrgan-x4"]),
        (["--outscale", "17"], ["outscale 17 is out of range; choose above 0 and up to 16"]),
        (["--outscale", "0"], ["outscale 0"]),
        (["--outscale", "nan"], ["outscale nan"]),
        (["--pixel", "2"], ["pixel 2 is out of range; choose 0 to 1.5"]),
        (["--semantic", "1", "-m", "srgui-srcnn-x4"], ["no 'semantic' scale; it has pixel"]),
        (["--tile", "8"], ["a tile of 8 pixels is too small; use 16 or more, or auto"]),
        (["--tile", "big"], ["--tile 'big' must be auto or a number"]),
        (["--tile", "²"], ["--tile '²' must be auto or a number"]),
        (["--device", "tpu"], ["unknown device 'tpu'; use auto, cpu, cuda or cuda:N"]),
        (["--device", "cuda:99"], ["device 'cuda:99' is not there", "use cpu or auto"]),
        (["--device", "cuda:²"], ["unknown device 'cuda:²'"]),
    ],
)
def test_a_bad_option(srgui: Call, tmp_path: Path, save_png: Save, options: list[str], words: list[str]) -> None:
    source = save_png(tmp_path / "a.png", (8, 8))
    srgui("upscale", source, "-o", tmp_path / "out" / "b.png", *options).refused(*words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "args", [["upscale"], ["upscale", "a.png"], ["upscale", "a.png", "-o", "b.png", "--quality", "0"], ["nonsense"], ["--nonsense"]]
)
def test_bad_usage_is_exit_code_2(srgui: Call, args: list[str]) -> None:
    result = srgui(*args)
    assert result.code == 2
    assert "Traceback" not in result.err
    assert "Error" in result.err


def test_a_format_that_is_not_written(srgui: Call, tmp_path: Path, save_png: Save) -> None:
    source = save_png(tmp_path / "a.png", (8, 8))
    srgui("upscale", source, "-o", f"{tmp_path}/out/", "--format", "gif").refused("format 'gif' is not written; use png")


def test_an_interrupt_is_one_line(srgui: Call, tmp_path: Path, save_png: Save, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("srgui.inference.batch.PreparedPicture", interrupt)
    source = save_png(tmp_path / "a.png", (8, 8))
    srgui("upscale", source, "-o", tmp_path / "b.png", "-m", "bicubic").refused("interrupted")


# evaluate


def strict(path: Path) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def test_the_json_of_evaluate_is_what_the_saved_files_give(srgui: Call, tmp_path: Path, hr_dir: Path, tiny_files: Any) -> None:
    report_file, saved = tmp_path / "new" / "report.json", tmp_path / "saved"
    result = srgui("evaluate", hr_dir, "-m", tiny_files.pth, "--json", report_file, "--save", saved, "--seed", 3)
    assert result.code == 0
    assert "LPIPS not available: this is a test" in result.err
    report = strict(report_file)
    assert set(report) == {"mean", "bicubic", "images", "settings"}
    keys = {"psnr_y", "ssim_y", "lpips"}
    assert set(report["mean"]) == set(report["bicubic"]) == keys
    assert report["mean"]["lpips"] is None
    assert report["settings"]["lpips"] == "LPIPS not available: this is a test"
    assert report["settings"]["crop_border"] == report["settings"]["scale"] == 4
    assert report["settings"]["degradation"] == "bicubic"
    assert report["settings"]["seed"] == 3
    assert [image["name"] for image in report["images"]] == ["0.png", "1.png"]
    assert sorted(path.name for path in saved.iterdir()) == ["0_lr.png", "0_sr.png", "1_lr.png", "1_sr.png"]
    for index, image in enumerate(report["images"]):
        hr8 = read_picture(hr_dir / f"{index}.png").rgb[:48, :64]
        lr8, sr8 = (read_picture(saved / f"{index}_{kind}.png").rgb for kind in ("lr", "sr"))
        assert np.array_equal(lr8, np.asarray(Image.fromarray(hr8).resize((16, 12), Image.Resampling.BICUBIC)))
        hr, sr, up = to_tensor(hr8), to_tensor(sr8), round_to_8bit(resize(to_tensor(lr8), 48, 64))
        for scores, picture in ((image, sr), (image["bicubic"], up)):
            assert scores["psnr_y"] == pytest.approx(psnr(picture, hr, channel="Y", crop_border=4), abs=1e-6)
            assert scores["ssim_y"] == pytest.approx(ssim(picture, hr, channel="Y", crop_border=4), abs=1e-6)
            assert scores["lpips"] is None
    for key in ("psnr_y", "ssim_y"):
        assert report["mean"][key] == pytest.approx(np.mean([image[key] for image in report["images"]]))
        assert report["bicubic"][key] == pytest.approx(np.mean([image["bicubic"][key] for image in report["images"]]))


def test_bicubic_evaluates_as_bicubic(srgui: Call, tmp_path: Path, hr_dir: Path) -> None:
    srgui("evaluate", hr_dir, "-m", "bicubic", "--json", tmp_path / "r.json")
    report = strict(tmp_path / "r.json")
    assert report["mean"] == report["bicubic"]


@pytest.mark.parametrize("degradation", ["camera", "realworld"])
def test_a_degradation_depends_on_its_seed_alone(srgui: Call, tmp_path: Path, hr_dir: Path, degradation: str) -> None:
    lrs = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        folder = tmp_path / name
        assert srgui("evaluate", hr_dir, "-m", "bicubic", "--degradation", degradation, "--seed", seed, "--save", folder).code == 0
        lrs.append(read_picture(folder / "0_lr.png").rgb)
    assert np.array_equal(lrs[0], lrs[1])
    assert not np.array_equal(lrs[0], lrs[2])


def test_given_lr_pictures_are_used(srgui: Call, tmp_path: Path, hr_dir: Path, save_png: Save) -> None:
    for index in range(2):
        save_png(tmp_path / "lr" / f"{index}.png", waves(12, 16))
    options = ["-m", "bicubic", "--lr-dir", tmp_path / "lr", "--json", tmp_path / "r.json", "--save", tmp_path / "saved"]
    assert srgui("evaluate", hr_dir, *options).code == 0
    assert np.array_equal(read_picture(tmp_path / "saved" / "1_lr.png").rgb, waves(12, 16))
    settings = strict(tmp_path / "r.json")["settings"]
    assert settings["degradation"] is None
    assert settings["lr_dir"] == str(tmp_path / "lr")


def test_an_lr_picture_of_another_size_is_told_the_size_it_should_have(
    srgui: Call, tmp_path: Path, hr_dir: Path, save_png: Save
) -> None:
    save_png(tmp_path / "lr" / "0.png", waves(12, 16))
    save_png(tmp_path / "lr" / "1.png", waves(12, 17))
    options = ["-m", "bicubic", "--lr-dir", tmp_path / "lr", "--json", tmp_path / "r.json"]
    result = srgui("evaluate", hr_dir, *options)
    assert result.code == 1
    assert f"{tmp_path / 'lr' / '1.png'} is 17 x 12; for 1.png at x4 it must be 16 x 12" in result.err
    assert [image["name"] for image in strict(tmp_path / "r.json")["images"]] == ["0.png"]


def test_a_perfect_score_is_null_in_json(srgui: Call, tmp_path: Path, save_png: Save) -> None:
    save_png(tmp_path / "hr" / "flat.png", np.full((40, 40, 3), 90, np.uint8))
    result = srgui("evaluate", tmp_path / "hr", "-m", "bicubic", "--json", tmp_path / "r.json")
    assert result.code == 0
    assert "inf" in result.out
    report = strict(tmp_path / "r.json")
    assert report["mean"]["psnr_y"] is None
    assert report["mean"]["ssim_y"] == pytest.approx(1)


def test_pictures_of_one_stem_are_saved_under_different_names(srgui: Call, tmp_path: Path, save_png: Save, hr_dir: Path) -> None:
    Image.fromarray(waves(48, 48)).save(hr_dir / "0.jpg")
    assert srgui("evaluate", hr_dir, "-m", "bicubic", "--save", tmp_path / "saved").code == 0
    names = {path.name for path in (tmp_path / "saved").iterdir()}
    assert names == {f"{name}_{kind}.png" for name in ("0.jpg", "0.png", "1") for kind in ("lr", "sr")}


def test_a_picture_too_small_to_measure_has_no_score(srgui: Call, tmp_path: Path, save_png: Save) -> None:
    save_png(tmp_path / "hr" / "a.png", waves(16, 16))  # less than an SSIM window is left after the crop
    save_png(tmp_path / "hr" / "b.png", waves(3, 40))  # no LR pixel
    result = srgui("evaluate", tmp_path / "hr", "-m", "bicubic", "--json", tmp_path / "r.json")
    assert result.code == 1
    assert "b.png is smaller than the scale 4" in result.err
    report = strict(tmp_path / "r.json")
    assert report["mean"]["psnr_y"] > 0
    assert report["mean"]["ssim_y"] is None


def test_evaluate_counts_a_picture_that_cannot_be_saved_as_failed(srgui: Call, tmp_path: Path, hr_dir: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = srgui("evaluate", hr_dir, "-m", "bicubic", "--save", tmp_path / "file" / "x", "--json", tmp_path / "r.json")
    assert result.code == 2
    assert len([line for line in result.err.splitlines() if line.startswith("error: ")]) == 2
    assert not (tmp_path / "r.json").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--degradation", "bicubci"], ["unknown degradation 'bicubci'. Did you mean bicubic?"]),
        (["--lpips-net", "resnet"], ["unknown LPIPS network 'resnet'; use auto, alex, vgg or squeeze"]),
        (["--pixel", "9"], ["pixel 9 is out of range"]),
        (["--model", "nothing-like-it"], ["unknown model"]),
    ],
)
def test_evaluate_refuses_a_bad_option(srgui: Call, hr_dir: Path, options: list[str], words: list[str]) -> None:
    srgui("evaluate", hr_dir, *options).refused(*words)


@pytest.mark.parametrize("folder", ["missing", "empty", "file.png", "x" * 5000])
def test_evaluate_refuses_what_is_no_folder_of_pictures(srgui: Call, tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.png").write_text("")
    srgui("evaluate", tmp_path / folder, "-m", "bicubic").refused(folder)


def test_a_json_file_that_cannot_be_written(srgui: Call, tmp_path: Path, hr_dir: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = srgui("evaluate", hr_dir, "-m", "bicubic", "--json", tmp_path / "file" / "r.json")
    assert result.code == 2
    assert "r.json cannot be written" in result.err
    assert "Traceback" not in result.err


# models, serve


def test_models_are_listed_with_their_state(srgui: Call) -> None:
    lines = srgui("models", "list").out.splitlines()
    assert [line.split()[0] for line in lines] == list(all_cards())
    states = {line.split()[0]: line.split()[2] for line in lines}
    assert states["srgui-compact-x4"] == states["bicubic"] == "ready"
    assert states["esrgan-x4"] == "download"


def test_a_model_is_shown(srgui: Call) -> None:
    out = srgui("models", "show", "realesrgan-x4plus").out
    assert "BSD-3-Clause" in out
    assert "RealESRGAN_x4plus.pth (not here)" in out


def test_a_weight_file_is_added_and_used(srgui: Call, tmp_path: Path, save_png: Save, tiny_files: Any) -> None:
    assert "mine is ready (x4, RealESRGAN Compact" in srgui("models", "add", tiny_files.pth, "--name", "mine").out
    srgui("models", "add", tiny_files.pth, "--name", "mine").refused("exists already")
    source = save_png(tmp_path / "a.png", (8, 8))
    assert srgui("upscale", source, "-o", tmp_path / "b.png", "-m", "mine").code == 0
    assert "mine" in srgui("models", "list").out


def test_an_unknown_model_is_not_downloaded(srgui: Call) -> None:
    srgui("models", "download", "realesrgan-x4plsu").refused("Did you mean")


def test_a_broken_card_is_one_line(srgui: Call, home: Path) -> None:
    folder = home / "models" / "broken"
    folder.mkdir(parents=True)
    (folder / "card.json").write_text("{")
    result = srgui("models", "list")
    (warning,) = result.err.splitlines()
    assert result.code == 0
    assert all(word in warning for word in (str(folder / "card.json"), "is not JSON", "mend it, or remove its folder"))
    assert "bicubic" in result.out


@pytest.mark.parametrize("auth", ["me", ":secret", "me:", ""])
def test_serve_refuses_half_a_login(srgui: Call, auth: str) -> None:
    srgui("serve", "--auth", auth).refused("--auth", "a name, a colon and a password")


# What is imported when


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_srgui_imports_nothing_else() -> None:
    code = "import sys; before = set(sys.modules); import srgui; print(sorted(set(sys.modules) - before))"
    assert python(code).strip() == "['srgui']"


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["upscale", "--help"], ["models", "list"]])
def test_help_does_not_import_what_is_slow(args: list[str]) -> None:
    code = f"""
import sys
from srgui.cli import main
sys.argv = ["srgui", *{args}]
try:
    main()
except SystemExit as exit:
    assert not exit.code
slow = {{"torch", "gradio", "numpy", "PIL", "cv2", "spandrel", "scipy", "skimage", "lpips", "rich.progress"}}
print("\\nslow:", sorted(slow & set(sys.modules)))
"""
    assert python(code).splitlines()[-1] == "slow: []"


def test_the_module_runs_and_gives_its_exit_code(tmp_path: Path, save_png: Save) -> None:
    source = save_png(tmp_path / "a.png", (8, 8))
    command = [sys.executable, "-m", "srgui", "upscale", str(source), str(tmp_path / "b.png"), "-o", f"{tmp_path}/out/"]
    done = subprocess.run([*command, "-m", "bicubic"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [f"error: {tmp_path / 'b.png'} does not exist; check the name"]
    assert done.stdout.splitlines() == [str(tmp_path / "out" / "a_x4.png")]
    assert read_picture(tmp_path / "out" / "a_x4.png").size == (32, 32)


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
def test_the_bar_is_on_the_terminal_and_the_results_in_the_pipe(tmp_path: Path, save_png: Save) -> None:
    source = save_png(tmp_path / "a.png", (8, 8))
    command = [sys.executable, "-m", "srgui", "upscale", str(source), "-o", f"{tmp_path}/out/", "-m", "bicubic"]
    ours, theirs = os.openpty()
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=theirs, text=True, check=True)
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert "strips" in shown
    assert done.stdout.splitlines() == [str(tmp_path / "out" / "a_x4.png")]


def test_giving_a_scale_turns_on_the_models_pair(srgui: Call, tmp_path: Path, save_png: Save) -> None:
    source = save_png(tmp_path / "a.png", (24, 20))

    def made(name: str, *options: object) -> np.ndarray:
        assert srgui("upscale", source, "-o", tmp_path / name, *options).code == 0
        return read_picture(tmp_path / name).rgb

    plain = made("plain.png")
    assert read_settings(tmp_path / "plain.png")["adapters"] == []
    faithful = made("faithful.png", "--semantic", 0)
    assert [adapter["role"] for adapter in read_settings(tmp_path / "faithful.png")["adapters"]] == ["pixel", "semantic"]
    assert np.array_equal(faithful, made("alone.png", "-a", "pixel"))
    assert not np.array_equal(faithful, plain)
    both = made("both.png", "--pixel", 1)
    assert np.array_equal(both, made("named.png", "-a", "semantic", "-a", "pixel"))
    assert np.array_equal(made("none.png", "--pixel", 0, "--semantic", 0), made("bicubic.png", "-m", "bicubic"))
