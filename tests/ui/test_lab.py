"""The Lab in a browser."""

from __future__ import annotations

import pytest

from srgui.images import read_picture
from srgui.places import ASSETS

VIEWER = "document.querySelector('#lab-viewer .sv').viewer"


@pytest.fixture
def lab(page, open_tab):
    """A fresh visitor on the Lab."""
    open_tab(page, "Lab")
    return page


@pytest.fixture
def eye(tmp_path, save_png):
    """A file of 72 x 64 pixels with an eye of the cat, on which every network is quick."""
    return save_png(tmp_path / "eye.png", read_picture(ASSETS / "examples" / "cat.png").as_uint8()[60:124, 60:132])


@pytest.fixture
def spectral_lab(lab, eye):
    """The Lab, reconstructing the spectra of the eye."""
    lab.get_by_label("Spectral imaging").click()
    lab.set_input_files("#lab-picture input[type=file]", eye)
    lab.wait_for_selector("#lab-picture >> text=eye")
    lab.click("#lab-start")
    return lab


def test_a_picture_is_measured_reconstructed_and_looked_into(lab):
    lab.wait_for_selector("#lab-start:visible")
    lab.click("#lab-start")
    lab.wait_for_selector("#lab-status >> text=there is no picture yet")
    lab.set_input_files("#lab-picture input[type=file]", ASSETS / "examples" / "cat.png")
    lab.wait_for_selector("#lab-picture >> text=cat.png")
    lab.click("#lab-start")
    lab.wait_for_selector("#lab-curve >> text=PSNR after each stage", timeout=120_000)
    lab.wait_for_selector("#lab-measured img")
    lab.wait_for_selector("#lab-parameters >> text=lorun")
    last = lab.evaluate(f"{VIEWER}.item.labels.sr")
    lab.focus("#lab-stage input[type=range]")
    lab.keyboard.press("ArrowLeft")
    lab.wait_for_function(f"(last) => {VIEWER}.item.labels.sr !== last", arg=last)
    lab.wait_for_function(f"() => {VIEWER}.ready({VIEWER}.result)")
    assert lab.evaluate(f"Object.keys({VIEWER}.item.layers)") == ["lr", "sr", "hr"]
    lab.get_by_label("Compressive sensing").click()
    lab.wait_for_selector("#lab-ratio:visible")
    lab.click("#lab-start")
    lab.wait_for_function(f"() => {VIEWER}.item.name === 'cat.png' && {VIEWER}.item.version === 0", timeout=60_000)
    lab.wait_for_function("() => !document.querySelector('#lab-curve').innerText.includes('Tikhonov')", timeout=120_000)


def test_networks_are_compared_and_a_real_picture_needs_no_kernel(lab, eye):
    lab.wait_for_selector("#lab-start:visible")
    lab.set_input_files("#lab-picture input[type=file]", eye)
    lab.wait_for_selector("#lab-picture >> text=eye")
    lab.click("#lab-compare")
    lab.wait_for_selector("#lab-network:visible", timeout=120_000)
    assert "of block's" in lab.inner_text("#lab-parameters")
    first = lab.evaluate(f"{VIEWER}.item.labels.sr")
    lab.locator("#lab-network input").nth(1).focus()
    lab.keyboard.press("Space")
    lab.wait_for_function(f"(first) => {VIEWER}.item.labels.sr !== first", arg=first)
    lab.get_by_label("Enlarge the picture as it is").check()
    lab.wait_for_selector("#lab-kernel", state="hidden")
    assert lab.get_by_label("The blur is unknown").is_checked()
    lab.click("#lab-start")
    lab.wait_for_selector("#lab-network", state="hidden", timeout=120_000)
    assert lab.evaluate(f"Object.keys({VIEWER}.item.layers)") == ["lr", "sr"]
    lab.get_by_label("The blur is unknown").uncheck()
    lab.wait_for_selector("#lab-kernel:visible")


