"""What is minimised: pixel, perceptual and adversarial losses, weighted as the recipe says."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from srgui.errors import InputError
from srgui.lora.trainable import LoraModel
from srgui.training.discriminator import Discriminator
from srgui.training.losses import (
    grid_loss,
    jittered,
    load_perceptual,
    pixel_loss,
    relativistic_discriminator_loss,
    relativistic_generator_loss,
)
from srgui.training.recipe import Recipe


@runtime_checkable
class Distilling(Protocol):
    """A network that can be judged by the diffusion model it was made from."""

    def distil(self, generator: torch.Generator) -> Tensor:
        """The distillation loss of what it last computed; a scalar."""


def _distilling(model: nn.Module) -> Distilling:
    if not isinstance(model, Distilling):
        raise InputError("distil is for models on Stable Diffusion, and this is none; set it to 0")
    return model


class Objective:
    """The losses of a recipe; holds the discriminator and its optimizer where there is one.

    Raises:
        MetricUnavailable: the perceptual loss has no network on this machine.
    """

    def __init__(self, recipe: Recipe, scale: int, accelerator: Accelerator) -> None:
        self.recipe, self.scale, self.accelerator = recipe, scale, accelerator
        self._pixel = pixel_loss(recipe.loss)
        self._views = torch.Generator().manual_seed(recipe.seed)
        self._noise = torch.Generator().manual_seed(recipe.seed + accelerator.process_index)
        self.perceptual = load_perceptual(recipe.perceptual_net).to(accelerator.device) if recipe.perceptual else None
        self.discriminator: nn.Module | None = None
        if recipe.adversarial:
            with torch.random.fork_rng():
                torch.manual_seed(recipe.seed)
                network = Discriminator(recipe.discriminator)
            self._rate = recipe.lr_rest if recipe.optimizer == "muon" else recipe.lr
            optimizer = torch.optim.Adam(network.parameters(), lr=self._rate, betas=(recipe.beta1, recipe.beta2))
            self.discriminator, self.optimizer = accelerator.prepare(network, optimizer)

    def __call__(self, model: nn.Module, sr: Tensor, hr: Tensor) -> Tensor:
        """The loss of the network that made ``sr`` (N, 3, H, W) in [0, 1]; a scalar."""
        recipe = self.recipe
        loss = recipe.content * self._pixel(sr, hr) if recipe.content else sr.new_zeros(())
        if self.perceptual is not None:
            seen = jittered(sr, hr, recipe.jitter, self._views) if recipe.jitter else (sr, hr)
            loss = loss + recipe.perceptual * self.perceptual(*seen)
        if self.discriminator is not None:
            # Not through the wrapper: there a forward pass must be followed by a backward pass into the discriminator.
            judge = self.accelerator.unwrap_model(self.discriminator).requires_grad_(False)
            real, fake = judge(torch.cat([hr, sr])).chunk(2)
            loss = loss + recipe.adversarial * relativistic_generator_loss(real.detach(), fake)
        if recipe.grid:
            loss = loss + recipe.grid * grid_loss(sr, hr, self.scale)
        if recipe.distil:
            loss = loss + recipe.distil * _distilling(model).distil(self._noise)
        if recipe.norm_penalty and isinstance(model, LoraModel):
            loss = loss + recipe.norm_penalty * model.penalty()
        return loss

    def teach(self, sr: Tensor, hr: Tensor, rate: float) -> None:
        """One step of the discriminator, after the network's."""
        if self.discriminator is None:
            return
        self.accelerator.unwrap_model(self.discriminator).requires_grad_(True)
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate * rate
        self.optimizer.zero_grad()
        # In one batch: batch normalisation must not tell real from fake by their own statistics.
        real, fake = self.discriminator(torch.cat([hr, sr.detach()])).chunk(2)
        self.accelerator.backward(relativistic_discriminator_loss(real, fake))
        self.optimizer.step()

    @property
    def description(self) -> str:
        """What is minimised, for a card."""
        recipe = self.recipe
        parts = [f"{recipe.content:g} {recipe.loss.upper()}"] if recipe.content else []
        if self.perceptual is not None:
            views = f" of views resized by up to {recipe.jitter:.0%}" if recipe.jitter else ""
            parts.append(f"{recipe.perceptual:g} {self.perceptual.name}{views}")
        if recipe.adversarial:
            parts.append(f"{recipe.adversarial:g} relativistic adversarial")
        if recipe.grid:
            parts.append(f"{recipe.grid:g} grid")
        if recipe.distil:
            parts.append(f"{recipe.distil:g} CSD")
        if recipe.norm_penalty:
            parts.append(f"{recipe.norm_penalty:g} (|A|^2 + |B|^2)")
        return " + ".join(parts)

    def state(self) -> dict[str, Any]:
        views = {"views": self._views.get_state(), "noise": self._noise.get_state()}
        if self.discriminator is None:
            return views
        return {
            **views,
            "network": self.accelerator.unwrap_model(self.discriminator).state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        self._views.set_state(state["views"])
        self._noise.set_state(state["noise"])
        if self.discriminator is not None:
            self.accelerator.unwrap_model(self.discriminator).load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
