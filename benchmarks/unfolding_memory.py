"""What the three ways to share a denoiser cost in unfolding networks of nine stages, untrained.

    python -m benchmarks.unfolding_memory [--stages 9] [--rank 10%] [--patch 64] [--batch 4]

For each task and denoiser: parameters, without a matrix Phi; what training holds of them (parameters, gradients and Adam's
moments of what learns in the last phase; goal: lorun at most 40% of block); and the peak of a training step at the same batch,
which adds what the forward pass keeps for the backward pass. All are counted in bytes, so they hold on every machine.
"""

from __future__ import annotations

import argparse

import torch

from srgui.unfolding.compare import activations
from srgui.unfolding.design import TASKS, Design
from srgui.unfolding.network import Unfolding, count
from srgui.unfolding.sensing import Given

DENOISERS = {"resunet": (16, 32, 64, 64), "transformer": (24, 2)}


def measurement(design: Design, batch: int, patch: int) -> tuple[Given, torch.Tensor]:
    """A batch of noise as the network takes it in training, and what it should give."""
    wanted = torch.rand(batch, design.channels, patch, patch)
    if design.task == "sr":
        kernel = torch.full((batch, 1, 25, 25), 1 / 625)
        given = {"y": torch.rand(batch, 3, patch // 2, patch // 2), "kernel": kernel, "sf": torch.full((batch,), 2)}
        return {**given, "sigma": torch.zeros(batch)}, wanted
    return {"x": wanted, "mask": torch.ones(batch, 1, patch, patch)}, wanted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stages", type=int, default=9)
    parser.add_argument("--rank", default="10%")
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4)
    args = parser.parse_args()
    print(f"{args.stages} stages, LoRA of rank {args.rank}, {args.batch} patches of {args.patch} x {args.patch}")
    print("| task | denoiser | sharing | parameters | of block | learn last | state MB | of block | peak MB | of block |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for task in TASKS:
        for denoiser, widths in DENOISERS.items():
            block = (0, 0, 0)
            for sharing in ("block", "lorun", "single"):
                design = Design(task, args.stages, sharing=sharing, denoiser=denoiser, widths=widths, rank=args.rank)
                found = count(design)
                given, wanted = measurement(design, args.batch, args.patch)
                peak = found.memory + activations(Unfolding(design), 2 if sharing == "lorun" else 1, given, wanted)
                block = (found.total, found.memory, peak) if sharing == "block" else block
                shares = [f"{own / whole:.0%}" for own, whole in zip((found.total, found.memory, peak), block, strict=True)]
                print(
                    f"| {task} | {denoiser} | {sharing} | {found.total:,} | {shares[0]} | {found.trained:,} | "
                    f"{found.memory / 1e6:.1f} | {shares[1]} | {peak / 1e6:.0f} | {shares[2]} |"
                )


if __name__ == "__main__":
    main()
