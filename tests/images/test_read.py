from __future__ import annotations

import io
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from srgui.errors import InputError
from srgui.images import SUFFIXES, list_pictures, read_picture

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "real_lr"


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_grey_png(tmp_path, rgba16, bits, keyed, interlaced, make):
    values = rgba16[..., :1] >> (16 - bits)
    key = int(values[3, 5, 0])
    extra = make.chunk(b"tRNS", struct.pack(">H", key)) if keyed else b""
    full = (values * (1 if bits >= 8 else 255 // (2**bits - 1))).astype(np.uint16 if bits == 16 else np.uint8)
    alpha = np.where(values[..., 0] == key, 0, np.iinfo(full.dtype).max).astype(full.dtype)
    make.same(
        make.read(tmp_path, make.png(values, bits, 0, extra, interlaced)), make.three(full), alpha if keyed else None, grey=True
    )


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("colour", [4, 2, 6])
@pytest.mark.parametrize("bits", [8, 16])
def test_png_of_several_channels(tmp_path, rgba16, bits, colour, interlaced, make):
    values = (rgba16 >> (16 - bits)).astype(f"u{bits // 8}")[..., {4: (0, 3), 2: (0, 1, 2), 6: (0, 1, 2, 3)}[colour]]
    picture = make.read(tmp_path, make.png(values, bits, colour, interlaced=interlaced))
    alpha = None if colour == 2 else values[..., -1]
    make.same(picture, make.three(values[..., :1]) if colour == 4 else values[..., :3], alpha, grey=colour == 4)
    assert picture.depth == bits


@pytest.mark.parametrize("bits", [8, 16])
def test_rgb_png_with_a_colour_key(tmp_path, rgba16, bits, make):
    values = (rgba16[..., :3] >> (16 - bits)).astype(f"u{bits // 8}")
    values[7, 3] = values[2, 4]
    near = values[2, 4].copy()
    near[2] ^= 1  # differs from the key in the lowest bit of one channel, which a comparison on 8 of 16 bits would miss
    values[8, 8] = near
    extra = make.chunk(b"tRNS", struct.pack(">HHH", *(int(v) for v in values[2, 4])))
    clear = (values == values[2, 4]).all(axis=2)
    assert clear[7, 3] and not clear[8, 8]
    make.same(make.read(tmp_path, make.png(values, bits, 2, extra)), values, np.where(clear, 0, 2**bits - 1).astype(values.dtype))


@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_png(tmp_path, rgba16, bits, transparent, make):
    indices = rgba16[..., :1] >> (16 - bits)
    palette = np.random.default_rng(1).integers(0, 256, (2**bits, 3), dtype=np.uint8)
    opacity = np.full(2**bits, 255, np.uint8)
    opacity[:2] = 0, 100
    extra = make.chunk(b"PLTE", palette.tobytes()) + (make.chunk(b"tRNS", opacity[:2].tobytes()) if transparent else b"")
    picture = make.read(tmp_path, make.png(indices, bits, 3, extra))
    make.same(picture, palette[indices[..., 0]], opacity[indices[..., 0]] if transparent else None)


@pytest.mark.parametrize("size", [(1, 1), (5000, 1), (1, 5000)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF"])
def test_thin_pictures(tmp_path, kind, size, make):
    assert make.read(tmp_path, make.pillow(np.full((*size, 3), 128, np.uint8), kind)).size == size


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_thin_16_bit_png(tmp_path, channels, make):
    values = np.arange(5000 * channels, dtype=np.uint16).reshape(1, 5000, channels)
    picture = make.read(tmp_path, make.png(values, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels]))
    np.testing.assert_array_equal(picture.rgb[..., 0], values[..., 0])


@pytest.mark.parametrize("grey", [False, True])
def test_jpeg(tmp_path, rgba8, grey, make):
    data = make.pillow(rgba8[..., 0] if grey else rgba8[..., :3], "JPEG", quality=90)
    expected = np.asarray(Image.open(io.BytesIO(data)))
    make.same(make.read(tmp_path, data), make.three(expected) if grey else expected, grey=grey)


def cmyk_profile() -> bytes:
    """An ICC profile in which every ink but black is red, which no formula without the profile gives."""
    white, red, black = (255, 128, 128), (136, 209, 195), (0, 128, 128)  # Lab
    nodes = [white, black, *[red, black] * 7]
    ramps = bytes(range(256))
    curves = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    a2b = curves + ramps * 4 + b"".join(map(bytes, nodes)) + ramps * 3
    head = bytearray(128)
    struct.pack_into(">I", head, 0, 128 + 16 + len(a2b))
    head[8:24] = b"\x02\x10\0\0prtrCMYKLab "
    head[36:40] = b"acsp"
    struct.pack_into(">3i", head, 68, 63190, 65536, 54061)
    return bytes(head) + struct.pack(">I4sII", 1, b"A2B0", 144, len(a2b)) + a2b


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_is_converted_through_its_profile_where_there_is_one(tmp_path, kind, make):
    inks = Image.fromarray(np.array([[[0, 0, 0, 0], [255, 0, 0, 0]]], np.uint8).repeat(8, axis=0).repeat(8, axis=1), "CMYK")
    plain = make.read(tmp_path, make.pillow(inks, kind))
    profiled = make.read(tmp_path, make.pillow(inks, kind, icc_profile=cmyk_profile()))
    broken = make.read(tmp_path, make.pillow(inks, kind, icc_profile=b"no profile" * 20))
    assert plain.rgb[4, 2].tolist() == profiled.rgb[4, 2].tolist() == [255, 255, 255]
    assert plain.rgb[4, 13].tolist() == broken.rgb[4, 13].tolist() == [0, 255, 255]
    red, green, blue = (int(v) for v in profiled.rgb[4, 13])
    assert red > 200 and green < 60 and blue < 60
    for picture in (plain, profiled, broken):
        assert picture.icc is None
        assert picture.notes == ("CMYK converted to sRGB",)


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("channels", [3, 4])
def test_webp(tmp_path, rgba8, channels, lossless, make):
    data = make.pillow(rgba8[..., :channels], "WEBP", lossless=lossless, exact=True)
    expected = np.asarray(Image.open(io.BytesIO(data)))
    make.same(make.read(tmp_path, data), expected[..., :3], expected[..., 3] if channels == 4 else None)
    if lossless:
        np.testing.assert_array_equal(expected, rgba8[..., :channels])


@pytest.mark.parametrize("kind", ["WEBP", "GIF", "PNG", "TIFF"])
def test_of_several_frames_the_first_is_read_and_said_so(tmp_path, rgba8, kind, make):
    frames = [Image.fromarray(np.roll(rgba8[..., :3], 5 * i, axis=0)).convert("P" if kind == "GIF" else "RGB") for i in range(3)]
    lossless = {"lossless": True} if kind == "WEBP" else {}
    data = make.pillow(frames[0], kind, save_all=True, append_images=frames[1:], **lossless)
    picture = make.read(tmp_path, data)
    np.testing.assert_array_equal(picture.rgb, np.asarray(frames[0].convert("RGB")))
    assert picture.notes == ("first of 3 frames",)


def test_transparent_gif(tmp_path, make):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8).repeat(4, axis=0), "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    picture = make.read(tmp_path, make.pillow(image, "GIF", transparency=1))
    assert picture.alpha is not None
    assert picture.alpha[0].tolist() == [255, 0, 255]
    assert picture.rgb[0, [0, 2]].tolist() == [[255, 0, 0], [0, 0, 255]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_bmp(tmp_path, rgba8, mode, make):
    image = Image.fromarray(rgba8[..., :3]).convert(mode)
    make.same(make.read(tmp_path, make.pillow(image, "BMP")), np.asarray(image.convert("RGB")), grey=mode in ("1", "L"))


def test_bmp_with_alpha(tmp_path, rgba8, make):
    ok, data = cv2.imencode(".bmp", rgba8[..., [2, 1, 0, 3]])
    assert ok
    make.same(make.read(tmp_path, data.tobytes()), rgba8[..., :3], rgba8[..., 3])


@pytest.mark.parametrize(
    "options", [{}, {"byteorder": ">"}, {"tile": (16, 16)}, {"compression": "zlib", "predictor": True}, {"bigtiff": True}]
)
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("bits", [8, 16])
def test_tiff(tmp_path, rgba16, bits, channels, options, make):
    values = (rgba16 >> (16 - bits)).astype(f"u{bits // 8}")[..., :channels]
    extra = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    if channels == 1:
        picture = make.read(tmp_path, make.tiff(values[..., 0], "minisblack", **options))
        make.same(picture, make.three(values), grey=True)
    else:
        picture = make.read(tmp_path, make.tiff(values, **extra, **options))
        make.same(picture, values[..., :3], values[..., 3] if channels == 4 else None)


@pytest.mark.parametrize("compression", [1, 5, 8, 32773])  # none, LZW, deflate, PackBits
@pytest.mark.parametrize("bits", [8, 16])
def test_tiff_compressions(tmp_path, rgba16, bits, compression, make):
    values = np.ascontiguousarray((rgba16[..., :3] >> (16 - bits)).astype(f"u{bits // 8}"))
    ok, data = cv2.imencode(".tif", values[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, compression])
    assert ok
    make.same(make.read(tmp_path, data.tobytes()), values)


def test_tiff_modes_of_8_bits(tmp_path, rgba8, make):
    la = np.ascontiguousarray(rgba8[..., (0, 3)])
    make.same(
        make.read(tmp_path, make.tiff(la, "minisblack", extrasamples=["unassalpha"])),
        make.three(rgba8[..., 0]),
        rgba8[..., 3],
        grey=True,
    )
    make.same(make.read(tmp_path, make.tiff(255 - rgba8[..., 0], "miniswhite")), make.three(rgba8[..., 0]), grey=True)
    make.same(make.read(tmp_path, make.tiff(np.moveaxis(rgba8[..., :3], 2, 0).copy(), planarconfig="separate")), rgba8[..., :3])
    bilevel = rgba8[..., 0] > 99
    make.same(
        make.read(tmp_path, make.pillow(bilevel, "TIFF", compression="group4")), make.three(bilevel * np.uint8(255)), grey=True
    )
    palette = Image.fromarray(rgba8[..., :3]).convert("P")
    make.same(make.read(tmp_path, make.pillow(palette, "TIFF")), np.asarray(palette.convert("RGB")))


def test_white_is_zero_in_16_bits(tmp_path, rgba16, make):
    make.same(make.read(tmp_path, make.tiff(65535 - rgba16[..., 0], "miniswhite")), make.three(rgba16[..., 0]), grey=True)


def test_premultiplied_16_bit_alpha_is_divided_out(tmp_path, rgba16, make):
    alpha = rgba16[..., 3:].astype(np.float64)
    stored = np.rint(rgba16[..., :3] * alpha / 65535).astype(np.uint16)
    picture = make.read(tmp_path, make.tiff(np.concatenate([stored, rgba16[..., 3:]], axis=2), extrasamples=["assocalpha"]))
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha, rgba16[..., 3])
    assert np.abs(picture.rgb.astype(int) - rgba16[..., :3]).max() <= np.ceil(0.5 * 65535 / alpha.min())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("grey", [False, True])
def test_float_tiff_becomes_16_bits(tmp_path, rgba16, dtype, grey, make):
    values = rgba16[..., 0] if grey else rgba16[..., :3]
    picture = make.read(tmp_path, make.tiff((values / 65535).astype(dtype), "minisblack" if grey else "rgb"))
    make.same(picture, make.three(values) if grey else values, grey=grey)
    assert picture.notes == ("float TIFF converted to 16 bits",)


def test_float_tiff_is_clipped_within_reason_and_refused_beyond(tmp_path, make):
    values = np.array([[-0.25, 0.0, 0.5, 1.0, 1.25]], np.float32)
    assert make.read(tmp_path, make.tiff(values, "minisblack")).rgb[0, :, 0].tolist() == [0, 0, 32768, 65535, 65535]
    assert "scale them to [0, 1]" in make.refusal(tmp_path, make.tiff(values * 255, "minisblack"))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_float_tiff_with_nan_or_inf_is_refused(tmp_path, bad, make):
    values = np.full((6, 7, 3), 0.5, np.float32)
    values[2, 3, 1] = values[4, 4, 0] = bad
    assert "2 samples are NaN or Inf" in make.refusal(tmp_path, make.tiff(values))


def test_unsupported_kinds_of_tiff_are_named(tmp_path, rgba16, make):
    grey, la = rgba16[..., 0], rgba16[..., :2].copy()
    assert "16-bit grey TIFF of 2 channels" in make.refusal(tmp_path, make.tiff(la, "minisblack", extrasamples=["unassalpha"]))
    assert "16-bit CMYK" in make.refusal(tmp_path, make.tiff(rgba16, "separated"))
    assert "separate colour planes" in make.refusal(
        tmp_path, make.tiff(np.moveaxis(rgba16[..., :3], 2, 0).copy(), planarconfig="separate")
    )
    assert "16-bit signed" in make.refusal(tmp_path, make.tiff(grey.astype(np.int16), "minisblack"))
    assert "32-bit integer" in make.refusal(tmp_path, make.tiff(grey.astype(np.uint32), "minisblack"))
    assert "16-bit float" in make.refusal(tmp_path, make.tiff((grey / 65535).astype(np.float16), "minisblack"))


def test_list_pictures(tmp_path):
    for name in ("b.PNG", "a.jpeg", "c.txt", "d.tiff", "noext"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_pictures(tmp_path)] == ["a.jpeg", "b.PNG", "d.tiff"]
    with pytest.raises(InputError, match="holds no picture"):
        list_pictures(tmp_path / "folder.png")
    with pytest.raises(InputError, match="not a folder"):
        list_pictures(tmp_path / "c.txt")


@pytest.mark.skipif(not REAL.is_dir(), reason="the real pictures are not on this machine")
def test_real_pictures():
    paths = [path for path in REAL.iterdir() if path.suffix in SUFFIXES] if REAL.is_dir() else []
    assert paths
    for path in paths:
        picture = read_picture(path)
        with Image.open(path) as image:
            assert picture.size == (image.height, image.width)
            assert picture.grey == (image.mode in ("L", "LA", "I;16"))
            assert (picture.alpha is not None) == ("A" in image.mode)
            if picture.depth == 8:
                np.testing.assert_array_equal(picture.rgb, np.asarray(image.convert("RGB")))
        assert picture.depth == (16 if "16bit" in path.name else 8)
