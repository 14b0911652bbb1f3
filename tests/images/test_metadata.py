from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, ImageOps

from srgui.errors import OutputError
from srgui.images import Layout, layout_of, read_picture, read_settings, write_picture

ALL = [".png", ".jpg", ".webp", ".tif"]
SETTINGS = {"model": "x4", "pixel": 0.25, "semantic": 1.0, "adapters": [["anime", 0.8]], "prompt": 'süß "日本" 🖼\n', "mask": None}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_orientation_is_applied_once(tmp_path, rgba8, kind, orientation, make):
    data = make.stored_sideways(rgba8[..., :3], kind, orientation)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    picture = make.read(tmp_path, data)
    make.same(picture, expected)
    assert picture.exif is None or 0x0112 not in make.entries(picture.exif)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("channels", [1, 3])
def test_orientation_in_16_bits(tmp_path, rgba16, rgba8, orientation, channels, make):
    with Image.open(io.BytesIO(make.stored_sideways(rgba8[..., :3], "PNG", orientation))) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    tag = [(274, "H", 1, orientation, True)]
    block = Image.Exif()
    block[0x0112] = orientation
    turned = make.chunk(b"eXIf", block.tobytes().removeprefix(b"Exif\0\0"))
    if channels == 3:
        files = [make.tiff(rgba16[..., :3], extratags=tag), make.png(rgba16[..., :3], 16, 2, turned)]
    else:
        files = [make.tiff(rgba16[..., 0], "minisblack", extratags=tag), make.png(rgba16[..., :1], 16, 0, turned)]
    for data in files:
        picture = make.read(tmp_path, data)
        np.testing.assert_array_equal(picture.rgb[..., :channels] >> 8, expected[..., :channels])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_exif_and_icc_are_kept(tmp_path, rgba8, exif, icc, kind, make):
    data = make.pillow(rgba8[..., :3], kind, exif=b"Exif\0\0" + exif, icc_profile=icc)
    picture = make.read(tmp_path, data)
    assert picture.icc == icc
    kept, source = make.entries(picture.exif), make.entries(exif)
    assert 0x0112 not in kept
    assert kept[0x010F] == "Maker"
    assert kept.get_ifd(0x8769) == source.get_ifd(0x8769)
    assert kept.get_ifd(0x8825) == source.get_ifd(0x8825)


def test_exif_and_icc_of_a_16_bit_tiff_are_kept(tmp_path, rgba16, icc, make):
    tags = [(34675, "B", len(icc), icc, True), (315, "s", 0, "Ann", True), (33432, "s", 0, "(c) Ann", True)]
    picture = make.read(tmp_path, make.tiff(rgba16[..., :3], extratags=tags))
    assert picture.icc == icc
    kept = make.entries(picture.exif)
    assert (kept[315], kept[33432]) == ("Ann", "(c) Ann")
    assert 256 not in kept and 273 not in kept  # the size and the strips are the file's, not the picture's


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_bytes_are_not_interpreted(tmp_path, rgba8, order, make):
    """UTF-8 text and a rational of 0/0, neither of which Pillow's writer keeps, in both byte orders."""
    name = "Zoë Ångström".encode() + b"\0"
    start = 8 + 2 + 2 * 12 + 4
    directory = struct.pack(order + "HHHII", 2, 0x011A, 5, 1, start) + struct.pack(order + "HHIII", 315, 2, len(name), start + 8, 0)
    block = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8) + directory + bytes(8) + name
    picture = make.read(tmp_path, make.pillow(rgba8[..., :3], "JPEG", exif=b"Exif\0\0" + block))
    assert picture.exif is not None
    assert name in picture.exif
    assert picture.exif[:2] == block[:2]
    assert 0x011A in make.entries(picture.exif)


