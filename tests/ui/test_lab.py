"""The Lab in a browser."""

from __future__ import annotations

import pytest

from srgui.images import read_picture
from srgui.places import ASSETS

VIEWER = "document.querySelector('#lab-viewer .sv').viewer"


@pytest.fixture
def eye(tmp_path, save_png):
    """A file of 72 x 64 pixels with an eye of the cat, on which every network is quick."""
    return save_png(tmp_path / "eye.png", read_picture(ASSETS / "examples" / "cat.png").as_uint8()[60:124, 60:132])


def test_a_picture_is_measured_reconstructed_and_looked_into(page):
    page.get_by_role("tab", name="Lab").click()
    page.wait_for_selector("#lab-start:visible")
    page.click("#lab-start")
    page.wait_for_selector("#lab-status >> text=there is no picture yet")
    page.set_input_files("#lab-picture input[type=file]", ASSETS / "examples" / "cat.png")
    page.wait_for_selector("#lab-picture >> text=cat.png")
    page.click("#lab-start")
    page.wait_for_selector("#lab-curve >> text=PSNR after each stage", timeout=120_000)
    page.wait_for_selector("#lab-measured img")
    page.wait_for_selector("#lab-parameters >> text=lorun")
    last = page.evaluate(f"{VIEWER}.item.labels.sr")
    page.focus("#lab-stage input[type=range]")
    page.keyboard.press("ArrowLeft")
    page.wait_for_function(f"(last) => {VIEWER}.item.labels.sr !== last", arg=last)
    page.wait_for_function(f"() => {VIEWER}.ready({VIEWER}.result)")
    assert page.evaluate(f"Object.keys({VIEWER}.item.layers)") == ["lr", "sr", "hr"]
    page.get_by_label("Compressive sensing").click()
    page.wait_for_selector("#lab-ratio:visible")
    page.click("#lab-start")
    page.wait_for_function(f"() => {VIEWER}.item.name === 'cat.png' && {VIEWER}.item.version === 0", timeout=60_000)
    page.wait_for_function("() => !document.querySelector('#lab-curve').innerText.includes('Tikhonov')", timeout=120_000)


def test_networks_are_compared_and_a_real_picture_needs_no_kernel(page, eye):
    page.get_by_role("tab", name="Lab").click()
    page.wait_for_selector("#lab-start:visible")
    page.set_input_files("#lab-picture input[type=file]", eye)
    page.wait_for_selector("#lab-picture >> text=eye")
    page.click("#lab-compare")
    page.wait_for_selector("#lab-network:visible", timeout=120_000)
    assert "of block's" in page.inner_text("#lab-parameters")
    first = page.evaluate(f"{VIEWER}.item.labels.sr")
    page.locator("#lab-network input").nth(1).focus()
    page.keyboard.press("Space")
    page.wait_for_function(f"(first) => {VIEWER}.item.labels.sr !== first", arg=first)
    page.get_by_label("Enlarge the picture as it is").check()
    page.wait_for_selector("#lab-kernel", state="hidden")
    assert page.get_by_label("The blur is unknown").is_checked()
    page.click("#lab-start")
    page.wait_for_selector("#lab-network", state="hidden", timeout=120_000)
    assert page.evaluate(f"Object.keys({VIEWER}.item.layers)") == ["lr", "sr"]
    page.get_by_label("The blur is unknown").uncheck()
    page.wait_for_selector("#lab-kernel:visible")


