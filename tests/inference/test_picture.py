from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from torch import nn

from srgui.errors import Cancelled
from srgui.images import Layout, Picture, read_picture, read_settings, to_samples, to_tensor
from srgui.inference import picture as module_under_test
from srgui.inference.engine import Engine
from srgui.inference.picture import PreparedPicture
from srgui.inference.pixel import BicubicRestorer, PixelRestorer
from srgui.models.network import Network
from srgui.protocol import Box, RestorerInfo, Run, Setting

INFO = RestorerInfo("test", "Test", "spandrel", 4, "none")


@pytest.fixture
def restorer(tiny: Network) -> PixelRestorer:
    return PixelRestorer(tiny, INFO, Engine(16))


@pytest.fixture
def bicubic() -> BicubicRestorer:
    return BicubicRestorer(INFO)


def noise(height: int, width: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(5).integers(0, np.iinfo(dtype).max + 1, (height, width, 3), dtype=dtype)


def saved(prepared: PreparedPicture, path: Path, run: Run | None = None, setting: Setting | None = None) -> Picture:
    prepared.save(path, setting or Setting(), run or Run())
    return read_picture(path)


def disc(dtype: type = np.uint8) -> Picture:
    """A red disc on transparent black, with a soft edge."""
    y, x = np.mgrid[0:40, 0:40]
    top = np.iinfo(dtype).max
    cover = np.clip(14.5 - np.hypot(y - 19.5, x - 19.5), 0, 1)
    rgb = np.zeros((40, 40, 3), dtype)
    rgb[cover > 0, 0] = top
    return Picture(rgb, (cover * top).astype(dtype))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("outscale", [4, 3, 8])
def test_a_disc_on_transparent_black_has_no_dark_fringe(
    bicubic: BicubicRestorer, tmp_path: Path, dtype: type, outscale: float
) -> None:
    result = saved(PreparedPicture(bicubic, disc(dtype), outscale, Run()), tmp_path / "disc.png")
    assert result.alpha is not None
    assert result.alpha.min() == 0
    assert result.alpha.max() == np.iinfo(dtype).max
    visible = result.alpha > 0
    top = np.iinfo(dtype).max
    assert result.rgb[visible][:, 0].min() >= top * 0.99
    assert result.rgb[visible][:, 1:].max() <= top * 0.01


def test_alpha_is_upscaled_by_the_same_model(restorer: PixelRestorer, tiny: Network, tmp_path: Path) -> None:
    picture = replace(disc(), rgb=noise(40, 40))
    assert picture.alpha is not None
    result = saved(PreparedPicture(restorer, picture, 4, Run()), tmp_path / "x.png")
    alpha = tiny(to_tensor(picture.alpha).expand(1, 3, -1, -1)).mean(dim=1, keepdim=True)
    assert result.alpha is not None
    difference = np.abs(result.alpha.astype(int) - to_samples(alpha, 8)[..., 0].astype(int))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-4


@pytest.mark.parametrize(("alpha", "passes"), [(None, 1), (0, 1), (255, 1), (77, 1), ("disc", 2)])
def test_constant_alpha_costs_no_pass(
    nearest: Callable[[int], nn.Module], tmp_path: Path, alpha: int | str | None, passes: int
) -> None:
    module = nearest(2)
    restorer = PixelRestorer(Network(module, "Nearest", 2, radius=0), replace(INFO, scale=2), Engine(64))
    plane = {None: None, "disc": disc().alpha}.get(alpha, np.full((40, 40), alpha, np.uint8) if isinstance(alpha, int) else None)
    result = saved(PreparedPicture(restorer, Picture(noise(40, 40), plane), 2, Run()), tmp_path / "x.png")
    assert module.calls == passes
    assert (result.alpha is None) == (alpha is None)
    if isinstance(alpha, int):
        assert result.alpha is not None
        assert (result.alpha == alpha).all()


def test_hidden_colours_become_those_of_the_nearest_visible_pixel(nearest: Callable[[int], nn.Module]) -> None:
    restorer = PixelRestorer(Network(nearest(1), "Nearest", 1, radius=0), replace(INFO, scale=1), Engine(64))
    rgb = noise(1, 9)
    alpha = np.array([[255, 0, 0, 9, 0, 0, 0, 0, 255]], np.uint8)
    result = PreparedPicture(restorer, Picture(rgb, alpha), 1, Run()).render(Setting(), Run(), Layout(1, 9, 4, 8))
    assert np.array_equal(result[..., :3], rgb[:, [0, 0, 3, 3, 3, 3, 8, 8, 8]]) or np.array_equal(
        result[..., :3], rgb[:, [0, 0, 3, 3, 3, 8, 8, 8, 8]]
    )
    assert np.array_equal(result[..., 3], alpha)


def test_a_format_without_alpha_is_put_on_white(bicubic: BicubicRestorer, tmp_path: Path) -> None:
    result = saved(PreparedPicture(bicubic, disc(), 4, Run()), tmp_path / "disc.jpg")
    assert result.alpha is None
    assert result.rgb[:10, :10].min() >= 250
    assert result.rgb[80, 80, 0] >= 250
    assert result.rgb[80, 80, 1:].max() <= 5


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("alpha", [False, True])
def test_grey_stays_grey(bicubic: BicubicRestorer, tmp_path: Path, dtype: type, alpha: bool) -> None:
    plane = noise(24, 31, dtype)[..., :1]
    picture = Picture(np.repeat(plane, 3, axis=2), plane[::-1, :, 0] if alpha else None, grey=True)
    result = saved(PreparedPicture(bicubic, picture, 4, Run()), tmp_path / "grey.png")
    assert result.grey
    assert (result.alpha is not None) == alpha
    assert result.rgb.dtype == dtype


@pytest.mark.parametrize(("suffix", "depth"), [(".png", 16), (".tiff", 16), (".jpg", 8), (".webp", 8)])
def test_16_bits_stay_16_where_the_format_has_them(restorer: PixelRestorer, tmp_path: Path, suffix: str, depth: int) -> None:
    picture = Picture(noise(20, 20, np.uint16))
    result = saved(PreparedPicture(restorer, picture, 4, Run()), tmp_path / f"x{suffix}")
    assert result.depth == depth
    if depth == 16:
        assert len(np.unique(result.rgb % 256)) > 200  # the low bits are in use


def test_the_file_holds_the_network_s_output_rounded(restorer: PixelRestorer, tiny: Network, tmp_path: Path) -> None:
    picture = Picture(noise(40, 33))
    result = saved(PreparedPicture(restorer, picture, 4, Run()), tmp_path / "x.png")
    difference = np.abs(result.rgb.astype(int) - to_samples(tiny(picture.tensor()), 8).astype(int))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-4


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".jpg", ".webp"])
def test_icc_exif_and_settings_are_in_the_file(bicubic: BicubicRestorer, tmp_path: Path, suffix: str) -> None:
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    block = Image.Exif()
    block[0x010F] = "Maker"
    picture = Picture(noise(10, 12), icc=icc, exif=block.tobytes().removeprefix(b"Exif\0\0"))
    settings = {"model": "test", "values": {"pixel": 0.7}, "outscale": 4}
    path = tmp_path / f"x{suffix}"
    PreparedPicture(bicubic, picture, 4, Run()).save(path, Setting(), Run(), settings=settings)
    result = read_picture(path)
    assert result.icc == icc
    assert result.exif is not None
    assert b"Maker" in result.exif
    assert read_settings(path) == result.settings == settings


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (33, 70), (64, 16)])
def test_strips_cover_the_picture(
    bicubic: BicubicRestorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], watch: Callable[..., Run]
) -> None:
    monkeypatch.setattr(module_under_test, "_STRIP", 1)
    prepared, run = PreparedPicture(bicubic, Picture(noise(*size)), 4, Run()), watch()
    strips: list[tuple[int, np.ndarray]] = []
    prepared.save(tmp_path / "x.png", Setting(), run, seen=lambda top, samples: strips.append((top, samples)))
    assert [top for top, _ in strips] == list(range(0, size[0] * 4, 64))
    whole = prepared.render(Setting(), Run(), Layout(size[0] * 4, size[1] * 4, 3, 8))
    assert np.array_equal(np.concatenate([samples for _, samples in strips]), whole)
    assert np.array_equal(read_picture(tmp_path / "x.png").rgb, whole)
    assert run.of("strips") == [(i + 1, len(strips)) for i in range(len(strips))]


