"""Recipes of the two phases per task (LoRun, Algorithm 1): first the backbone, then the LoRA sets with the physics."""

from __future__ import annotations

from dataclasses import replace

from srgui.training.recipe import Recipe
from srgui.unfolding.design import Design, TaskName
from srgui.unfolding.network import PHASES

# The papers use Adam for days; Muon gets much further in the minutes of a CPU.
_COMMON = Recipe(
    method="full",
    degradation="kernels",
    form="reshape",
    loss="l1",
    optimizer="muon",
    lr=5e-3,
    lr_rest=3e-3,
    warmup=20,
    cooldown=0,
    decay=1.0,  # without it Muon lets the coarsest level grow until it diverges
    ema=0.99,
    metric="psnr",
    validate_every=100,
    patience=0,
    held_out=8,
)
_BY_TASK: dict[TaskName, Recipe] = {
    "sr": replace(_COMMON, patch=72, batch=6, steps=1500),
    "cs": replace(_COMMON, patch=96, batch=4, steps=800),
    # at the others' rate its backbone diverged after 200 steps
    "cassi": replace(_COMMON, patch=64, batch=2, steps=1500, lr=2e-3, lr_rest=1.5e-3, decay=2.0),
}


def recipe_for(design: Design, phase: int) -> Recipe:
    """The recipe of phase 1 (all of a network that has no LoRA) or 2 (LoRA, Phi, rho, lambda) of a task.

    A network that is trained in one phase, ``single`` or ``block``, learns as in phase 1.
    """
    recipe = replace(_BY_TASK[design.task], targets=PHASES[phase], rank=design.rank)
    # no higher rate than the backbone's: at 1e-2 the sets of SR diverged after 250 steps
    return replace(recipe, steps=recipe.steps // 2, decay=0.0) if phase == 2 else recipe
