from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from srgui.errors import ModelError, OutputError
from srgui.images import (
    FORMATS,
    Layout,
    check_output,
    encode_png,
    layout_of,
    read_picture,
    suffix_of,
    to_samples,
    to_tensor,
    write_picture,
)

ALL = [".png", ".jpg", ".webp", ".tif"]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("depth", [8, 16])
def test_png_is_read_alike_by_us_pillow_and_opencv(tmp_path, rgba16, depth, channels, capfd, make):
    samples = (rgba16 >> (16 - depth)).astype(f"u{depth // 8}")[..., {1: [0], 2: [0, 3], 3: [0, 1, 2], 4: [0, 1, 2, 3]}[channels]]
    data = make.save(tmp_path / "a.png", samples)
    picture = read_picture(tmp_path / "a.png")
    np.testing.assert_array_equal(picture.rgb[..., 0], samples[..., 0])
    np.testing.assert_array_equal(picture.rgb[..., 2], samples[..., 2 if channels > 2 else 0])
    assert (picture.grey, picture.depth, picture.alpha is not None) == (channels < 3, depth, channels in (2, 4))
    if picture.alpha is not None:
        np.testing.assert_array_equal(picture.alpha, samples[..., -1])
    expected = samples[..., [0, 0, 0, 1]] if channels == 2 else samples
    np.testing.assert_array_equal(make.with_opencv(data), expected)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        if depth == 8 or channels == 1:
            np.testing.assert_array_equal(np.asarray(image).reshape(samples.shape), samples)
        else:  # Pillow has 16 bits for grey only
            np.testing.assert_array_equal(np.asarray(image), expected >> 8)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("order", ["II", "MM"])
def test_tiff_is_read_alike_by_us_pillow_opencv_and_tifffile(tmp_path, rgba16, depth, channels, order, capfd, make):
    samples = (rgba16 >> (16 - depth)).astype(f"u{depth // 8}")[..., :channels]
    block = {"II": b"II*\0\x08\0\0\0\0\0\0\0\0\0", "MM": b"MM\0*\0\0\0\x08\0\0\0\0\0\0"}[order]
    data = make.save(tmp_path / "a.tif", samples, exif=block)
    assert data[:2] == order.encode()
    picture = read_picture(tmp_path / "a.tif")
    np.testing.assert_array_equal(picture.rgb[..., : min(3, channels)], samples[..., :3])
    assert (picture.grey, picture.depth, picture.alpha is not None) == (channels == 1, depth, channels == 4)
    colours = 1 if (depth, channels) == (8, 4) else channels  # OpenCV multiplies 8-bit colours with alpha in reading
    np.testing.assert_array_equal(make.with_opencv(data)[..., -colours:], samples[..., -colours:])
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        np.testing.assert_array_equal(file.asarray().reshape(samples.shape), samples)
        assert file.pages[0].extrasamples == ((tifffile.EXTRASAMPLE.UNASSALPHA,) if channels == 4 else ())
    if depth == 8:
        with Image.open(io.BytesIO(data)) as image:
            np.testing.assert_array_equal(np.asarray(image).reshape(samples.shape), samples)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("channels", [3, 4])
def test_webp_at_quality_100_is_lossless(tmp_path, rgba8, channels, make):
    make.save(tmp_path / "a.webp", rgba8[..., :channels], quality=100)
    picture = read_picture(tmp_path / "a.webp")
    np.testing.assert_array_equal(picture.rgb, rgba8[..., :3])
    if channels == 4:
        np.testing.assert_array_equal(picture.alpha, rgba8[..., 3])


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
@pytest.mark.parametrize("grey", [False, True])
def test_lossy_formats_are_close_and_closer_at_a_higher_quality(tmp_path, suffix, grey, make):
    down, across = np.mgrid[0:64, 0:64]
    image = np.stack([down * 3, across * 3, 255 - down - across], axis=2).astype(np.uint8)
    image[::7, ::5] = 255
    image = image[..., :1] if grey and suffix == ".jpg" else image
    sizes, errors = [], []
    for quality in (40, 95):
        sizes.append(len(make.save(tmp_path / f"{quality}{suffix}", image, quality=quality)))
        picture = read_picture(tmp_path / f"{quality}{suffix}")
        assert picture.grey == (image.shape[2] == 1)
        errors.append(np.abs(picture.rgb[..., : image.shape[2]].astype(float) - image).mean())
    assert errors[1] < errors[0] and errors[1] < 6
    assert sizes[1] > sizes[0]


