"""Sliding between fidelity and detail: in the browser at once, on the server exactly."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srgui.images import read_settings

ROOT = Path(__file__).resolve().parents[2]
PHOTO = ROOT / "assets" / "examples" / "cat.png"
MOVE = """(values) => {
  for (const [name, value] of Object.entries(values)) document.querySelector(`.sv-scales input[name=${name}]`).value = value;
  document.querySelector(".sv-scales input").dispatchEvent(new Event("input", { bubbles: true }));
}"""
LET_GO = "() => document.querySelector('.sv-scales input').dispatchEvent(new Event('change', { bubbles: true }))"
SETTLED = (
    "() => { const v = document.querySelector('#viewer .sv').viewer; return v.ready(v.result) && v.cache.settled && !v.pending; }"
)
# The result's pixels as they are on the screen, 1:1, without what lies beside them.
PIXELS = """async () => {
  const v = document.querySelector("#viewer .sv").viewer;
  v.setSplit(0);
  v.setZoom(1);
  await new Promise((done) => setTimeout(done, 700));
  v.draw();
  return v.canvas.toDataURL("image/png");
}"""


@pytest.fixture
def result(page, open_group):
    """The page with an example upscaled by the default model, whose pair is on."""
    page.set_input_files("#pictures input[type=file]", PHOTO)
    open_group(page, "Measure against a reference")
    page.get_by_label("My picture is the HR: shrink it first").click()
    page.wait_for_selector("#start:enabled")
    page.click("#start")
    page.wait_for_selector("#download:visible", timeout=120_000)
    page.wait_for_selector(".sv-scales input[name=semantic]")
    page.wait_for_function(SETTLED)
    return page


def pixels(page) -> np.ndarray:
    import base64

    url = page.evaluate(PIXELS)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB")).astype(int)


def score(page) -> float:
    return float(re.search(r"PSNR (\S+) dB", page.inner_text(".sv-score"))[1])


def test_the_picture_follows_the_sliders_and_the_server_agrees(result, tmp_path):
    page = result
    pixels(page)
    page.wait_for_function(SETTLED)
    for values in ({"pixel": 0.5, "semantic": 0.25}, {"pixel": 1, "semantic": 0}, {"pixel": 0, "semantic": 1}):
        page.evaluate(MOVE, {"pixel": 0.95, "semantic": 0.95})
        asked = []  # from here on: before a slider is held, scores may be asked for
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        for step in (0.9, 0.7, 0.6):
            page.evaluate(MOVE, {"pixel": step, "semantic": step})
        page.evaluate(MOVE, values)
        blended = pixels(page)
        assert page.evaluate("document.querySelector('#viewer .sv').viewer.live") == values
        assert not [url for url in asked if "heartbeat" not in url]
        page.evaluate(LET_GO)
        at = ", ".join(f"{name} {value:g}" for name, value in values.items())
        page.wait_for_selector(f"#status >> text=Rendered at {at}", timeout=60_000)
        page.wait_for_function("() => document.querySelector('#viewer .sv').viewer.live === null")
        exact = pixels(page)
        assert np.abs(blended - exact).max() <= 3
        said, measured = score(page), page.inner_text("#measured td")
        assert said == pytest.approx(float(measured.split()[0]), abs=0.06)
    with page.expect_download() as download:
        page.click("#download")
    file = tmp_path / "result.png"
    download.value.save_as(file)
    settings = read_settings(file)
    assert settings["values"] == {"pixel": 0.0, "semantic": 1.0}
    assert [adapter["role"] for adapter in settings["adapters"]] == ["pixel", "semantic"]
    assert all(len(adapter["sha256"]) == 64 for adapter in settings["adapters"])


def test_the_keyboard_alone_moves_and_resets_them(result):
    page = result
    page.focus(".sv-scales input[name=semantic]")
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    page.wait_for_selector("#status >> text=semantic 0.8", timeout=60_000)
    assert page.inner_text(".sv-scales label:last-child output") == "0.80"
    page.focus(".sv-guide [data-action=reset]")
    page.keyboard.press("Enter")
    page.wait_for_selector("#status >> text=Rendered at pixel 1, semantic 1", timeout=60_000)


def test_the_plain_base_has_one_slider_and_keeps_the_scale_that_was_set(result):
    page = result
    page.uncheck("#pair input")
    page.wait_for_selector("#stale >> text=changed since this result")
    page.click("#start")
    page.wait_for_selector("#status >> text=Done in", timeout=60_000)
    page.wait_for_function("() => document.querySelectorAll('.sv-scales input').length === 1")
    assert "pixel 1" not in page.inner_text("#status")


def test_two_visitors_steer_their_own(result, server, browser):
    other = browser.new_context(viewport={"width": 1000, "height": 700})
    visitor = other.new_page()
    visitor.goto(server)
    visitor.wait_for_selector("body[data-srgui=ready] #pictures input[type=file]", state="attached", timeout=60_000)
    visitor.set_input_files("#pictures input[type=file]", ROOT / "assets" / "examples" / "coffee.png")
    visitor.wait_for_selector("#start:enabled")
    visitor.click("#start")
    visitor.wait_for_selector("#download:visible", timeout=120_000)
    visitor.wait_for_selector(".sv-scales input[name=semantic]")
    visitor.evaluate(MOVE, {"pixel": 0.5, "semantic": 0})
    visitor.evaluate(LET_GO)
    visitor.wait_for_selector("#status >> text=Rendered at pixel 0.5, semantic 0", timeout=60_000)
    items = [json.dumps(each.evaluate("document.querySelector('#viewer .sv').viewer.items")) for each in (result, visitor)]
    assert "cat.png" in items[0]
    assert "coffee.png" not in items[0]
    assert '"pixel": 1, "semantic": 1' in items[0]
    assert '"pixel": 0.5, "semantic": 0' in items[1]
    other.close()
