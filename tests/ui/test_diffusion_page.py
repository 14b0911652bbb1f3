"""PiSA-SR on the page, on a tiny Stable Diffusion."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from srgui.images import read_settings

PHOTO = Path(__file__).resolve().parents[2] / "assets" / "examples" / "cat.png"
VIEWER = "const v = document.querySelector('#viewer .sv').viewer;"
MOVE = """(value) => {
  const input = document.querySelector(".sv-scales input[name=semantic]");
  input.value = value;
  input.dispatchEvent(new Event("input", { bubbles: true }));
}"""
LET_GO = "() => document.querySelector('.sv-scales input').dispatchEvent(new Event('change', { bubbles: true }))"


@pytest.fixture(scope="module")
def models(server_home, base_folder, layout):
    """The models folder of the server, with the model ``Tiny SD``."""
    from srgui.diffusion.base import load_base

    folder = server_home / "models" / "tiny-sd"
    folder.mkdir()
    torch.save(layout(load_base(base_folder, torch.device("cpu")).unet, (4, 2)), folder / "pisa_sr.pkl")
    card = {"schema": 1, "id": "tiny-sd", "family": "pisa-sr", "scale": 4, "title": "Tiny SD", "licence": "none"}
    parts = {"base": {"folder": str(base_folder)}, "lora": {"file": "pisa_sr.pkl"}}
    (folder / "card.json").write_text(json.dumps({**card, "parts": parts}))
    yield folder.parent
    shutil.rmtree(folder)


@pytest.fixture
def opened(page, models):
    """The page with the model chosen and a picture dropped."""
    page.reload()
    page.wait_for_selector("body[data-srgui=ready] #pictures input[type=file]", state="attached", timeout=60_000)
    page.click("#model input")
    page.get_by_role("option", name="Tiny SD").click()
    page.wait_for_selector("#options-pisa-sr", timeout=60_000)
    page.set_input_files("#pictures input[type=file]", PHOTO)
    page.wait_for_selector("#forecast >> text=720 × 560", timeout=120_000)  # the first imports diffusers
    return page


def upscaled(page):
    page.wait_for_selector("#start:enabled")
    page.click("#start")
    page.wait_for_selector("#download:visible", timeout=120_000)
    page.wait_for_selector(".sv-scales input[name=semantic]")


def released(page, value):
    page.evaluate(LET_GO)
    page.wait_for_selector(f"#status >> text=Rendered at pixel 1, semantic {value:g}", timeout=60_000)
    page.wait_for_function(f"() => {{ {VIEWER} return v.live === null && v.sketch.image === null; }}")
    assert page.inner_text(".sv-after") == "Upscaled"


def test_a_small_preview_follows_a_slider_and_the_exact_picture_comes_on_release(opened, models, tiny_folder):
    assert re.search(r"a move of a slider takes about \S+ s; the first, to unequal scales", opened.inner_text("#forecast"))
    shutil.copytree(tiny_folder, models / "taesd")
    try:
        upscaled(opened)
        assert "A small preview follows a slider" in opened.inner_text(".sv-score")
        for value in (0.3, 0.8):
            opened.evaluate(MOVE, value)
            opened.wait_for_selector(".sv-after >> text=/^Preview$/", timeout=60_000)
            opened.wait_for_function(f"() => {{ {VIEWER} return !v.sketch.busy; }}")
            released(opened, value)
    finally:
        shutil.rmtree(models / "taesd")


def test_without_a_tiny_decoder_nothing_is_asked_for_until_release(opened):
    upscaled(opened)
    assert "The picture follows when a slider is let go of." in opened.inner_text(".sv-score")
    asked = []
    opened.on("request", lambda request: asked.append(request.url))
    for value in (0.9, 0.6, 0.3):
        opened.evaluate(MOVE, value)
    opened.wait_for_timeout(500)
    assert not [url for url in asked if "heartbeat" not in url]
    released(opened, 0.3)


def test_tones_prompts_and_a_random_start_are_in_the_result_and_come_back_with_it(opened, tmp_path, open_group):
    open_group(opened, "Prompts, tones, start")
    opened.fill("#option-prompt textarea", "a cat")
    opened.click("#option-colour input")
    opened.get_by_role("option", name="wavelet").click()
    opened.check("#option-sampled input")
    opened.fill("#option-seed input", "7")
    opened.press("#option-seed input", "Tab")
    upscaled(opened)
    file = tmp_path / "result.png"
    with opened.expect_download() as download:
        opened.click("#download")
    download.value.save_as(file)
    chosen = {"prompt": "a cat", "negative_prompt": "", "prompt_scale": 1.5, "colour": "wavelet", "sampled": True, "seed": 7}
    assert read_settings(file)["options"] == chosen
    opened.fill("#option-seed input", "8")
    opened.uncheck("#option-sampled input")
    opened.wait_for_selector("#stale >> text=changed since this result")
    opened.click("#pictures button[aria-label=Clear]")
    opened.set_input_files("#pictures input[type=file]", file)
    opened.wait_for_selector("#restored >> text=settings of result.png are restored")
    opened.wait_for_function("() => document.querySelector('#option-seed input').value === '7'")
    assert opened.is_checked("#option-sampled input")


def test_a_pair_can_be_trained_from_the_train_tab(page, models, tmp_path, save_png, open_tab):
    page.reload()
    page.wait_for_selector("body[data-srgui=ready] #pictures input[type=file]", state="attached", timeout=60_000)
    open_tab(page, "Train")
    page.wait_for_selector("#train-start:enabled")
    page.click("#train-model input")
    page.get_by_role("option", name="Tiny SD").click()
    page.wait_for_function("() => document.querySelector('#train-preset input').value.startsWith('PiSA-SR: restore')")
    assert "Tiny SD" in page.input_value("#train-model input")
    page.click("#train-preset input")
    assert [option.split(":")[0].strip("✓\n") for option in page.get_by_role("option").all_inner_texts()] == ["PiSA-SR"] * 2
    page.get_by_role("option", name="detail").click()
    page.wait_for_selector("#train-under")
    page.set_input_files("#train-pictures input[type=file]", [save_png(tmp_path / f"{n}.png", (520, 520 + n)) for n in range(3)])
    page.wait_for_selector("#train-forecast:has-text('8500 steps'):has-text('on 73 layers')", timeout=60_000)
