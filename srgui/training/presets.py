"""Named recipes, and the models they are made for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from srgui.errors import InputError, near
from srgui.models.cards import DEFAULT_MODEL
from srgui.training.recipe import Recipe

ESRGAN = "esrgan-x4"


@dataclass(frozen=True)
class Preset:
    """A recipe with the model it starts from by default, and a line that tells a person when to choose it.

    ``on_pixel``: what it trains lies on the pixel adapter of the model's pair, unless others are named.
    """

    recipe: Recipe
    model: str
    title: str
    description: str
    on_pixel: bool = False


_TRUNK = ("*.RDB*",)  # the dense blocks of RRDBNet, as spandrel names them

# Wang et al. 2018 (ESRGAN), Eq. 3: L_percep + 5e-3 L_Ra + 1e-2 L1.
_ESRGAN_LORA = Recipe(rank="4", lr=1e-4, content=1e-2, perceptual=1.0, adversarial=5e-3, metric="lpips", steps=5000, patience=0)
_TRUNK_MSE = Recipe(
    method="full",
    targets=_TRUNK,
    loss="mse",
    lr=1e-4,
    beta2=0.999,
    schedule="constant",
    warmup=0,
    ema=0.0,
    resize=256,
    batch=1,
    epochs=5,
    patience=0,
)

PRESETS: Mapping[str, Preset] = {
    "domain": Preset(
        Recipe(optimizer="muon", lr=5e-3),
        DEFAULT_MODEL,
        "Your own kind of pictures",
        "A small adapter on every layer, as faithful as possible to your pictures. The right choice to begin with.",
    ),
    "pixel": Preset(
        Recipe(
            role="pixel",
            degradation="realworld",
            rank="16",
            loss="mse",
            optimizer="muon",
            lr=5e-3,
            steps=2500,
            validate_every=250,
            patience=4,
        ),
        DEFAULT_MODEL,
        "A pair: restore (pixel)",
        "The first of a guided pair, as in PiSA-SR: removes blur, noise and JPEG, faithfully.",
    ),
    "semantic": Preset(
        Recipe(
            role="semantic",
            degradation="realworld",
            rank="16",
            loss="mse",
            content=2.0,
            perceptual=1.0,
            jitter=0.3,
            grid=150.0,
            adversarial=1e-2,
            discriminator=16,
            optimizer="muon",
            lr=5e-3,
            lr_rest=2e-4,
            batch=8,
            steps=1400,
            metric="lpips",
            validate_every=150,
            patience=0,
        ),
        DEFAULT_MODEL,
        "A pair: detail (semantic)",
        "The second of a guided pair, on top of the model's pixel adapter: adds texture, by perceptual and adversarial losses.",
        on_pixel=True,
    ),
    "full": Preset(
        Recipe(method="full", optimizer="muon", lr=5e-3),
        DEFAULT_MODEL,
        "Whole network",
        "Trains every weight and gives a whole model instead of an adapter; for comparison.",
    ),
    "esrgan-lora": Preset(
        _ESRGAN_LORA,
        ESRGAN,
        "ESRGAN + LoRA (paper)",
        "Rank 4 on all 351 convolutions; perceptual, adversarial and L1 losses. Needs a GPU to be pleasant.",
    ),
    "esrgan-lora-l1": Preset(
        replace(_ESRGAN_LORA, content=1.0, perceptual=0.0, adversarial=0.0, metric="psnr_y"),
        ESRGAN,
        "ESRGAN + LoRA, L1 only",
        "The same adapters with the L1 loss alone: faithful instead of crisp.",
    ),
    "esrgan-trunk": Preset(
        _TRUNK_MSE,
        ESRGAN,
        "ESRGAN trunk, MSE (report)",
        "Only the RRDB trunk trains, on whole pictures resized to 64 and 256 pixels, one at a time, for 5 epochs.",
    ),
    "esrgan-trunk-perceptual": Preset(
        replace(_TRUNK_MSE, content=0.0, perceptual=1.0, epochs=10, metric="lpips"),
        ESRGAN,
        "ESRGAN trunk, perceptual (report)",
        "The same with the perceptual loss, for 10 epochs.",
    ),
}

# Sun et al. 2024 (PiSA-SR, arXiv 2412.03017), section 4.1 and the released code, whose losses are taken on pictures in [-1, 1]:
# of a squared error that is four times what it is in [0, 1]. One patch at a time fits a GPU of 24 GB.
_PISA = Recipe(
    role="pixel",
    degradation="realworld",
    rank="4",
    alpha=8.0,
    targets=("*.to_q", "*.to_k", "*.to_v", "*.to_out.0", "*conv*", "*.proj_in", "*.proj_out", "*.ff.net.0.proj", "*.ff.net.2"),
    patch=128,
    batch=16,
    micro=1,
    loss="mse",
    content=4.0,
    lr=5e-5,
    beta2=0.999,
    decay=1e-2,
    schedule="constant",
    warmup=0,
    clip=1.0,
    ema=0.0,
    steps=4000,
    validate_every=500,
    patience=0,
)

PISA: Mapping[str, Preset] = {
    "pisa": Preset(
        _PISA,
        "pisa-sr",
        "PiSA-SR: restore (pixel)",
        "The first of a pair on Stable Diffusion: removes blur, noise and JPEG in one step. Needs a GPU of 24 GB.",
    ),
    "pisa-semantic": Preset(
        replace(_PISA, role="semantic", perceptual=2.0, perceptual_net="lpips-vgg", distil=1.0, steps=8500, metric="lpips"),
        "pisa-sr",
        "PiSA-SR: detail (semantic)",
        "The second, on the pixel adapter: LPIPS, and what Stable Diffusion itself thinks of the result.",
        on_pixel=True,
    ),
}

# Base models from random weights. SRCNN sees pictures already enlarged: its patches are smaller, and its few weights take
# more steps. A cooldown starts from the model before it and lets the rate fall to zero on smaller patches, into which small
# and sharp pictures fit; folders named several times are drawn more often.
_BASE = Recipe(
    method="full", optimizer="muon", lr=5e-3, patch=40, warmup=100, ema=0.998, validate_every=250, patience=0, held_out=16
)
BASES: Mapping[str, Recipe] = {
    "compact": replace(_BASE, steps=6500, horizon=11000),
    "compact-cooldown": replace(
        _BASE,
        lr=2e-3,
        lr_rest=4e-4,
        batch=24,
        patch=32,
        schedule="constant",
        warmup=0,
        steps=3000,
        cooldown=2000,
        decay=0.05,
        noisy=0.08,
        validate_every=125,
    ),
    "srcnn": replace(_BASE, patch=20, steps=3500, horizon=8000, cooldown=1500),
}


def presets_for(family: str) -> Mapping[str, Preset]:
    """The presets whose recipes fit models of ``family``."""
    return PISA if family == "pisa-sr" else PRESETS


def preset(name: str) -> Preset:
    """The preset of this name.

    Raises:
        InputError: there is none; near names are listed.
    """
    known = {**PRESETS, **PISA}
    if name not in known:
        raise InputError(f"there is no preset {name!r}. {near(name, known)}")
    return known[name]
