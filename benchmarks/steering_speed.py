"""What a move of a slider costs: on the server when it is let go of, and in the browser while it is held.

    python -m benchmarks.steering_speed [--repeats 9] [--browser]

- release: a result of 2048 x 2048 pixels rendered anew from its planes, strip by strip as for a file but not encoded / one pass
  of the network over the picture (a release runs no network)
- browser (needs Chromium and playwright): median over 100 moves of blending and upload, by the page's performance API, and of
  the time until the next frame; for the view as it opens at 1280 x 800, and for one of about a megapixel. In milliseconds,
  because the goals are (16 and 33, and 30 for the megapixel), so only as good as the machine is quiet.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from srgui.images import Picture, layout_of, to_samples
from srgui.inference.picture import PreparedPicture
from srgui.places import ROOT
from srgui.protocol import Box, Run, Setting, Source
from srgui.resample import resize
from srgui.restorers import open_restorer

SIDE, STRIP = 512, 512
SETTINGS = [Setting({"pixel": 0.9, "semantic": value}) for value in (0.3, 0.5, 0.7)]
MOVES = """async () => {
  const viewer = document.querySelector("#viewer .sv").viewer;
  const input = document.querySelector(".sv-scales input[name=semantic]");
  const blends = [], frames = [];
  const observer = new PerformanceObserver((list) => list.getEntriesByName("srgui:blend").forEach((e) => blends.push(e.duration)));
  observer.observe({ type: "measure" });
  for (let i = 0; i < 100; i++) {
    input.value = (i % 30) * 0.05;
    const begun = performance.now();
    input.dispatchEvent(new Event("input", { bubbles: true }));
    await new Promise((done) => requestAnimationFrame(done));
    frames.push(performance.now() - begun);
    await new Promise((done) => setTimeout(done, 20));
  }
  observer.disconnect();
  const { width, height } = viewer.view();
  return { blends, frames, size: [width, height] };
}"""
READY = "() => { const v = document.querySelector('#viewer .sv').viewer; return v.ready(v.result) && v.cache.settled; }"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--browser", action="store_true", help="measure the page too")
    options = parser.parse_args()
    compare_release(options.repeats)
    if options.browser:
        measure_page()


def compare_release(repeats: int) -> None:
    """Rendering from the planes beside one pass of the network."""
    restorer = open_restorer(pair=True)
    noise = torch.rand(1, 3, SIDE // 8, SIDE // 8, generator=torch.Generator().manual_seed(0))
    picture = Picture(to_samples(resize(noise, SIDE, SIDE), 8))
    prepared = PreparedPicture(restorer, picture, 4, Run())
    plain = open_restorer()
    for setting in SETTINGS:
        _render(prepared, setting)  # computes the planes
    renders, passes = [], []
    for repeat in range(repeats):
        renders.append(_timed(lambda r=repeat: _render(prepared, SETTINGS[r % len(SETTINGS)])))
        passes.append(_timed(lambda: plain.prepare(Source(prepared.lr), Run()).render(Setting(), Run())))
    ratio = statistics.median(a / b for a, b in zip(renders, passes, strict=True))
    render, network = statistics.median(renders), statistics.median(passes)
    print(f"release, {SIDE * 4} x {SIDE * 4}: {render:.3f} s; one pass of the network {network:.3f} s; ratio {ratio:.3f}")


def _render(prepared: PreparedPicture, setting: Setting) -> None:
    height, width = prepared.size
    layout = layout_of(".png", height, width, depth=8, grey=False, alpha=False)
    for top in range(0, height, STRIP):
        prepared.render(setting, Run(), layout, Box(top, 0, STRIP, width))


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def measure_page() -> None:
    """Moves of a slider in a real browser, without a graphics card."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with _server() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        for name, size in (("as it opens at 1280 x 800", (1280, 800)), ("of about a megapixel", (1720, 1000))):
            page = browser.new_context(viewport={"width": size[0], "height": size[1]}).new_page()
            page.goto(address)
            page.wait_for_selector("#pictures input[type=file]", state="attached", timeout=60_000)
            page.set_input_files("#pictures input[type=file]", ROOT / "assets" / "examples" / "coffee.png")
            page.wait_for_selector("#start:enabled")
            page.click("#start")
            page.wait_for_selector("#download:visible", timeout=120_000)
            page.wait_for_selector(".sv-scales input[name=semantic]")
            page.evaluate("() => document.querySelector('#viewer .sv').viewer.setZoom(3)")  # so that the picture fills the view
            page.wait_for_function(READY)
            page.wait_for_timeout(3000)  # whatever else the page does at first
            found = page.evaluate(MOVES)
            blend, frame = statistics.median(found["blends"]), statistics.median(found["frames"])
            width, height = found["size"]
            print(f"view {name}, {width} x {height}: blending {blend:.1f} ms, frame {frame:.1f} ms ({len(found['blends'])} blends)")
        browser.close()


@contextmanager
def _server() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "srgui", "serve", "--port", str(port)]
        log = Path(home, "server.log").open("w")  # noqa: SIM115 - closed when the server has ended
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "SRGUI_HOME": home}, stdout=log, stderr=subprocess.STDOUT)
        address = f"http://127.0.0.1:{port}"
        try:
            for _ in range(240):
                try:
                    urllib.request.urlopen(address, timeout=5).close()
                    break
                except OSError:
                    time.sleep(0.5)
            yield address
        finally:
            process.terminate()
            process.wait(20)
            log.close()


if __name__ == "__main__":
    main()
