"""A server of the page in a process of its own, and a real browser."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def server_home(tmp_path_factory, tiny_files):
    """The user folder of the server, with the model ``tiny``, which trains in a moment."""
    home = tmp_path_factory.mktemp("home")
    folder = home / "models" / "tiny"
    folder.mkdir(parents=True)
    shutil.copy(tiny_files.safetensors, folder / "tiny.safetensors")
    card = {"schema": 1, "id": "tiny", "family": "spandrel", "scale": 4, "title": "Tiny", "licence": "CC0-1.0"}
    (folder / "card.json").write_text(json.dumps({**card, "parts": {"weights": "tiny.safetensors"}}))
    return home


@pytest.fixture(scope="session")
def server(server_home):
    """The address of a running page, with a user folder of its own."""
    home = server_home
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = open(home / "server.log", "w")  # noqa: SIM115 - closed when the server has ended
    environment = {**os.environ, "SRGUI_HOME": str(home)}
    command = [sys.executable, "-m", "srgui", "serve", "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}"
    for _ in range(240):
        try:
            urllib.request.urlopen(address, timeout=5).close()
            break
        except OSError:
            assert process.poll() is None, (home / "server.log").read_text()
            time.sleep(0.5)
    yield address
    for job in (home / "jobs").glob("*/order.json"):
        (job.parent / "stop").touch()  # a training outlives the page
    process.terminate()
    process.wait(20)
    log.close()


@pytest.fixture(scope="session")
def browser():
    """The system's Chromium; where it is missing the test is skipped, except in CI, where that is a failure."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        reason = "no Chromium on this machine (Debian package: chromium)"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(server, browser):
    """A fresh visitor on the page. Requests to any other host and script errors fail the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    visitor = context.new_page()
    strange: list[str] = []
    visitor.on("pageerror", lambda error: strange.append(f"script error: {error}"))
    visitor.on("request", lambda r: None if r.url.startswith((server, "data:", "blob:")) else strange.append(f"request to {r.url}"))
    visitor.goto(server)
    visitor.wait_for_selector("body[data-srgui=ready] #pictures input[type=file]", state="attached", timeout=60_000)
    yield visitor
    context.close()
    assert strange == []


@pytest.fixture(scope="session")
def settle():
    """A function that waits for what Gradio does a frame after a tab or a group is opened for the first time.

    It sets everything in it to its first value, whatever was chosen meanwhile: no hand is that quick, but a test is.
    """
    frames = "() => new Promise((done) => { let n = 3; (function next() { n-- ? requestAnimationFrame(next) : done(); })(); })"
    return lambda page: page.evaluate(frames)


@pytest.fixture(scope="session")
def open_tab(settle):
    """A function that opens a tab by its name."""

    def go(page, name: str) -> None:
        page.get_by_role("tab", name=name).click()
        settle(page)

    return go


@pytest.fixture(scope="session")
def open_group(settle):
    """A function that opens an accordion by its title."""

    def unfold(page, title: str) -> None:
        page.get_by_text(title).click()
        settle(page)

    return unfold
