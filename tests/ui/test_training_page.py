"""Training and adapters in a real browser: from dropped pictures to an adapter in use."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from srgui.lora.adapter import Adapter
from srgui.lora.card import AdapterCard, Base, read_card
from srgui.lora.files import write_adapter
from srgui.lora.trainable import LoraModel, LoraSpec
from srgui.models.load import load_network

ROOT = Path(__file__).resolve().parents[2]
PHOTO = ROOT / "assets" / "examples" / "cat.png"


@pytest.fixture
def crops(tmp_path, save_png):
    """Five small pictures with structure, and a file that is none."""
    photo = np.kron(np.random.default_rng(0).integers(40, 220, (40, 200, 3), dtype=np.uint8), np.ones((4, 4, 1), np.uint8))
    files = [save_png(tmp_path / f"crop{n}.png", photo[:, n * 160 : (n + 1) * 160]) for n in range(5)]
    broken = tmp_path / "broken.png"
    broken.write_text("this is not a picture")
    return [*files, broken]


def fill(page, elem_id, text):
    page.fill(f"#{elem_id} input, #{elem_id} textarea", str(text))
    page.keyboard.press("Tab")


def choose(page, elem_id, option):
    page.click(f"#{elem_id} input")
    page.get_by_role("option", name=option).first.click()


@pytest.fixture
def ask_for(page, open_group):
    """A function that fills in the form for a training of the tiny model."""

    def ask(name, steps, batch=2):
        page.wait_for_selector("#train-start:enabled")
        fill(page, "train-name", name)
        open_group(page, "Advanced")
        page.wait_for_selector("#train-model:visible")
        choose(page, "train-model", "Tiny")
        for field, value in {"steps": steps, "batch": batch, "patch": 8}.items():
            fill(page, f"train-{field}", value)

    return ask


def job_says(page, text, timeout=60_000):
    page.wait_for_selector(f"#job-status >> text={text}", timeout=timeout)


def test_from_dropped_pictures_to_an_adapter_in_use(page, server_home, crops, ask_for, open_tab):
    open_tab(page, "Train")
    page.wait_for_selector("#train-pictures input[type=file]", state="attached")
    page.set_input_files("#train-pictures input[type=file]", crops)
    page.wait_for_selector("#train-report >> text=5 pictures can be used", timeout=30_000)
    assert "1 cannot be read" in page.inner_text("#train-report")
    assert str(crops[0].parent) not in page.inner_text("#train-report")
    ask_for("crops", 12)
    page.wait_for_selector("#train-forecast:has-text('12 steps'):has-text('weights learn')", timeout=30_000)
    page.click("#train-start")
    page.wait_for_selector("#job-card .verdict", timeout=90_000)
    assert re.search(r"Nothing to gain here|Cannot be told from one picture", page.inner_text("#job-card"))
    assert page.locator("#job-curves svg").count() == 2
    assert sorted(path.name for path in (server_home / "jobs" / "crops" / "pictures").iterdir()) == sorted(p.name for p in crops)
    assert page.input_value("#train-name input, #train-name textarea") not in ("", "crops")

    page.reload()
    page.wait_for_selector("body[data-srgui=ready] #pictures input[type=file]", state="attached", timeout=60_000)
    page.set_input_files("#pictures input[type=file]", PHOTO)
    open_tab(page, "Train")
    job_says(page, "Done: 12 steps")
    page.wait_for_function("() => document.querySelector('#samples .sv').viewer.items.length > 0")
    assert page.inner_text("#samples .sv-before") == "Base"
    page.click("#job-use")
    page.wait_for_selector("#adapters-chosen >> text=crops")
    page.wait_for_selector("#strengths input[type=range]:visible")
    page.wait_for_selector("#start:enabled")
    page.click("#start")
    page.wait_for_selector("#status >> text=with Tiny ×4 + crops 1.", timeout=60_000)
    page.locator("#strengths input[type=range]:visible").focus()
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    page.wait_for_selector("#status >> text=with Tiny ×4 + crops 0.8.", timeout=60_000)
    choose(page, "model", "srgui Compact")
    page.wait_for_selector("#adapters-note >> text=crops")
    page.wait_for_selector("#stale >> text=changed since this result")


def test_a_training_stops_resumes_and_is_removed(page, server_home, crops, ask_for, open_tab):
    open_tab(page, "Train")
    page.wait_for_selector("#train-folder:visible")
    fill(page, "train-folder", crops[0].parent)
    page.wait_for_selector("#train-report >> text=5 pictures can be used", timeout=30_000)
    ask_for("long", 100_000, batch=200)  # slow enough not to be over before it is stopped
    page.click("#train-start")
    job_says(page, "Learning, step")
    page.click("#job-stop")
    job_says(page, "it can be resumed")
    step = int(re.search(r"after step (\d+)", page.inner_text("#job-status")).group(1))
    page.click("#job-resume")
    page.wait_for_function(
        "(step) => +(document.querySelector('#job-status').innerText.match(/Learning, step (\\d+)/)?.[1] ?? 0) > step",
        arg=step,
        timeout=60_000,
    )
    page.click("#job-stop")
    page.wait_for_selector("#job-remove:visible", timeout=60_000)
    page.click("#job-remove")
    page.click("#job-keep")
    assert (server_home / "jobs" / "long").is_dir()
    page.click("#job-remove")
    page.click("#job-really")
    page.wait_for_function("() => !document.querySelector('#job-status').innerText.includes('resumed')")
    assert not (server_home / "jobs" / "long").exists()


def test_what_is_wrong_is_said_where_it_is(page, server_home, tmp_path, save_png, open_tab):
    before = sorted((server_home / "jobs").glob("*/order.json"))
    open_tab(page, "Train")
    page.wait_for_selector("#train-start:enabled")
    fill(page, "train-name", "../x")
    page.wait_for_selector("#train-name-problem >> text=cannot be an adapter's name")
    page.click("#train-start")
    page.wait_for_selector("#train-pictures-problem >> text=no picture yet")
    fill(page, "train-folder", tmp_path / "nowhere")
    page.wait_for_selector("#train-pictures-problem >> text=there is no folder")
    save_png(tmp_path / "small" / "small.png", (20, 30))
    fill(page, "train-folder", tmp_path / "small")
    page.wait_for_selector("#train-pictures-problem >> text=too small")
    choose(page, "train-preset", "ESRGAN + LoRA (paper)")
    page.wait_for_selector("#train-settings-problem >> text=download it on the Models tab")
    assert sorted((server_home / "jobs").glob("*/order.json")) == before


@pytest.fixture
def installed(server_home, tiny_files):
    """An adapter for the tiny model among the user's."""

    def install(name):
        network = load_network(tiny_files.safetensors, torch.device("cpu"))
        factors = LoraModel(network.module, LoraSpec(), seed=0).factors()
        card = AdapterCard(name, "domain", Base("tiny", network.digest), 4, "8", "conv", targets=("*",), licence="CC0-1.0")
        write_adapter(Adapter(factors, card), server_home / "adapters" / name)

    return install


