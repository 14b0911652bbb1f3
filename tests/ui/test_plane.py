"""What is measured while a result is steered: the scores under the picture, the plane, and the settings in files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from srgui.images import read_settings

ROOT = Path(__file__).resolve().parents[2]
PHOTO = ROOT / "assets" / "examples" / "cat.png"
VIEWER = "document.querySelector('#viewer .sv').viewer"
KNOWN = "() => document.querySelectorAll('.sv-plane [data-key]').length >= 20"


@pytest.fixture
def upscale(page, open_group):
    """A function that upscales pictures on the page."""

    def run(*files: Path, reference: bool = False) -> None:
        page.set_input_files("#pictures input[type=file]", files)
        page.wait_for_function(
            f"(names) => {VIEWER}.items.map(({{ name }}) => name).join() === names", arg=",".join(f.name for f in files)
        )
        if reference:
            open_group(page, "Measure against a reference")
            page.get_by_label("My picture is the HR: shrink it first").click()
        page.wait_for_selector("#start:enabled")
        page.click("#start")
        page.wait_for_selector("#download:visible", timeout=120_000)

    return run


def values(page) -> dict[str, float]:
    return page.evaluate(f"{VIEWER}.scales")


def psnr(page, line: str = ".sv-score") -> float:
    return float(re.search(r"PSNR (\S+) dB", page.inner_text(line))[1])


def test_clicking_a_point_of_the_plane_sets_both_sliders(page, upscale):
    upscale(PHOTO, reference=True)
    page.wait_for_function(KNOWN, timeout=120_000)
    key = "pixel 0.500, semantic 0.250"
    assert page.get_attribute(f'.sv-plane [data-key="{key}"]', "class") == "sv-known"
    assert "PSNR" in page.get_attribute(f'.sv-plane [data-key="{key}"]', "aria-label")
    page.click(f'.sv-plane [data-key="{key}"]')
    assert values(page) == {"pixel": 0.5, "semantic": 0.25}
    before = psnr(page)
    page.wait_for_selector("#status >> text=Rendered at pixel 0.5, semantic 0.25", timeout=60_000)
    page.wait_for_function(f"() => document.querySelector('.sv-plane [data-key=\"{key}\"]').classList.contains('sv-tried')")
    measured = page.inner_text("#measured td").split()
    assert before == pytest.approx(float(measured[0]), abs=0.06)
    page.wait_for_selector(".sv-score >> text=SSIM")
    for name in ("fidelity", "balanced", "detail"):
        page.click(f"[data-pick={name}]")
        page.wait_for_selector(f"[data-pick={name}][aria-pressed=true]")
    scores = page.evaluate(
        """() => [...document.querySelectorAll(".sv-plane [data-key]")].map((dot) => dot.getAttribute("aria-label"))"""
    )
    best = max(float(re.search(r"PSNR (\S+) dB", each)[1]) for each in scores)
    page.click("[data-pick=fidelity]")
    assert psnr(page) == pytest.approx(best, abs=0.01)


def test_the_plane_is_worked_by_the_keyboard(page, upscale):
    upscale(PHOTO)
    page.wait_for_function(KNOWN)
    page.wait_for_selector(".sv-plane text >> text=LR consistency")
    page.focus(".sv-plane [data-key][tabindex='0']")
    start = page.evaluate("document.activeElement.dataset.key")
    page.keyboard.press("ArrowRight")
    key = page.evaluate("document.activeElement.dataset.key")
    assert key != start
    assert page.inner_text(".sv-point").startswith("Fidelity")
    page.keyboard.press("Enter")
    assert values(page) == {name: float(value) for name, value in (pair.split() for pair in key.split(", "))}
    page.wait_for_selector("#status >> text=Rendered at", timeout=60_000)
    assert page.evaluate("document.activeElement.dataset.key") == key


def test_the_part_that_is_visible_is_measured_too(page, upscale):
    upscale(PHOTO, reference=True)
    page.wait_for_selector(".sv-score >> text=PSNR")
    assert page.inner_text(".sv-seen") == ""
    page.evaluate(f"{VIEWER}.setZoom(12)")
    page.wait_for_selector(".sv-seen >> text=PSNR", timeout=60_000)
    page.wait_for_selector(".sv-seen >> text=SSIM", timeout=60_000)
    whole, seen = psnr(page), psnr(page, ".sv-seen")
    assert abs(whole - seen) > 0.01
    page.evaluate(f"{VIEWER}.set({{ pixel: 1, semantic: 0 }}, false)")
    assert psnr(page) != whole
    assert psnr(page, ".sv-seen") != seen
    assert "SSIM" not in page.inner_text(".sv-seen")
    page.evaluate(f"{VIEWER}.set({{ pixel: 1, semantic: 1 }})")
    page.evaluate(f"{VIEWER}.fit()")
    page.wait_for_function("() => !document.querySelector('.sv-seen').innerText")


def test_a_dropped_result_brings_its_controls_back(page, upscale, tmp_path, open_group):
    page.set_input_files("#pictures input[type=file]", PHOTO)
    page.wait_for_selector("#start:enabled")
    page.fill("#scale input", "3")
    page.keyboard.press("Enter")
    open_group(page, "Speed and memory")
    page.fill("#tile input", "32")
    page.keyboard.press("Tab")
    page.click("#start")
    page.wait_for_selector("#download:visible", timeout=120_000)
    page.wait_for_selector(".sv-scales input[name=semantic]")
    page.evaluate(f"{VIEWER}.set({{ pixel: 0.9, semantic: 0.35 }})")
    page.wait_for_selector("#status >> text=Rendered at pixel 0.9, semantic 0.35", timeout=60_000)
    with page.expect_download() as download:
        page.click("#download")
    file = tmp_path / "result.png"
    download.value.save_as(file)
    assert read_settings(file)["tile"] == 32
    page.reload()
    page.wait_for_selector("body[data-srgui=ready] #pictures input[type=file]", state="attached", timeout=60_000)
    page.set_input_files("#pictures input[type=file]", file)
    page.wait_for_selector("#restored >> text=The settings of result.png are restored")
    page.wait_for_function("() => document.querySelector('#scale input').value === '3'")
    page.click("#pictures button[aria-label='Clear']")
    page.wait_for_selector("#start:disabled")
    upscale(PHOTO)
    page.wait_for_selector(".sv-scales input[name=semantic]")
    assert values(page) == {"pixel": 0.9, "semantic": 0.35}
    with page.expect_download() as download:
        page.click("#download")
    again = tmp_path / "again.png"
    download.value.save_as(again)
    assert again.read_bytes() == file.read_bytes(), json.dumps([dict(read_settings(f) or {}) for f in (file, again)])


def test_results_are_shared_as_a_page_of_their_own(page, upscale, browser, tmp_path):
    upscale(PHOTO, ROOT / "assets" / "examples" / "coffee.png", reference=True)
    page.wait_for_selector(".sv-scales input[name=semantic]")
    with page.expect_download() as download:
        page.click("#share")
    file = tmp_path / "comparison.html"
    download.value.save_as(file)
    context = browser.new_context(viewport={"width": 900, "height": 700}, offline=True)
    alone = context.new_page()
    strange = []
    alone.on("pageerror", lambda error: strange.append(str(error)))
    alone.on("request", lambda request: strange.append(request.url) if request.url.startswith("http") else None)
    alone.goto(file.as_uri())
    view = "document.querySelector('.sv').viewer"
    alone.wait_for_function(f"() => {view}?.ready({view}.result) && {view}.cache.settled")
    assert [button.inner_text() for button in alone.query_selector_all(".sv-strip button")] == ["cat.png", "coffee.png"]
    table = alone.inner_text("table")
    assert all(text in table for text in ("cat.png", "coffee.png", "bicubic", "dB"))
    before = psnr(alone)
    alone.evaluate(f"{view}.set({{ pixel: 1, semantic: 0 }})")
    assert psnr(alone) != before
    colours = alone.evaluate(
        f"""() => {{ const v = {view}; v.setSplit(0); v.draw();
        const data = v.context.getImageData(0, 0, v.canvas.width, v.canvas.height).data;
        return new Set(data.filter((_, i) => i % 4 == 0)).size; }}"""
    )
    assert colours > 100
    context.close()
    assert strange == []