def test_after_an_error_or_a_cancel_one_can_start_again(lab, tmp_path):
    lab.wait_for_selector("#lab-start:visible")
    empty = tmp_path / "empty.png"
    empty.touch()
    lab.set_input_files("#lab-picture input[type=file]", empty)
    lab.wait_for_selector("#lab-picture >> text=empty")
    lab.click("#lab-start")
    lab.wait_for_selector("#lab-status .error >> text=empty.png: the file is empty")
    assert "uploads" not in lab.inner_text("#lab-status")
    lab.wait_for_selector("#lab-start:enabled")
    lab.get_by_role("button", name="Example: coffee").locator("visible=true").click()
    lab.wait_for_selector("#lab-picture >> text=coffee")
    lab.click("#lab-start")
    lab.wait_for_selector("#lab-start:disabled")
    lab.click("#lab-cancel")
    lab.wait_for_selector("#lab-status >> text=/Cancelled|Done/", timeout=60_000)
    lab.wait_for_selector("#lab-start:enabled")


def test_with_the_band_the_start_and_the_truth_change_too(spectral_lab):
    lab = spectral_lab
    lab.wait_for_selector("#lab-band:visible", timeout=120_000)
    lab.wait_for_function(f"() => {VIEWER}.ready('lr') && {VIEWER}.ready('hr')")
    former = lab.evaluate(f"{VIEWER}.item.id")
    lab.focus("#lab-band input[type=range]")
    lab.keyboard.press("ArrowRight")
    lab.wait_for_function(f"(former) => {VIEWER}.item.id !== former", arg=former)
    lab.wait_for_function(f"() => {VIEWER}.ready('lr') && {VIEWER}.ready('hr')")
    for layer in ("lr", "hr"):
        seen = f"{VIEWER}.painter.seen('{layer}', {VIEWER}.frame()).data"
        assert lab.evaluate(f"{seen}.every((sample, i, all) => i % 4 === 3 || sample === all[i - (i % 4)])")  # a band is grey


def test_a_kernel_can_be_drawn_at_once(lab, eye):
    lab.set_input_files("#lab-picture input[type=file]", eye)
    lab.wait_for_selector("#lab-picture >> text=eye")
    lab.click("#lab-kernel input")
    lab.get_by_role("option", name="drawn below").click()
    lab.wait_for_selector("#lab-drawn canvas:visible")
    lab.wait_for_selector("#lab-drawn >> text=select the draw tool", state="hidden")
    pad = lab.locator("#lab-drawn canvas").first
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    lab.mouse.move(x - 30, y - 30)
    lab.mouse.down()
    lab.mouse.move(x + 30, y + 20, steps=6)
    lab.mouse.up()
    lab.wait_for_timeout(500)  # the sketchpad says nowhere when it has handed its drawing over
    lab.click("#lab-start")
    lab.wait_for_selector("#lab-status >> text=/Done|drawn/", timeout=60_000)
    assert "Done" in lab.inner_text("#lab-status")


def test_the_spectrum_is_that_of_the_point_and_the_stage_that_are_chosen(spectral_lab):
    lab = spectral_lab
    lab.wait_for_selector("#lab-spectrum >> text=Spectrum at 36, 32 after stage 3", timeout=120_000)
    lab.focus("#lab-point .spot")
    lab.keyboard.press("ArrowLeft")
    lab.wait_for_selector("#lab-spectrum >> text=Spectrum at 35, 32 after stage 3")
    lab.keyboard.press("Shift+ArrowDown")
    lab.wait_for_selector("#lab-spectrum >> text=Spectrum at 35, 42 after stage 3")
    picture = lab.locator("#lab-point img")
    box = picture.bounding_box()
    picture.click(position={"x": box["width"] * 70.5 / 72, "y": box["height"] * 10.5 / 64})
    lab.wait_for_selector("#lab-spectrum >> text=Spectrum at 70, 10 after stage 3")
    lab.focus("#lab-stage input[type=range]")
    lab.keyboard.press("ArrowLeft")
    lab.wait_for_selector("#lab-spectrum >> text=Spectrum at 70, 10 after stage 2")