@pytest.mark.parametrize("size", [(1, 1), (5000, 1), (1, 5000)])
@pytest.mark.parametrize("suffix", ALL)
def test_thin_pictures(tmp_path, suffix, size, make):
    samples = np.full((*size, 3), 200, np.uint8)
    make.save(tmp_path / f"a{suffix}", samples, height=700, settings={"pixel": 0.5})
    picture = read_picture(tmp_path / f"a{suffix}")
    assert np.abs(picture.rgb.astype(int) - samples).max() <= 1
    assert picture.settings == {"pixel": 0.5}


@pytest.mark.parametrize(("suffix", "depth"), [(".png", 8), (".png", 16), (".tif", 8), (".tif", 16), (".jpg", 8), (".webp", 8)])
def test_the_file_does_not_depend_on_the_strips(tmp_path, suffix, depth, make):
    shape = (500, 400, 3)
    row = np.random.default_rng(0).integers(0, 65536, shape[1:])
    samples = (row + 900 * np.arange(shape[0])[:, None, None]).astype(np.uint16)  # best predicted from the row above
    samples = samples if depth == 16 else (samples >> 8).astype(np.uint8)
    whole = make.save(tmp_path / f"whole{suffix}", samples, height=500)
    for height in (1, 64, 137):
        assert make.save(tmp_path / f"{height}{suffix}", samples, height=height) == whole
    uneven = [samples[:3], samples[3:3], samples[3:250], samples[250:]]
    write_picture(tmp_path / f"uneven{suffix}", Layout(*shape, samples.dtype.itemsize * 8), iter(uneven))
    assert (tmp_path / f"uneven{suffix}").read_bytes() == whole
    if suffix in (".png", ".tif"):
        np.testing.assert_array_equal(read_picture(tmp_path / f"1{suffix}").rgb, samples)
        np.testing.assert_array_equal(make.with_opencv(whole), samples)


def test_strips_that_are_views_are_written_as_they_look(tmp_path, rgba8, make):
    planes = np.ascontiguousarray(np.moveaxis(rgba8, 2, 0))
    view = np.moveaxis(planes, 0, 2)[::-1]
    for suffix in (".png", ".tif"):
        make.save(tmp_path / f"a{suffix}", view)
        np.testing.assert_array_equal(read_picture(tmp_path / f"a{suffix}").rgb, rgba8[::-1, :, :3])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_encode_png(rgba16, dtype, channels, icc, make):
    samples = (rgba16 >> (0 if dtype == np.uint16 else 8)).astype(dtype)[..., :channels]
    data = encode_png(samples, icc)
    expected = samples[..., [0, 0, 0, 1]] if channels == 2 else samples
    np.testing.assert_array_equal(make.with_opencv(data), expected)
    assert Image.open(io.BytesIO(data)).info["icc_profile"] == icc