def test_after_an_error_or_a_cancel_one_can_start_again(page, tmp_path):
    page.get_by_role("tab", name="Lab").click()
    page.wait_for_selector("#lab-start:visible")
    empty = tmp_path / "empty.png"
    empty.touch()
    page.set_input_files("#lab-picture input[type=file]", empty)
    page.wait_for_selector("#lab-picture >> text=empty")
    page.click("#lab-start")
    page.wait_for_selector("#lab-status .error >> text=empty.png: the file is empty")
    assert "uploads" not in page.inner_text("#lab-status")
    page.wait_for_selector("#lab-start:enabled")
    page.get_by_role("button", name="Example: coffee").locator("visible=true").click()
    page.wait_for_selector("#lab-picture >> text=coffee")
    page.click("#lab-start")
    page.wait_for_selector("#lab-start:disabled")
    page.click("#lab-cancel")
    page.wait_for_selector("#lab-status >> text=/Cancelled|Done/", timeout=60_000)
    page.wait_for_selector("#lab-start:enabled")


def test_with_the_band_the_start_and_the_truth_change_too(page, eye):
    page.get_by_role("tab", name="Lab").click()
    page.get_by_label("Spectral imaging").click()
    page.set_input_files("#lab-picture input[type=file]", eye)
    page.wait_for_selector("#lab-picture >> text=eye")
    page.click("#lab-start")
    page.wait_for_selector("#lab-band:visible", timeout=120_000)
    page.wait_for_function(f"() => {VIEWER}.ready('lr') && {VIEWER}.ready('hr')")
    former = page.evaluate(f"{VIEWER}.item.id")
    page.focus("#lab-band input[type=range]")
    page.keyboard.press("ArrowRight")
    page.wait_for_function(f"(former) => {VIEWER}.item.id !== former", arg=former)
    page.wait_for_function(f"() => {VIEWER}.ready('lr') && {VIEWER}.ready('hr')")
    for layer in ("lr", "hr"):
        seen = f"{VIEWER}.painter.seen('{layer}', {VIEWER}.frame()).data"
        assert page.evaluate(f"{seen}.every((sample, i, all) => i % 4 === 3 || sample === all[i - (i % 4)])")  # a band is grey


def test_a_kernel_can_be_drawn_at_once(page, eye):
    page.get_by_role("tab", name="Lab").click()
    page.set_input_files("#lab-picture input[type=file]", eye)
    page.wait_for_selector("#lab-picture >> text=eye")
    page.click("#lab-kernel input")
    page.get_by_role("option", name="drawn below").click()
    page.wait_for_selector("#lab-drawn canvas:visible")
    page.wait_for_selector("#lab-drawn >> text=select the draw tool", state="hidden")
    pad = page.locator("#lab-drawn canvas").first
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 30, y - 30)
    page.mouse.down()
    page.mouse.move(x + 30, y + 20, steps=6)
    page.mouse.up()
    page.wait_for_timeout(500)  # the sketchpad says nowhere when it has handed its drawing over
    page.click("#lab-start")
    page.wait_for_selector("#lab-status >> text=/Done|drawn/", timeout=60_000)
    assert "Done" in page.inner_text("#lab-status")


def test_the_spectrum_is_that_of_the_point_and_the_stage_that_are_chosen(page, eye):
    page.get_by_role("tab", name="Lab").click()
    page.get_by_label("Spectral imaging").click()
    page.set_input_files("#lab-picture input[type=file]", eye)
    page.wait_for_selector("#lab-picture >> text=eye")
    page.click("#lab-start")
    page.wait_for_selector("#lab-spectrum >> text=Spectrum at 36, 32 after stage 3", timeout=120_000)
    page.focus("#lab-point .spot")
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("#lab-spectrum >> text=Spectrum at 35, 32 after stage 3")
    page.keyboard.press("Shift+ArrowDown")
    page.wait_for_selector("#lab-spectrum >> text=Spectrum at 35, 42 after stage 3")
    picture = page.locator("#lab-point img")
    box = picture.bounding_box()
    picture.click(position={"x": box["width"] * 70.5 / 72, "y": box["height"] * 10.5 / 64})
    page.wait_for_selector("#lab-spectrum >> text=Spectrum at 70, 10 after stage 3")
    page.focus("#lab-stage input[type=range]")
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("#lab-spectrum >> text=Spectrum at 70, 10 after stage 2")
