"""What PiSA-SR's adjustable mode costs beside its one-pass default, as ratios.

    python -m benchmarks.pisa_sr [--size tiny|real] [--side 128] [--tile N] [--device auto]

Random weights of Stable Diffusion's structure, a pair of rank 4: ``real`` has the sizes of Stable Diffusion 2.1 (5 GB of memory on
the CPU), ``tiny`` is the network of the tests. Each mode runs in a process of its own.

- seconds to prepare and render a picture of ``side`` x ``side`` LR pixels (goal <= 2.1 without the decoder)
- peak memory of the process, and on CUDA of the device (goal <= 1.15)
- a slider move beside the first picture
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from srgui.device import pick
from srgui.diffusion.base import Precision, StableDiffusion
from srgui.diffusion.pisa import PisaRestorer
from srgui.lora.adapter import Adapter
from srgui.lora.card import AdapterCard, Base
from srgui.lora.delta import Factors, factor_shapes
from srgui.lora.pisa import pisa_layers
from srgui.lora.targets import adaptable
from srgui.places import ROOT
from srgui.protocol import RestorerInfo, Run, Setting, Source

SHAPES: dict[str, dict[str, Any]] = {
    "real": {"block_out_channels": (320, 640, 1280, 1280), "layers_per_block": 2, "cross_attention_dim": 1024},
    "tiny": {"block_out_channels": (32, 64), "layers_per_block": 1, "cross_attention_dim": 32, "norm_num_groups": 8},
}
BLOCKS: dict[str, dict[str, Any]] = {
    "real": {"attention_head_dim": (5, 10, 20, 20)},
    "tiny": {
        "attention_head_dim": (2, 4),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    },
}
VAES: dict[str, dict[str, Any]] = {
    "real": {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2},
    "tiny": {"block_out_channels": (8, 16, 16, 16), "layers_per_block": 1, "norm_num_groups": 4},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SHAPES, default="tiny")
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--tile", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--mode", choices=("default", "adjustable"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.mode:
        print(json.dumps(measure(options.size, options.side, options.tile, options.device, options.mode)))
        return
    found = {mode: _in_a_process(mode) for mode in ("default", "adjustable")}
    one, two = found["default"], found["adjustable"]
    print(f"{options.size}, {options.side} x {options.side} LR pixels, {one['tiles']} tiles on {one['device']}")
    for key in ("planes", "prepare", "total", "memory", "device_memory"):
        ratio = f"  ratio {two[key] / one[key]:.3f}" if one[key] else ""
        print(f"{key:14} default {one[key]:10.2f}  adjustable {two[key]:10.2f}{ratio}")
    print(f"a slider move takes {two['move']:.2f} s, {two['move'] / two['total']:.2f} of the first picture")


def _in_a_process(mode: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.pisa_sr", *sys.argv[1:], "--mode", mode]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return dict[str, Any](json.loads(done.stdout.splitlines()[-1]))


def measure(size: str, side: int, tile: int | None, device: str, mode: str) -> dict[str, Any]:
    """Seconds for the planes, for preparing (encoding and planes), for all, and for a move of a slider; peak memory in MB."""
    restorer = build(size, device, tile)
    setting = Setting() if mode == "default" else Setting({"pixel": 0.9, "semantic": 0.6})
    lr = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    tiles = restorer.forecast(side, side).tiles
    # On a busy machine the processor's time says more than the wall's; of a GPU it says nothing.
    clock = time.process_time if restorer.base.device.type == "cpu" else time.perf_counter
    begun = clock()
    prepared = restorer.prepare(Source(lr), Run())
    encoded = clock()
    for name in restorer.guided.networks if mode == "adjustable" else ("eps_full",):
        prepared.latent(name, Run())
    predicted = clock()
    prepared.render(setting, Run())
    drawn = clock()
    move = 0.0
    if mode == "adjustable":
        prepared.render(Setting({"pixel": 0.7, "semantic": 1.1}), Run())
        move = clock() - drawn
    cuda = restorer.base.device.type == "cuda"
    return {
        "tiles": tiles,
        "device": str(restorer.base.device),
        "planes": predicted - encoded,
        "prepare": predicted - begun,
        "total": drawn - begun,
        "move": move,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "device_memory": torch.cuda.max_memory_allocated() / 2**20 if cuda else 0.0,
    }


def build(size: str, device: str, tile: int | None) -> PisaRestorer:
    """A restorer with random weights; no file is read and no text encoder is needed."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    place = pick(device)
    precision = Precision.on(place)
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, use_linear_projection=True, **SHAPES[size], **BLOCKS[size])
        vae = AutoencoderKL(latent_channels=4, **kinds, **VAES[size])
    parts = [_filled(unet, place, precision.unet), _filled(vae, place, precision.vae)]
    base = StableDiffusion(parts[0], parts[1], Path(), "0" * 64, place, precision)
    base._prompts[""] = torch.randn(1, 77, SHAPES[size]["cross_attention_dim"])
    own = tuple(_adapter(parts[0], role) for role in ("pixel", "semantic"))
    return PisaRestorer(base, RestorerInfo("random", "Random", "pisa-sr", 4, ""), own=own, tile=tile)


def _filled(part: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Small random weights; those of norms are 1."""
    torch.manual_seed(0)
    part = torch.nn.Module.to(part, dtype=dtype).to_empty(device=device).eval().requires_grad_(False)
    for name, parameter in part.named_parameters():
        parameter.fill_(1.0) if "norm" in name and name.endswith("weight") else parameter.uniform_(-0.02, 0.02)
    return part


def _adapter(unet: Any, role: Any) -> Adapter:
    layers, factors = adaptable(unet), {}
    for name in pisa_layers(unet):
        down, up = factor_shapes(layers[name], 4, "conv")
        factors[name] = Factors(torch.randn(down) / 4, torch.randn(up) * 1e-3, 4, 2.0)
    return Adapter(factors, AdapterCard(role, role, Base("random"), 4, "4", "conv", 8.0))


if __name__ == "__main__":
    main()