@pytest.mark.parametrize("what", ["tiles", "strips"])
def test_cancel_leaves_nothing(
    restorer: PixelRestorer, tmp_path: Path, watch: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(module_under_test, "_STRIP", 1)
    prepared = PreparedPicture(restorer, Picture(noise(40, 40)), 4, Run())
    with pytest.raises(Cancelled):
        prepared.save(tmp_path / "new" / "x.png", Setting(), watch(2, what))
    assert list(tmp_path.rglob("*")) == []


def test_a_region_is_that_part_of_the_whole(restorer: PixelRestorer) -> None:
    picture = replace(disc(), rgb=noise(40, 40))
    prepared = PreparedPicture(restorer, picture, 4, Run())
    layout, box = Layout(160, 160, 4, 8), Box(31, 60, 50, 77)
    whole = prepared.render(Setting({"pixel": 0.6}), Run(), layout)
    assert np.array_equal(prepared.render(Setting({"pixel": 0.6}), Run(), layout, box), whole[box.slices])


def test_rendering_again_runs_no_network(nearest: Callable[[int], nn.Module]) -> None:
    module = nearest(2)
    restorer = PixelRestorer(Network(module, "Nearest", 2, radius=0), replace(INFO, scale=2), Engine(64))
    prepared = PreparedPicture(restorer, Picture(noise(20, 20)), 2, Run())
    assert module.calls == 0
    results = [prepared.render(Setting({"pixel": value}), Run(), Layout(40, 40, 3, 8)) for value in (1.0, 0.3, 0.0, 1.0)]
    assert module.calls == 1
    assert np.array_equal(results[0], results[3])
    assert not np.array_equal(results[0], results[1])
    assert torch.is_grad_enabled()