def test_the_thumbnail_in_the_exif_is_dropped(tmp_path, rgba8, make):
    thumbnail = make.pillow(rgba8[:8, :8, :3], "JPEG")
    first = struct.pack("<HHHII", 1, 0x010F, 2, 4, int.from_bytes(b"Me!\0", "little")) + struct.pack("<I", 26)
    second = struct.pack("<H", 2) + struct.pack("<HHII", 513, 4, 1, 56) + struct.pack("<HHII", 514, 4, 1, len(thumbnail)) + bytes(4)
    block = b"II*\0" + struct.pack("<I", 8) + first + second + thumbnail
    assert make.entries(block).get_ifd(ExifTags.IFD.IFD1) == {513: 56, 514: len(thumbnail)}
    picture = make.read(tmp_path, make.pillow(rgba8[..., :3], "JPEG", exif=b"Exif\0\0" + block))
    assert make.entries(picture.exif)[0x010F] == "Me!"
    assert make.entries(picture.exif).get_ifd(ExifTags.IFD.IFD1) == {}
    assert picture.exif is not None and thumbnail[:20] not in picture.exif


def test_damaged_exif_costs_its_entries_and_not_the_picture(tmp_path, rgba8, exif, make):
    block = bytearray(exif)
    at = block.index(struct.pack(">H" if exif[:2] == b"MM" else "<H", 0x8825))
    block[at + 8 : at + 12] = b"\x7f\x7f\x7f\x7f"  # the GPS directory lies far behind the end
    data = make.pillow(rgba8[..., :3], "WEBP", lossless=True, exif=b"Exif\0\0" + bytes(block))
    picture = make.read(tmp_path, data)
    assert "damaged EXIF entries left out" in picture.notes
    assert make.entries(picture.exif)[0x010F] == "Maker"
    np.testing.assert_array_equal(picture.rgb, np.rot90(rgba8[..., :3], -1))


def test_exif_entries_that_share_their_bytes_do_not_fill_the_memory(tmp_path, rgba8, make):
    count, shared = 3000, 40_000
    body = b"".join(struct.pack("<HHII", 40000 + i, 7, shared, 100) for i in range(count))
    block = b"II*\0" + struct.pack("<IH", 8, count) + body + bytes(4) + bytes(shared)
    picture = make.read(tmp_path, make.pillow(rgba8[..., :3], "PNG", exif=block))
    assert picture.exif is not None and len(picture.exif) < 2 * len(block)


def test_exif_written_by_imagemagick_is_read(tmp_path, rgba8, exif, make):
    text = f"\nexif\n{len(exif) + 6:8d}\n" + (b"Exif\0\0" + exif).hex()
    extra = make.chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text.encode()))
    picture = make.read(tmp_path, make.png(rgba8[..., :3], 8, 2, extra))
    assert picture.size == (rgba8.shape[1], rgba8.shape[0])
    assert make.entries(picture.exif)[0x010F] == "Maker"


@pytest.mark.parametrize("text", ["[1, 2]", "3", "{broken", "[" * 100_000, "1" * 5000])
def test_text_that_is_not_settings_is_none(tmp_path, rgba8, text, make):
    path = tmp_path / "a.png"
    path.write_bytes(make.png(rgba8[..., :3], 8, 2, make.chunk(b"tEXt", b"srgui\0" + text.encode())))
    assert read_picture(path).settings is None
    assert read_settings(path) is None


def test_another_programs_processing_software_is_kept(tmp_path, rgba8, make):
    block = Image.Exif()
    block[0x000B] = "{}"
    picture = make.read(tmp_path, make.pillow(rgba8[..., :3], "JPEG", exif=block.tobytes()))
    assert picture.settings is None
    assert make.entries(picture.exif)[0x000B] == "{}"


