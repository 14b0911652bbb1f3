"""The page in a real browser: the main job from a dropped picture to the downloaded file."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srgui.images import read_picture, read_settings, to_samples
from srgui.protocol import Run, Setting, Source
from srgui.restorers import open_restorer

ROOT = Path(__file__).resolve().parents[2]
PHOTO = ROOT / "assets" / "examples" / "coffee.png"


@pytest.fixture(scope="module")
def expected():
    """The library's own result for the photograph, 8 bits."""
    picture = read_picture(PHOTO)
    sr = open_restorer(pair=True).prepare(Source(picture.tensor()), Run()).render(Setting(), Run())
    return to_samples(sr, 8)


def drop(page, *files, target="#pictures button"):
    """Drop files as a person would drag them there."""
    payload = [{"name": f.name, "data": base64.b64encode(f.read_bytes()).decode()} for f in files]
    transfer = page.evaluate_handle(
        """(files) => {
            const transfer = new DataTransfer();
            for (const file of files) {
                const bytes = Uint8Array.from(atob(file.data), (c) => c.charCodeAt(0));
                transfer.items.add(new File([bytes], file.name, { type: 'image/png' }));
            }
            return transfer;
        }""",
        payload,
    )
    for kind in ("dragenter", "dragover", "drop"):
        page.locator(target).first.dispatch_event(kind, {"dataTransfer": transfer})


def upscale(page):
    page.wait_for_selector("#start:enabled", timeout=30_000)
    page.click("#start")
    page.wait_for_selector("#download:visible", timeout=120_000)


def settle(page):
    """Wait until every tile the viewer asked for is drawn."""
    page.wait_for_function("() => { const v = document.querySelector('.sv').viewer; return v.cache.settled && !v.pending; }")


def canvas(page):
    """The viewer's pixels, (H, W, 4) uint8."""
    data, width, height = page.evaluate(
        """() => {
            const c = document.querySelector('.sv canvas');
            const bytes = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
            let text = '';
            for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
            return [btoa(text), c.width, c.height];
        }"""
    )
    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)


def test_the_main_job(page, expected, tmp_path):
    drop(page, PHOTO)
    page.wait_for_selector("text=960 × 740")
    upscale(page)
    with page.expect_download() as download:
        page.click("#download")
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    assert path.name == "coffee_x4.png"
    np.testing.assert_array_equal(np.asarray(Image.open(path)), expected)
    assert read_settings(path)["outscale"] == 4


def test_what_is_shown_at_full_size_is_what_was_computed(page, expected):
    drop(page, PHOTO)
    upscale(page)
    page.locator(".sv-stage").focus()
    page.keyboard.press("1")
    page.keyboard.press("Home")
    page.wait_for_function("() => document.querySelector('.sv').viewer.split === 0")
    settle(page)
    x, y = page.evaluate("() => { const v = document.querySelector('.sv').viewer; return [v.x, v.y]; }")
    shown = canvas(page)
    top, left = max(0, -y), max(0, -x)
    height = min(shown.shape[0] - max(0, y), expected.shape[0] - top)
    width = min(shown.shape[1] - max(0, x), expected.shape[1] - left)
    assert height > 300
    assert width > 500
    part = shown[max(0, y) : max(0, y) + height, max(0, x) : max(0, x) + width, :3]
    np.testing.assert_array_equal(part, expected[top : top + height, left : left + width])


def test_the_divider_separates_original_and_result(page):
    drop(page, PHOTO)
    upscale(page)
    page.locator(".sv-stage").focus()
    page.keyboard.press("1")
    settle(page)
    middle = canvas(page)
    handle = page.locator(".sv-divider span")
    box = handle.bounding_box()
    page.mouse.move(box["x"] + 14, box["y"] + 14)
    page.mouse.down()
    page.mouse.move(box["x"] + 214, box["y"] + 14, steps=5)
    page.mouse.up()
    settle(page)
    moved = canvas(page)
    at = middle.shape[1] // 2
    np.testing.assert_array_equal(moved[:, : at - 20], middle[:, : at - 20])
    assert (moved[:, at + 20 : at + 180] != middle[:, at + 20 : at + 180]).any()
    np.testing.assert_array_equal(moved[:, at + 240 :], middle[:, at + 240 :])


def test_keyboard_alone_moves_zooms_and_switches(page):
    drop(page, PHOTO)
    upscale(page)
    stage = page.locator(".sv-stage")
    stage.focus()
    state = """() => {
        const { zoom, x, y, split, mode } = document.querySelector('.sv').viewer;
        return { zoom, x, y, split, mode };
    }"""
    page.keyboard.press("1")
    full = page.evaluate(state)
    assert full["zoom"] == 1
    page.keyboard.press("+")
    page.keyboard.press("+")
    assert page.evaluate(state)["zoom"] == 2
    before = page.evaluate(state)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    after = page.evaluate(state)
    assert (after["x"], after["y"]) != (before["x"], before["y"])
    page.keyboard.press("s")
    assert page.evaluate(state)["mode"] == "side"
    page.keyboard.press("s")
    page.wait_for_selector(".sv[data-mode=split] .sv-divider:visible")
    page.locator(".sv-divider").focus()
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(state)["split"] == pytest.approx(0.48)
    page.wait_for_selector(".sv-divider[aria-valuenow='48']")
    page.keyboard.press("0")
    assert page.evaluate("() => document.querySelector('.sv').viewer.fitted")


