"""How much the engine costs beside bare forward passes on the same weights, as ratios within one run, and its peak memory.

    python -m benchmarks.upscale_speed [--weights FILE] [--size 256] [--repeats 5]

Compared, on a picture of ``size`` x ``size`` LR pixels:
- engine:      this library, from LR tensor to SR tensor, tile size chosen by itself
- bare:        one forward pass, channels_last, nothing else
- plain:       one forward pass over the whole picture, contiguous, as a script would
- fixed tiles: 128-pixel tiles with 10 pixels of padding, pasted, as Real-ESRGAN's inference does with --tile 128
The runs are interleaved, and the ratio is the median over the repeats of ratios within one round.

The second part upscales 2048 x 2048 to 8192 x 8192 into a PNG in a process of its own and prints its peak above idle.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from srgui.models.cards import DEFAULT_MODEL
from srgui.places import ASSETS, ROOT
from srgui.protocol import Run, Setting, Source
from srgui.restorers import open_restorer

PEER = ROOT.parent / "shared" / "weights" / "realesr-general-x4v3.pth"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    bundled = ASSETS / "models" / DEFAULT_MODEL / "model.safetensors"
    parser.add_argument("--weights", type=Path, default=PEER if PEER.exists() else bundled)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        measure_memory(options.weights)
        return
    print(f"weights {options.weights.name}, {options.size} x {options.size} LR, {torch.get_num_threads()} threads")
    compare(options.weights, options.size, options.repeats)
    command = [sys.executable, __file__, "--memory", "--weights", str(options.weights)]
    subprocess.run(command, check=True, cwd=ROOT)


def compare(weights: Path, size: int, repeats: int) -> None:
    from spandrel import ModelLoader

    restorer = open_restorer(str(weights), device="cpu")
    lr = torch.rand(1, 3, size, size)
    contiguous = ModelLoader(device="cpu").load_from_file(weights).model.eval()
    last = ModelLoader(device="cpu").load_from_file(weights).model.eval().to(memory_format=torch.channels_last)
    lr_last = lr.contiguous(memory_format=torch.channels_last)
    scale = restorer.info.scale

    def engine() -> Tensor:
        prepared = restorer.prepare(Source(lr), Run())
        result = prepared.render(Setting(), Run())
        prepared.close()
        return result

    contenders: dict[str, Callable[[], Tensor]] = {
        "engine": engine,
        "bare": lambda: last(lr_last),
        "plain": lambda: contiguous(lr),
        "fixed tiles": lambda: fixed_tiles(contiguous, lr, scale),
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    with torch.inference_mode():
        for _ in range(2):
            outputs = {name: run() for name, run in contenders.items()}
        for _ in range(repeats):
            for name, run in contenders.items():
                start = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - start)
    for name, seconds in times.items():
        difference = (outputs[name] - outputs["bare"]).abs().max().item()
        print(f"{name:12} {statistics.median(seconds):7.3f} s   largest difference from bare {difference:.1e}")
    for other, goal in (("bare", "<= 1.10"), ("plain", "<= 0.65"), ("fixed tiles", "")):
        ratios = [a / b for a, b in zip(times["engine"], times[other], strict=True)]
        print(f"engine / {other:12} {statistics.median(ratios):.2f} {goal}")


def fixed_tiles(module: torch.nn.Module, lr: Tensor, scale: int, tile: int = 128, pad: int = 10) -> Tensor:
    height, width = lr.shape[-2:]
    out = lr.new_zeros(1, 3, height * scale, width * scale)
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            bottom, right = min(top + tile, height), min(left + tile, width)
            y, x = max(top - pad, 0), max(left - pad, 0)
            sr = module(lr[..., y : min(bottom + pad, height), x : min(right + pad, width)])
            part = sr[..., (top - y) * scale : (bottom - y) * scale, (left - x) * scale : (right - x) * scale]
            out[..., top * scale : bottom * scale, left * scale : right * scale] = part
    return out


def measure_memory(weights: Path) -> None:
    import numpy as np

    from srgui.images import Picture
    from srgui.inference.picture import PreparedPicture

    restorer = open_restorer(str(weights), device="cpu")
    rng = np.random.default_rng(0)
    small = Picture(rng.integers(0, 256, (64, 64, 3), np.uint8))
    large = Picture(np.kron(rng.integers(0, 256, (128, 128, 3), np.uint8), np.ones((16, 16, 1), np.uint8)))
    with tempfile.TemporaryDirectory() as folder:
        for picture, name in ((small, "small.png"), (large, "large.png")):
            idle = peak()
            prepared = PreparedPicture(restorer, picture, restorer.info.scale, Run())
            start = time.perf_counter()
            prepared.save(Path(folder) / name, Setting(), Run())
            seconds = time.perf_counter() - start
            prepared.close()
        height, width = prepared.size
        print(f"{width} x {height}: peak {(peak() - idle) / 1e9:.2f} GB above idle (< 1.5), {seconds:.0f} s with writing the PNG")


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