@pytest.mark.parametrize("suffix", ALL)
def test_settings_are_read_back(tmp_path, rgba8, suffix, make):
    path = tmp_path / f"a{suffix}"
    make.save(path, make.fitting(suffix, rgba8), settings=SETTINGS)
    assert read_settings(path) == SETTINGS
    assert read_settings(str(path)) == SETTINGS
    picture = read_picture(path)
    assert picture.settings == SETTINGS
    assert picture.exif is None  # they are not the camera's


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_settings_in_16_bits(tmp_path, rgba16, suffix, depth, make):
    make.save(tmp_path / f"a{suffix}", (rgba16 >> (16 - depth)).astype(f"u{depth // 8}"), settings=SETTINGS)
    assert read_settings(tmp_path / f"a{suffix}") == read_picture(tmp_path / f"a{suffix}").settings == SETTINGS


@pytest.mark.parametrize("suffix", ALL)
def test_a_file_without_settings_has_none(tmp_path, rgba8, suffix, make):
    make.save(tmp_path / f"a{suffix}", make.fitting(suffix, rgba8))
    assert read_settings(tmp_path / f"a{suffix}") is None
    assert read_picture(tmp_path / f"a{suffix}").settings is None


@pytest.mark.parametrize("suffix", ALL)
def test_settings_replace_those_of_the_source_and_are_saved_beside_exif(tmp_path, rgba8, suffix, exif, make):
    make.save(tmp_path / "source.jpg", rgba8[..., :3], settings={"old": 1}, exif=exif)
    source = read_picture(tmp_path / "source.jpg")
    assert source.settings == {"old": 1}
    make.save(tmp_path / f"a{suffix}", make.fitting(suffix, rgba8), settings={"new": 2}, exif=source.exif)
    assert read_settings(tmp_path / f"a{suffix}") == {"new": 2}
    make.save(tmp_path / f"b{suffix}", make.fitting(suffix, rgba8), exif=source.exif)
    assert read_settings(tmp_path / f"b{suffix}") is None


def test_settings_in_a_png_are_plain_text(tmp_path, rgba8, make):
    make.save(tmp_path / "a.png", rgba8, settings=SETTINGS)
    with Image.open(tmp_path / "a.png") as image:
        assert json.loads(image.text["srgui"]) == SETTINGS


@pytest.mark.parametrize("suffix", ALL)
@pytest.mark.parametrize("depth", [8, 16])
def test_exif_and_icc_reach_the_result(tmp_path, rgba16, suffix, depth, exif, icc):
    """Read upright from a turned source, scaled by 2, saved: as another program sees it."""
    source = tmp_path / "source.png"
    Image.fromarray((rgba16[..., :3] >> 8).astype(np.uint8)).save(source, exif=exif, icc_profile=icc)
    picture = read_picture(source)
    height, width = (2 * side for side in picture.size)
    layout = layout_of(suffix, height, width, depth=depth, grey=False, alpha=True)
    samples = np.zeros((height, width, layout.channels), f"u{layout.depth // 8}")
    path = tmp_path / f"a{suffix}"
    write_picture(path, layout, [samples], exif=picture.exif, icc=picture.icc, settings=SETTINGS)
    with Image.open(path) as image:
        found = image.getexif()
        assert image.info["icc_profile"] == icc
        assert found.get(0x0112, 1) == 1
        assert (found[0x010F], found[0x0110]) == ("Maker", "Model 7")
        details = found.get_ifd(0x8769)
        assert (details[0xA002], details[0xA003]) == (width, height)
        assert (details[0x9003], details[0x9286]) == ("2024:05:06 07:08:09", b"ASCII\0\0\0hello")
        assert float(details[0x829A]) == pytest.approx(0.005)
        assert found.get_ifd(0x8825) == {1: "N", 2: (48.0, 51.0, 29.5), 3: "E", 4: (2.0, 17.0, 40.0)}
        assert found.get_ifd(ExifTags.IFD.IFD1) == {}
    again = read_picture(path)
    assert again.icc == icc
    assert again.settings == SETTINGS
    assert again.size == (height, width)


