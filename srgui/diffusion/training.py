"""PiSA-SR as something that the trainer can train: from an LR patch to an SR patch in one step.

The pixel adapter learns from the decoded pixels; the semantic one, on the frozen pixel adapter, from pixels, LPIPS and classifier
score distillation (arXiv 2412.03017, section 3.3). What the recipe says decides between them; here is what both need.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from srgui.diffusion.base import Precision, StableDiffusion, base_of, load_base, meta_base
from srgui.diffusion.blend import STEP
from srgui.diffusion.csd import NEGATIVE, csd_loss, draw
from srgui.diffusion.estimate import estimate_step
from srgui.diffusion.sizes import sizes_of, to_process
from srgui.errors import AdapterError
from srgui.lora.adapter import Adapter, check_fits
from srgui.lora.live import Parts, attach_live, with_live
from srgui.lora.trainable import LoraModel, LoraSpec, plan
from srgui.models.cards import Card
from srgui.models.network import Network
from srgui.resample import resize
from srgui.training.learner import lora_spec
from srgui.training.recipe import Recipe

Beneath = Sequence[tuple[Adapter, float]]


def open_trainable(card: Card, beneath: Beneath, prompt: str, weights: bool) -> Network:
    """The model of a card as a network of one step, in float32 on the CPU, with ``beneath`` frozen on its UNet.

    Args:
        prompt: what is in the pictures, for the distillation; the step itself is made with the empty prompt, as later in use.
        weights: otherwise it is on the meta device, only to be counted, and the base's weights need not be there.

    Raises:
        ModelError: the base cannot be used. AdapterError: an adapter is for another base.
    """
    base = load_base(base_of(card), torch.device("cpu"), Precision(torch.float32)) if weights else meta_base(card)
    for adapter, _ in beneath:
        check_fits(base.unet, adapter, base.digest)
    return Network(OneStep(base, card.scale, beneath, prompt), "PiSA-SR", card.scale, digest=base.digest)


class OneStep(nn.Module):
    """(N, 3, h, w) in [0, 1] -> (N, 3, h * scale, w * scale) in [0, 1], the whole picture at once.

    The base's weights are shared with everyone and never written; copies share them too.
    """

    def __init__(self, base: StableDiffusion, scale: int, beneath: Beneath = (), prompt: str = "") -> None:
        super().__init__()
        self.unet, self.vae = base.unet, base.vae
        self.source, self.scale, self.beneath, self.prompt = base, scale, tuple(beneath), prompt

    def forward(self, x: Tensor) -> Tensor:
        return self.restore(attach_live(self.unet, self.beneath), self.vae, x)[0]

    def restore(self, network: Any, vae: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        """The picture that ``network`` makes of ``x``, and its latent before it was decoded, scaled."""
        base = self.source
        sizes = sizes_of(x.shape[-2], x.shape[-1], self.scale, 0, base.factor)
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            z = vae.encode(to_process(x.float(), sizes, self.scale) * 2 - 1).latent_dist.mode() * base.scaling
        step = torch.tensor([STEP], device=x.device)
        noise = network(z, step, encoder_hidden_states=self.text("", z)).sample
        latent = z - noise.float()
        with torch.autocast(x.device.type, enabled=False):
            sr = vae.decode(latent / base.scaling).sample.clamp(-1, 1) / 2 + 0.5
        return sr if sizes.process == sizes.result else resize(sr, *sizes.result), latent

    def estimate(self, recipe: Recipe, device: torch.device) -> tuple[float, int]:
        """See :class:`srgui.training.learner.Composite`."""
        learnt = plan(self.unet, lora_spec(recipe)).trainable
        return estimate_step(self.source, learnt, recipe, self.scale, device)

    def text(self, prompt: str, latent: Tensor) -> Tensor:
        return self.source.prompt(prompt).to(latent).expand(latent.shape[0], -1, -1)

    def adapted(self, spec: LoraSpec, seed: int) -> LoraModel:
        """See :class:`srgui.training.learner.Composite`."""
        return OneStepLora(self, spec, seed)

    def attached(self, parts: Beneath) -> OneStep:
        """See :class:`srgui.training.learner.Composite`."""
        return OneStep(self.source, self.scale, [*self.beneath, *parts], self.prompt)

    def __deepcopy__(self, memo: dict[int, Any]) -> OneStep:
        return self.attached(())


class OneStepLora(LoraModel):
    """:class:`OneStep` with trainable factors on its UNet, named as the UNet names its layers.

    The factors are applied layer by layer, so that activations need not be kept: they are computed again in the backward pass
    (gradient checkpointing). A starts as N(0, 1 / rank), as in PiSA-SR's release.

    Raises:
        AdapterError: a target matches no layer, or the form is not ``conv``.
    """

    base: nn.Module

    def __init__(self, step: OneStep, spec: LoraSpec, seed: int) -> None:
        if spec.form != "conv" or spec.dora:
            raise AdapterError("a pair for PiSA-SR is plain LoRA in the form conv; leave out reshape and dora")
        super().__init__(step.unet, spec, seed)
        # Not as submodules: what is done to all of a learner's tensors must not copy the base's, which the teacher shares.
        del self._modules["base"]
        self.__dict__.update(base=step.unet, step=step, latent=None, networks=None)
        generator = torch.Generator().manual_seed(seed)
        for down, rank in zip(self.lora_A, self._ranks, strict=True):
            down.data.copy_(torch.randn(down.shape, generator=generator) / rank)

    def forward(self, x: Tensor) -> Any:
        """The SR picture; the latent is kept for :meth:`distil`."""
        unet, vae = self._networks(x.device)
        sr, self.__dict__["latent"] = self.step.restore(unet, vae, x)
        return sr

    def distil(self, generator: torch.Generator) -> Tensor:
        """The distillation loss of the last forward pass, by the UNet without adapters; a scalar."""
        step, latent = self.step, self.__dict__["latent"]

        def teacher(noisy: Tensor, at: Tensor, positive: bool) -> Tensor:
            prompt = step.text(step.prompt if positive else NEGATIVE, noisy)
            found: Tensor = step.unet(noisy, at, encoder_hidden_states=prompt).sample
            return found

        return csd_loss(teacher, latent, *draw(latent, generator))

    def _networks(self, device: torch.device) -> tuple[Any, Any]:
        """The UNet with live factors and the VAE, both on ``device``, sharing the base's weights."""
        if self.__dict__["networks"] is None or self.__dict__["networks"][0] != device:
            step = self.step.to(device)
            names = {*self.names, *(name for adapter, _ in step.beneath for name in adapter.factors)}
            parts = {name: self._beneath(name, device) for name in names}
            for name, factors in self._live():
                parts[name] = [*parts[name], (1.0, factors)]
            unet: Any = with_live(step.unet, parts)
            vae: Any = with_live(step.vae, {})
            unet.enable_gradient_checkpointing()
            vae.enable_gradient_checkpointing()
            self.__dict__["networks"] = device, unet, vae
        return self.__dict__["networks"][1:]

    def _beneath(self, name: str, device: torch.device) -> Parts:
        found = ((strength, adapter.factors[name]) for adapter, strength in self.step.beneath if name in adapter.factors)
        return [(strength, factors.map(lambda tensor: tensor.to(device))) for strength, factors in found]

    @property
    def step(self) -> OneStep:
        step: OneStep = self.__dict__["step"]
        return step