def test_adapters_are_renamed_exported_imported_and_removed(page, server_home, installed, tmp_path, open_tab):
    installed("mine")
    open_tab(page, "Adapters")
    page.click("[data-adapter=mine]")
    page.wait_for_selector("#adapter-details >> text=CC0-1.0")
    for wrong in ("../x", "mine/too"):
        fill(page, "adapter-name", wrong)
        page.click("#adapter-rename")
        page.wait_for_selector(f"#adapter-status >> text='{wrong}' cannot be an adapter's name")
    fill(page, "adapter-name", "yours")
    page.click("#adapter-rename")
    page.wait_for_selector("[data-adapter=yours][aria-pressed=true]")
    with page.expect_download() as download:
        page.click("#adapter-export")
    exported = tmp_path / download.value.suggested_filename
    download.value.save_as(exported)
    assert exported.name == "yours.safetensors"
    page.click("#adapter-remove")
    page.click("#adapter-really")
    page.wait_for_selector("#adapter-status >> text=yours is removed")
    assert not (server_home / "adapters" / "yours").exists()

    page.get_by_text("Import an adapter").click()
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\xff" * 100)
    choose(page, "adapter-base", "Tiny")
    for path, said in {broken: "broken.safetensors is damaged", exported: "yours is ready"}.items():
        page.set_input_files("#adapter-file input[type=file]", path)
        page.wait_for_selector(f"#adapter-file >> text={path.stem}")
        page.click("#adapter-start")
        page.wait_for_selector(f"#adapter-import-status >> text={said}")
        if path is broken:
            assert str(server_home) not in page.inner_text("#adapter-import-status")
            page.click("#adapter-file button[aria-label=Clear]")
    assert read_card(server_home / "adapters" / "yours").base.id == "tiny"


def test_a_broken_folder_is_listed_with_its_problem(page, server_home, open_tab):
    folder = server_home / "adapters" / "torn"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "card.json").write_text("{")
    open_tab(page, "Adapters")
    page.wait_for_selector("#adapters >> text=is not JSON")


def test_adapters_over_the_api(server, server_home, installed):
    from gradio_client import Client, handle_file

    installed("remote")
    client = Client(server, verbose=False)

    def status(adapters):
        fixed = ["tiny", "4", "none", None, "bicubic", "png", 95, 0, "auto"]
        return json.dumps(client.predict([handle_file(str(PHOTO))], *fixed, adapters, api_name="/upscale")[1])

    assert "+ remote 0.5" in status([["remote", 0.5]])
    assert "there is no adapter" in status([[str(server_home / "adapters" / "remote"), 1]])
    assert "is not a name and a strength" in status(["remote"])
