"""What LoRA costs beside full fine-tuning and beside the base alone, as ratios within one run.

    python -m benchmarks.lora_speed [--model srgui-compact-x4] [--repeats 9]

- training step: forward and backward pass with the L1 loss and an AdamW step on one batch of 16 patches of 32 x 32 LR pixels,
  with LoRA of rank 8 on every layer / with every weight free (goal <= 1.05)
- inference: a picture of 160 x 160 LR pixels by a network with two adapters attached / by the base alone (goal <= 1.02)
- RRDBNet (23 blocks, random weights, rank 4): the training step on one patch, and its peak memory above that of the loaded
  network, each in a process of its own (LoRA must need less)

The contenders are interleaved, in an order that turns around from round to round; the ratio is the median of the ratios
within one round.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from srgui.lora.adapter import Adapter, attach
from srgui.lora.card import AdapterCard, Base
from srgui.lora.trainable import LoraModel
from srgui.models.build import build
from srgui.models.cards import DEFAULT_MODEL
from srgui.models.network import Network
from srgui.places import ROOT
from srgui.restorers import open_network
from srgui.training.learner import learner, trainable
from srgui.training.recipe import Recipe

LORA, FULL = Recipe(), Recipe(method="full")
PATCH, SIDE = 32, 160
RRDB_REPEATS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--rrdb", choices=("lora", "full"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rrdb:
        print(json.dumps(measure_rrdb(Recipe(method=options.rrdb, rank="4"))))
        return
    card, network = open_network(options.model)
    print(f"{card.id}, {network.parameters:,} parameters, {torch.get_num_threads()} threads")
    compare_steps(network, options.repeats)
    compare_inference(network, options.repeats)
    compare_rrdb()


def compare_steps(network: Network, repeats: int) -> None:
    steps = {name: step(network, recipe, LORA.batch) for name, recipe in (("LoRA", LORA), ("full", FULL))}
    report(interleaved(steps, repeats), "LoRA", "full", "<= 1.05", "training step")


def step(network: Network, recipe: Recipe, batch: int) -> Callable[[], None]:
    model = learner(network.module, recipe).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(trainable(model).values(), lr=1e-4)
    lr = torch.rand(batch, 3, PATCH, PATCH)
    hr = torch.rand(batch, 3, PATCH * network.scale, PATCH * network.scale)
    running = network.with_module(model)

    def run() -> None:
        optimizer.zero_grad()
        nn.functional.l1_loss(running(lr), hr).backward()
        optimizer.step()

    return run


def compare_inference(network: Network, repeats: int) -> None:
    parts = [(adapter(network, seed), 0.5) for seed in (1, 2)]
    networks = {"two adapters": network.with_module(attach(network.module, parts)), "base": network}
    lr = torch.rand(1, 3, SIDE, SIDE)

    def passes(one: Network) -> Callable[[], Tensor]:
        return lambda: one(lr)

    with torch.inference_mode():
        times = interleaved({name: passes(one) for name, one in networks.items()}, 2 * repeats)
    report(times, "two adapters", "base", "<= 1.02", "inference")


def adapter(network: Network, seed: int) -> Adapter:
    model = learner(network.module, Recipe(seed=seed))
    assert isinstance(model, LoraModel)
    with torch.no_grad():
        for factor in model.lora_B:
            factor.normal_(std=1e-3)
    return Adapter(model.factors(), AdapterCard("", "domain", Base("", None), network.scale, LORA.rank, LORA.form))


def compare_rrdb() -> None:
    found = {}
    for method in ("lora", "full"):
        command = [sys.executable, "-m", "benchmarks.lora_speed", "--rrdb", method]
        found[method] = json.loads(subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True).stdout)
    for name in ("seconds", "memory"):
        lora, full = found["lora"][name], found["full"][name]
        unit, share = ("s", 1.0) if name == "seconds" else ("GB", 1e-9)
        print(f"RRDBNet {name:10} LoRA {lora * share:.2f} {unit}, full {full * share:.2f} {unit}, LoRA / full {lora / full:.2f}")


def measure_rrdb(recipe: Recipe) -> dict[str, float]:
    network = build({"kind": "rrdb"})
    network.module.to(memory_format=torch.channels_last)
    before = peak()
    run = step(network, recipe, 1)
    run()
    (times,) = interleaved({"step": run}, RRDB_REPEATS).values()
    return {"seconds": statistics.median(times), "memory": peak() - before}


def interleaved(contenders: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of every contender in every round, after two rounds that do not count."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(-2, repeats):
        for name in list(contenders) if number % 2 else reversed(list(contenders)):
            start = time.perf_counter()
            contenders[name]()
            if number >= 0:
                times[name].append(time.perf_counter() - start)
    return times


def report(times: Mapping[str, list[float]], one: str, other: str, goal: str, what: str) -> None:
    ratio = statistics.median(a / b for a, b in zip(times[one], times[other], strict=True))
    seconds = ", ".join(f"{name} {statistics.median(values):.3f} s" for name, values in times.items())
    print(f"{what:14} {seconds}, {one} / {other} {ratio:.3f} {goal}")


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