@pytest.mark.parametrize("suffix", ALL)
def test_text_that_is_not_ascii_and_odd_rationals_survive(tmp_path, rgba8, suffix, make):
    artist = "Zoë Ångström".encode() + b"\0"
    start = 8 + 2 + 2 * 12 + 4
    directory = struct.pack(">HHHII", 2, 0x011A, 5, 1, start) + struct.pack(">HHIII", 315, 2, len(artist), start + 8, 0)
    block = b"MM\0*" + struct.pack(">I", 8) + directory + bytes(8) + artist
    data = make.save(tmp_path / f"a{suffix}", make.fitting(suffix, rgba8), exif=block)
    assert artist in data
    picture = read_picture(tmp_path / f"a{suffix}")
    assert picture.exif is not None and artist in picture.exif


@pytest.mark.parametrize("suffix", ALL)
def test_an_interoperability_directory_survives(tmp_path, rgba8, suffix, make):
    block = Image.Exif()
    block[0x8769] = {0x9286: b"ASCII\0\0\0x", 0xA005: {1: "R98", 2: b"0100"}}
    make.save(tmp_path / f"a{suffix}", make.fitting(suffix, rgba8), exif=block.tobytes().removeprefix(b"Exif\0\0"))
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert image.getexif().get_ifd(0xA005)[1] == "R98"


def test_offsets_into_the_file_that_was_read_are_dropped(tmp_path, rgba8, make):
    block = Image.Exif()
    block[0x010F], block[330], block[513], block[514] = "Maker", 1234, 5678, 90
    picture = make.read(tmp_path, make.pillow(rgba8[..., :3], "JPEG", exif=block.tobytes()))
    assert set(make.entries(picture.exif)) == {0x010F}


def test_values_in_the_exif_begin_on_even_bytes(tmp_path, rgba8, make):
    block = Image.Exif()
    block[0x010F], block[0x0110], block[0x0131] = "four", "sixsix", "odd as well"
    picture = make.read(tmp_path, make.pillow(rgba8[..., :3], "JPEG", exif=block.tobytes()))
    order = ">" if picture.exif[:2] == b"MM" else "<"
    places = [struct.unpack_from(order + "I", picture.exif, 10 + 12 * i + 8)[0] for i in range(3)]
    assert len(set(places)) == 3
    assert all(place % 2 == 0 for place in places)


def grey_profile() -> bytes:
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[16:20] = b"GRAY"
    return bytes(profile)


@pytest.mark.parametrize(
    ("suffix", "channels"), [(".png", 3), (".tif", 4), (".webp", 3), (".jpg", 3), (".png", 1), (".tif", 1), (".jpg", 1)]
)
def test_a_profile_is_kept_only_in_a_file_of_its_colour_space(tmp_path, rgba8, icc, suffix, channels, make):
    make.save(tmp_path / f"rgb{suffix}", rgba8[..., :channels], icc=icc)
    make.save(tmp_path / f"grey{suffix}", rgba8[..., :channels], icc=grey_profile())
    assert (read_picture(tmp_path / f"rgb{suffix}").icc == icc) == (channels >= 3)
    assert (read_picture(tmp_path / f"grey{suffix}").icc == grey_profile()) == (channels < 3)


def test_settings_too_long_for_jpeg_are_refused_before_the_work(tmp_path, rgba8, make):
    long = {"prompt": "x" * 70_000}
    asked = []

    def strips() -> Iterator[np.ndarray]:
        asked.append(1)
        yield rgba8[..., :3]

    with pytest.raises(OutputError, match="more than JPEG can hold"):
        write_picture(tmp_path / "a.jpg", Layout(*rgba8.shape[:2], 3, 8), strips(), settings=long)
    assert not asked
    assert make.left(tmp_path) == []
    for suffix in (".png", ".webp", ".tif"):
        make.save(tmp_path / f"a{suffix}", rgba8, settings=long)
        assert read_settings(tmp_path / f"a{suffix}") == long