def test_zoomed_out_views_show_the_whole_picture(page, expected):
    drop(page, PHOTO)
    upscale(page)
    page.locator(".sv-stage").focus()
    page.keyboard.press("Home")
    for _ in range(4):
        page.keyboard.press("-")
    settle(page)
    view = page.evaluate("() => { const v = document.querySelector('.sv').viewer; return [v.x, v.y, v.zoom]; }")
    height, width = round(expected.shape[0] * view[2]), round(expected.shape[1] * view[2])
    assert height < expected.shape[0] / 2
    shown = canvas(page)[view[1] : view[1] + height, view[0] : view[0] + width, :3]
    small = np.asarray(Image.fromarray(expected).resize((shown.shape[1], shown.shape[0]), Image.Resampling.BOX))
    assert np.abs(shown.astype(float) - small).mean() < 6


def test_several_pictures_and_one_that_is_broken(page, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_text("this is not a picture")
    small = tmp_path / "small.png"
    Image.open(PHOTO).resize((40, 30)).save(small)
    drop(page, small, broken, PHOTO)
    page.wait_for_selector("#problem p")
    assert "broken.png" in page.inner_text("#problem")
    upscale(page)
    table = page.inner_text("#measured")
    assert "broken.png" in table
    assert "is not a picture" in table
    assert "2 of 3 done" in page.inner_text("#status")
    assert page.locator(".sv-strip button").count() == 2
    assert "2 files" in page.inner_text("#download")


def test_metrics_against_a_reference_made_by_the_page(page, open_group):
    drop(page, PHOTO)
    open_group(page, "Measure against a reference")
    page.get_by_label("My picture is the HR: shrink it first").click()
    page.wait_for_selector("#degradation:visible")
    page.uncheck("#pair input")
    upscale(page)
    table = page.inner_text("#measured")
    ours, bicubic = (float(x) for x in re.findall(r"([\d.]+) dB", table)[:2])
    assert ours > bicubic + 1
    assert "4 pixels cropped" in table
    assert "LPIPS" in table


def test_a_reference_of_another_size_is_refused_with_the_size_it_should_have(page, open_group):
    drop(page, PHOTO)
    open_group(page, "Measure against a reference")
    page.get_by_label("I also have the HR picture").click()
    page.wait_for_selector("#hr button:visible")
    with page.expect_response("**/upload**"):
        page.set_input_files("#hr input[type=file]", PHOTO)
    page.wait_for_selector("#hr a:visible")
    page.click("#start")
    page.wait_for_selector("#measured >> text=must be 960 x 740")


def test_a_picture_dropped_on_the_viewer_takes_the_place_of_the_one_before(page):
    drop(page, ROOT / "assets" / "examples" / "cat.png")
    page.wait_for_selector("text=720 × 560")
    drop(page, PHOTO, target=".sv-stage")
    page.wait_for_selector("text=960 × 740")
    assert "cat" not in page.inner_text("#pictures")


def test_pasting_a_picture(page):
    data = base64.b64encode(PHOTO.read_bytes()).decode()
    page.evaluate(
        """(data) => {
            const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
            const clipboardData = new DataTransfer();
            clipboardData.items.add(new File([bytes], 'pasted.png', { type: 'image/png' }));
            document.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true }));
        }""",
        data,
    )
    page.wait_for_selector("#pictures >> text=pasted")
    page.wait_for_selector("text=960 × 740")


def test_an_example_is_upscaled_and_progress_shows_at_once(page):
    page.locator("#examples img").first.click()
    page.wait_for_selector("#start:enabled")
    page.click("#start")
    page.wait_for_selector("#status progress", timeout=5_000)
    page.wait_for_selector("#download:visible", timeout=60_000)
    page.wait_for_selector("#start:enabled")


def test_cancel_stops_and_leaves_nothing_to_download(page, tmp_path):
    large = tmp_path / "large.png"
    Image.open(PHOTO).resize((1500, 1200)).save(large)
    drop(page, large)
    page.wait_for_selector("#start:enabled")
    page.click("#start")
    page.wait_for_selector("#status >> text=tile")
    page.click("#cancel")
    page.wait_for_selector("#status >> text=Cancelled.", timeout=60_000)
    assert not page.is_visible("#download")
    page.wait_for_selector("#start:enabled")


def test_two_visitors_do_not_see_each_other(page, browser, server):
    drop(page, PHOTO)
    upscale(page)
    mine = page.evaluate("() => document.querySelector('.sv').viewer.item.id")
    other = browser.new_context().new_page()
    other.goto(server)
    other.wait_for_selector("#pictures", timeout=60_000)
    assert other.evaluate("() => document.querySelector('.sv').viewer.items.length") == 0
    assert mine not in other.content()
    other.close()


def test_the_page_answers_gradio_client(server, expected):
    from gradio_client import Client, handle_file

    client = Client(server, verbose=False)
    _, status, _, download = client.predict(
        [handle_file(str(PHOTO))], "srgui-compact-x4", "4", "none", None, "bicubic", "png", 95, 0, "auto", [], api_name="/upscale"
    )
    assert "Done" in json.dumps(status)
    path = download["value"] if isinstance(download, dict) else download
    np.testing.assert_array_equal(np.asarray(Image.open(path)), expected)


def test_light_and_dark(page):
    page.click("#look")
    dark = page.evaluate("() => document.body.classList.contains('dark')")
    page.reload()
    page.wait_for_selector("body[data-srgui=ready] #pictures", timeout=60_000)
    assert page.evaluate("() => document.body.classList.contains('dark')") == dark
    page.click("#look")
    assert page.evaluate("() => document.body.classList.contains('dark')") != dark
