"""PiSA-SR on a tiny base, beside the published algorithm written down directly."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor

from srgui.errors import AdapterError, Cancelled, InputError, MemoryLimitError, ModelError
from srgui.protocol import Box, Run, Setting, Source

SETTINGS = [(1.0, 1.0), (0.0, 0.0), (1.0, 0.0), (0.5, 1.2), (1.3, 0.4)]


def merged(unet: Any, content: dict[str, Any], tags: tuple[str, ...]) -> Any:
    """A UNet with factors of the official layout merged: W + 8 / rank * B A."""
    network = deepcopy(unet)
    state = content["state_dict_unet"]
    for tag in tags:
        scaling = 8 / content[f"lora_rank_unet_{tag}"]
        for group in ("encoder", "decoder", "others"):
            for name in content[f"unet_lora_{group}_modules_{tag}"]:
                down, up = (state[f"{name}.lora_{letter}.default_{group}_{tag}.weight"] for letter in "AB")
                weight = network.get_submodule(name).weight
                product = torch.einsum("or,r...->o...", up.flatten(1), down)
                weight.data = weight.data + scaling * product
    return network


@torch.no_grad()
def published(base: Any, content: dict[str, Any], x: Tensor, pixel: float, semantic: float) -> tuple[Tensor, Tensor]:
    """Latent residual and picture in [0, 1] of the published algorithm for ``x`` in [-1, 1], untiled, by the mode."""
    text = base.prompt("")
    z = base.vae.encode(x).latent_dist.mode() * 0.18215
    both = merged(base.unet, content, ("pix", "sem"))(z, torch.tensor([1]), text).sample
    if (pixel, semantic) == (1, 1):
        residual = both
    else:
        pix = merged(base.unet, content, ("pix",))(z, torch.tensor([1]), text).sample
        residual = pixel * pix + semantic * (both - pix)
    picture = base.vae.decode((z - residual) / 0.18215).sample.clamp(-1, 1)
    return residual, (picture * 0.5 + 0.5).clamp(0, 1)


@pytest.fixture
def lr(picture: Callable[..., Tensor]) -> Tensor:
    return picture(64, 72)


@pytest.mark.parametrize(("pixel", "semantic"), SETTINGS)
@pytest.mark.parametrize("ranks", [(4, 2), (4, 4)])
def test_agrees_with_the_published_algorithm(
    opened: Any, layout: Any, lr: Tensor, pixel: float, semantic: float, ranks: Any
) -> None:
    content = layout(opened.base.unet, ranks)
    restorer = opened(scale=1, content=content)
    run, setting = Run(), Setting({"pixel": pixel, "semantic": semantic})
    prepared = restorer.prepare(Source(lr, {"colour": "none"}), run)
    residual, expected = published(opened.base, content, lr * 2 - 1, pixel, semantic)
    picture = prepared.render(setting, run)
    assert torch.allclose(picture, expected, atol=1e-4)
    eps = {name: prepared.latent(name, run) for name in ("eps_pix", "eps_full")}
    ours = pixel * eps["eps_pix"] + semantic * (eps["eps_full"] - eps["eps_pix"])
    assert torch.allclose(ours, residual, atol=1e-4)
    assert pixel == semantic == 0 or residual.abs().mean() > 0.1
