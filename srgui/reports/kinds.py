"""Which tables there are: what is trained for each, and what it is shown beside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from srgui.lora.targets import adaptable
from srgui.training.presets import preset
from srgui.training.recipe import Recipe, changed


@dataclass(frozen=True)
class Kind:
    """A paper's table.

    Attributes:
        trained: preset by the name of its row.
        beside: models that are rows too.
        about: what the paper did; ``published`` is what it measured, on other pictures than yours.
    """

    name: str
    title: str
    about: str
    published: str
    trained: Mapping[str, str]
    beside: tuple[str, ...] = ()


ESRGAN_LORA = Kind(
    "esrgan-lora",
    "ESRGAN + LoRA",
    "Repeats the tables of *Low Rank Adaptation in Deep Networks for Image Super Resolution*: a pretrained network before and "
    "after LoRA is trained on a new domain.",
    "Its authors measured, PSNR / SSIM before and after: FloodNet 24.18 / .536 and 25.45 / .601, Set5 23.73 / .684 and "
    "26.61 / .775, Set14 24.51 / .711 and 28.25 / .798.",
    {"LoRA": "esrgan-lora"},
)
ESRGAN_LORA_L1 = replace(ESRGAN_LORA, trained={"LoRA, L1": "esrgan-lora-l1"})
ESRGAN_FINETUNE = Kind(
    "esrgan-finetune",
    "Fine-tuning the trunk of ESRGAN",
    "Repeats the table of a report that trained only the trunk of ESRGAN on 80 pairs, with MSE and with a perceptual loss.",
    "Its authors measured, PSNR / SSIM / LPIPS: bicubic 25.76 / .661, SRCNN 27.55 / .726, ESRGAN 27.39 / .703 / .197, "
    "MSE 28.21 / .739 / .2205, perceptual 27.39 / .707 / .1257.",
    {"trunk, MSE": "esrgan-trunk", "trunk, perceptual": "esrgan-trunk-perceptual"},
    ("srgui-srcnn-x4",),
)


def recipe_for(name: str, module: nn.Module, changes: Mapping[str, Any]) -> Recipe:
    """The recipe of the preset ``name`` for a network ``module``, with ``changes``; a trunk's targets are :func:`trunk`.

    Raises:
        InputError: a change that cannot be, or the network has no trunk.
    """
    recipe = preset(name).recipe
    targets = trunk(module, recipe.targets) if recipe.method == "full" else recipe.targets
    return changed(recipe, {"targets": targets, **changes})


def trunk(module: nn.Module, targets: tuple[str, ...]) -> tuple[str, ...]:
    """``targets`` where the network has such layers, as RRDBNet has; elsewhere all its layers but the first and the last."""
    known = any(fnmatchcase(name, target) for name, _ in module.named_modules() for target in targets)
    return targets if known else tuple(adaptable(module))[1:-1]
