"""What a training will take, measured on a few real steps before it starts."""

from __future__ import annotations

import time
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from srgui.models.network import Network
from srgui.training.learner import Composite, learner, mixed, trainable
from srgui.training.patches import Patches
from srgui.training.recipe import Recipe

_PATIENCE = 4.0  # seconds a full batch may take; beyond it, one patch stands for all
_STEPS = 3


def forecast(network: Network, recipe: Recipe, patches: Patches, steps: int, device: torch.device) -> dict[str, Any]:
    """Run some steps of the pixel loss on a copy of ``network``, and extrapolate; a composite estimates without running.

    Perceptual and adversarial losses come on top and are not measured. Memory is that of weights, gradients, optimizer and
    the activations kept for the backward pass.

    Returns:
        ``steps``, ``seconds_per_step``, ``seconds`` and ``memory`` in bytes.
    """
    if isinstance(network.module, Composite):
        seconds, peak = network.module.estimate(recipe, device)
        return {"steps": steps, "seconds_per_step": seconds, "seconds": seconds * steps, "memory": peak}
    module = learner(deepcopy(network.module), recipe).to(device).to(memory_format=torch.channels_last)
    model, free = replace(network, module=module), list(trainable(module).values())
    optimizer = torch.optim.AdamW(free, lr=0.0)
    one, kept = _step(model, optimizer, patches, 1)
    if one < _PATIENCE / 2:
        one, kept = _step(model, optimizer, patches, 1)  # the first pays for allocations
    seconds = one * recipe.batch
    if recipe.batch > 1 and seconds < _PATIENCE:
        seconds = min(_step(model, optimizer, patches, recipe.batch)[0] for _ in range(_STEPS))
    weights = sum(p.numel() * p.element_size() for p in module.parameters())
    learnt = sum(p.numel() * p.element_size() for p in free)
    memory = weights * 2 + learnt * 3 + kept * (recipe.micro or recipe.batch)
    return {"steps": steps, "seconds_per_step": seconds, "seconds": seconds * steps, "memory": int(memory)}


def _step(model: Network, optimizer: torch.optim.Optimizer, patches: Patches, batch: int) -> tuple[float, int]:
    """One step: its seconds, and the bytes kept for the backward pass."""
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    device = model.device
    begun = time.perf_counter()
    lrs, hrs = zip(*(patches[sample] for sample in range(batch)), strict=True)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), mixed(device):
        sr = model(torch.stack(lrs).to(device))
        loss = nn.functional.l1_loss(sr, torch.stack(hrs).to(device))
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    parameters = {p.untyped_storage().data_ptr() for p in model.module.parameters()}
    return time.perf_counter() - begun, sum(size for place, size in kept.items() if place not in parameters)