@pytest.mark.parametrize("depth", [8, 16])
def test_every_sample_survives_the_tensor(depth):
    samples = np.arange(2**depth, dtype=f"u{depth // 8}").reshape(1, -1, 4)
    image = to_tensor(samples)
    assert image.shape == (1, 4, 1, 2**depth // 4)
    assert image.dtype == torch.float32
    assert (image.min(), image.max()) == (0, 1)
    back = to_samples(image, depth)
    assert back.dtype == samples.dtype
    np.testing.assert_array_equal(back, samples)


@pytest.mark.parametrize("depth", [8, 16])
def test_rounding_is_half_to_even_and_clips(depth):
    top = 2**depth - 1
    halves = ((np.arange(top) + 0.5) / top).astype(np.float32)
    exact = halves * np.float32(top) == np.arange(top) + 0.5
    even = np.arange(top)[exact] % 2 == 0
    assert even.sum() > 20 and (~even).sum() > 20
    samples = to_samples(torch.from_numpy(halves[exact])[None, None, None], depth)[0, :, 0]
    np.testing.assert_array_equal(samples, np.where(even, np.arange(top)[exact], np.arange(top)[exact] + 1))
    beyond = torch.tensor([-torch.inf, -0.3, -1e-9, 1 + 1e-6, 7.0, torch.inf])[None, None, None]
    assert to_samples(beyond, depth)[0, :, 0].tolist() == [0, 0, 0, top, top, top]


def test_to_samples_leaves_its_argument_alone_and_takes_half_precision():
    image = torch.tensor([[[[-1.0, 0.25, 2.0]]]])
    before = image.clone()
    assert to_samples(image, 8)[0, :, 0].tolist() == [0, 64, 255]
    assert torch.equal(image, before)
    assert to_samples(image.bfloat16(), 16)[0, :, 0].tolist() == [0, 16384, 65535]


def test_a_result_of_nan_is_refused():
    with pytest.raises(ModelError, match="NaN"):
        to_samples(torch.tensor([[[[0.5, torch.nan]]]]), 8)


def test_grey_and_depth_of_a_picture(tmp_path, rgba16, make):
    make.save(tmp_path / "a.png", rgba16[..., :1])
    picture = read_picture(tmp_path / "a.png")
    assert picture.size == rgba16.shape[:2]
    assert picture.tensor().shape == (1, 3, *rgba16.shape[:2])
    np.testing.assert_array_equal(picture.as_uint8()[..., 1], np.rint(rgba16[..., 0] / 257))


@pytest.mark.parametrize(
    ("suffix", "grey", "alpha", "channels", "depth"),
    [
        (".png", True, False, 1, 16),
        (".png", True, True, 2, 16),
        (".png", False, True, 4, 16),
        (".jpg", True, True, 1, 8),
        (".jpeg", False, True, 3, 8),
        (".webp", True, False, 3, 8),
        (".webp", False, True, 4, 8),
        (".tif", True, False, 1, 16),
        (".tiff", True, True, 4, 16),
    ],
)
def test_layout_of(suffix, grey, alpha, channels, depth):
    assert layout_of(suffix, 3, 4, depth=16, grey=grey, alpha=alpha) == Layout(3, 4, channels, depth)
    assert layout_of(suffix, 3, 4, depth=8, grey=grey, alpha=alpha) == Layout(3, 4, channels, 8)


def test_suffix_of():
    assert [suffix_of(Path(f"a{suffix.upper()}")) for suffix in FORMATS] == list(FORMATS)
    for name in ("a.bmp", "a", "a.gif", ".png"):
        with pytest.raises(OutputError, match="cannot be written"):
            suffix_of(Path(name))


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("a.jpg", Layout(18, 27, 4, 8)),
        ("a.jpg", Layout(18, 27, 3, 16)),
        ("a.webp", Layout(18, 27, 1, 8)),
        ("a.tif", Layout(18, 27, 2, 8)),
        ("a.png", Layout(19, 27, 3, 8)),
        ("a.png", Layout(17, 27, 3, 8)),
        ("a.png", Layout(18, 26, 3, 8)),
        ("a.png", Layout(18, 27, 3, 16)),
        ("a.png", Layout(18, 27, 1, 8)),
    ],
)
def test_strips_or_layouts_that_do_not_fit_leave_nothing(tmp_path, rgba8, name, layout, make):
    with pytest.raises(ValueError, match=r"fit|rows"):
        write_picture(tmp_path / name, layout, [rgba8[:9, :, :3], rgba8[9:, :, :3]])
    assert make.left(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "layout", "message"),
    [
        ("a.jpg", Layout(1, 65536, 3, 8), "JPEG"),
        ("a.webp", Layout(16384, 1, 3, 8), "WEBP"),
        ("a.tif", Layout(40_000, 40_000, 3, 8), "4 GiB"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_before_the_work(tmp_path, name, layout, message, make):
    with pytest.raises(OutputError, match=message):
        write_picture(tmp_path / name, layout, iter([]))
    assert make.left(tmp_path) == []


def test_paths_with_spaces_and_unicode_in_a_folder_that_is_new(tmp_path, rgba8, make):
    path = tmp_path / "new folder" / "日本 ü" / ("🖼" * 62 + ".png")  # 252 bytes, near the limit of 255
    check_output(path, overwrite=False)
    assert make.left(tmp_path) == []
    make.save(path, rgba8)
    assert make.left(path.parent) == [path.name]
    np.testing.assert_array_equal(read_picture(path).rgb, rgba8[..., :3])
