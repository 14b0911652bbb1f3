"""The Lab in a browser."""

from __future__ import annotations

from srgui.places import ASSETS

VIEWER = "document.querySelector('#lab-viewer .sv').viewer"


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
