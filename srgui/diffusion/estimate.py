"""What training a pair takes, from the shapes of the networks alone: time and memory of a step, before there are weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from srgui.diffusion.base import StableDiffusion
from srgui.diffusion.memory import operations_per_second, shapes_of
from srgui.training.learner import precision
from srgui.training.recipe import Recipe

_LEARNT = 4 * 4  # bytes for a parameter that learns: itself, its gradient and two moments, in float32
_UNITS = {"ResnetBlock2D", "BasicTransformerBlock", "UpDecoderBlock2D", "UNetMidBlock2D"}  # computed again in the backward pass


@dataclass(frozen=True)
class Kept:
    """Numbers that a network with gradient checkpointing keeps for its backward pass: ``all`` the way, and at most in one of the
    ``unit``s that are computed again; with ``weights``, the most that the parameters of one such unit are."""

    all: int
    unit: int
    weights: int


def estimate_step(base: StableDiffusion, learnt: int, recipe: Recipe, scale: int, device: torch.device) -> tuple[float, int]:
    """Seconds of a step and bytes at its peak, but for what LPIPS takes.

    A network whose layers learn is run four times: forwards, once more in the backward pass (gradient checkpointing), and there
    for the gradients of inputs and of weights; one that is only passed through three times. The distillation asks the UNet twice.

    Args:
        learnt: how many parameters learn.
    """
    costs, half = base.costs, precision(device) == "bf16"
    side = max(1, recipe.patch * scale // base.factor)
    unet, vae = (operations_per_second(device, torch.bfloat16 if each else torch.float32) for each in (half, False))
    passes = 4 + (2 if recipe.distil else 0)
    once = passes * costs.unet.operations / unet + (costs.encoder.operations + 3 * costs.decoder.operations) / vae
    of_unet, of_vae = _kept_by_unet(base, side), _kept_by_decoder(base, side)
    number = 2 if half else 4
    passing = max((of_vae.all + of_vae.unit) * 4, of_unet.unit * number)
    weights = sum(p.numel() for part in (base.unet, base.vae) for p in part.parameters()) * 4
    effective = 2 * of_unet.weights * 4  # and their gradients
    micro = recipe.micro or recipe.batch
    return recipe.batch * side**2 * once, weights + effective + learnt * _LEARNT + micro * (of_unet.all * number + passing)


def _kept_by_unet(base: StableDiffusion, side: int) -> Kept:
    text = torch.empty(1, 77, int(base.unet.config.cross_attention_dim), device="meta")  # type: ignore[union-attr, arg-type]
    latent, step = torch.empty(1, base.channels, side, side, device="meta"), torch.ones(1, dtype=torch.long, device="meta")
    return _kept(base.unet, lambda unet: unet(latent, step, encoder_hidden_states=text))


def _kept_by_decoder(base: StableDiffusion, side: int) -> Kept:
    latent = torch.empty(1, base.channels, side, side, device="meta")
    return _kept(base.vae, lambda vae: vae.decode(latent))


def _kept(module: nn.Module, call: Callable[[Any], object]) -> Kept:
    copy = shapes_of(module)
    outside, inside = 0, dict[str, int]()
    units = {name: list(unit.parameters()) for name, unit in _units(copy)}

    def note(name: str) -> Callable[..., None]:
        unit = next((each for each in units if name == each or name.startswith(f"{each}.")), None)

        def add(_layer: nn.Module, _inputs: object, output: object) -> None:
            nonlocal outside
            count = output.numel() if isinstance(output, Tensor) else 0
            if unit is None or name == unit:
                outside += count
            else:
                inside[unit] = inside.get(unit, 0) + count

        return add

    for name, layer in copy.named_modules():
        if name in units or not list(layer.children()):
            layer.register_forward_hook(note(name))
    with torch.no_grad():
        call(copy)
    weights = max((sum(p.numel() for p in of) for of in units.values()), default=0)
    return Kept(outside, max(inside.values(), default=0), weights)


def _units(module: nn.Module, above: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The outermost units by name."""
    for name, child in module.named_children():
        whole = f"{above}{name}"
        if type(child).__name__ in _UNITS:
            yield whole, child
        else:
            yield from _units(child, f"{whole}.")
