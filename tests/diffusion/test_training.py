"""Training a pair on the tiny base: it learns, and touches nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn
from typer.testing import CliRunner

from srgui.cli import app
from srgui.diffusion.base import Precision, StableDiffusion, load_base
from srgui.diffusion.training import OneStep, OneStepLora
from srgui.errors import AdapterError, InputError, ModelError
from srgui.lora.adapter import Adapter
from srgui.lora.card import AdapterCard, Base
from srgui.lora.catalogue import load_adapter
from srgui.lora.live import attach_live
from srgui.lora.pisa import pisa_adapters, pisa_layers
from srgui.lora.targets import choose
from srgui.lora.trainable import LoraModel, LoraSpec
from srgui.models.cards import models_folder
from srgui.models.network import Network
from srgui.protocol import Run
from srgui.training.learner import adapted_by, learner
from srgui.training.objective import Objective
from srgui.training.pairs import Pairs, validation_pairs
from srgui.training.patches import Patches
from srgui.training.preflight import inspect, split
from srgui.training.presets import PISA
from srgui.training.recipe import Recipe
from srgui.training.trainer import Task, Trainer
from srgui.training.validation import Validation

PIXEL = replace(PISA["pisa"].recipe, patch=8, batch=2, steps=10, validate_every=10, lr=3e-3, held_out=1, degradation="bicubic")
SEMANTIC = replace(PIXEL, role="semantic", distil=0.1, prompt="a photograph")


@pytest.fixture
def base(base_folder: Path) -> StableDiffusion:
    return load_base(base_folder, torch.device("cpu"), Precision(torch.float32))


@pytest.fixture
def computer() -> Iterator[Accelerator]:
    AcceleratorState._reset_state(reset_partial_state=True)
    yield Accelerator(cpu=True)
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def task(tmp_path: Path, save_png: Callable[..., Path]) -> Callable[..., Task]:
    y, x = np.mgrid[0:64, 0:80]
    for index in range(3):
        waves = np.stack([np.sin(x / (9 + index) + y / 20), np.cos(y / (14 + index)), np.sign(x - y + 9 * index)], axis=2)
        save_png(tmp_path / "pictures" / f"{index}.png", (127 + 60 * waves).astype(np.uint8))

    def make(module: nn.Module, recipe: Recipe) -> Task:
        items, held = split(inspect([tmp_path / "pictures"], scale=4, patch=recipe.patch).usable(), 1, 0)
        patches = Patches(Pairs(items, 4, "bicubic"), patch=recipe.patch, seed=0)
        validation = Validation(validation_pairs(held, 4, "bicubic", 0), 4, None)
        return Task(Network(module, "PiSA-SR", 4), recipe, patches, len(items), validation, {"base": "tiny"})

    return make


def state(base: StableDiffusion) -> dict[str, torch.Tensor]:
    return {f"{part}.{n}": t.clone() for part in ("unet", "vae") for n, t in getattr(base, part).state_dict().items()}


def loss_of(model: nn.Module, task: Task, computer: Accelerator) -> float:
    """On four patches and with noise that are the same at every call."""
    lr, hr = (torch.stack(each) for each in zip(*(task.patches[sample] for sample in range(4)), strict=True))
    with torch.no_grad():
        return float(Objective(task.recipe, 4, computer)(model, model(lr), hr))


def test_the_presets_adapt_the_258_modules_of_the_real_unet(real_unet: nn.Module) -> None:
    for preset in PISA.values():
        assert choose(real_unet, preset.recipe.targets) == pisa_layers(real_unet)
        assert (preset.recipe.rank, preset.recipe.alpha) == ("4", 8)


def test_at_first_it_computes_what_the_base_does_and_its_names_are_the_unets(base: StableDiffusion) -> None:
    step = OneStep(base, 4)
    model = learner(step, PIXEL)
    assert isinstance(model, OneStepLora)
    assert model.names == pisa_layers(base.unet)
    assert sum(p.numel() for p in model.parameters()) == model.trainable == model.report.trainable
    x = torch.rand(2, 3, 12, 10, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(model(x), step(x), atol=1e-6)
    assert step(x).shape == (2, 3, 48, 40)


@pytest.mark.parametrize("stage", ["pixel", "semantic"])
def test_a_stage_lowers_its_loss_and_changes_nothing_but_its_own_adapter(
    base: StableDiffusion, task: Any, computer: Accelerator, tmp_path: Path, pair: dict[str, Any], stage: str
) -> None:
    pixel, _ = pisa_adapters(pair, base.unet, Base("tiny"), 4, "test")
    recipe = PIXEL if stage == "pixel" else SEMANTIC
    step = OneStep(base, 4, [(pixel, 1.0)] if stage == "semantic" else [], recipe.prompt)
    before, factors = state(base), {n: (f.A.clone(), f.B.clone()) for n, f in pixel.factors.items()}
    made = task(step, recipe)
    trainer = Trainer(made, tmp_path / "work", computer)
    start = {name: tensor.clone() for name, tensor in trainer.model.lora_state().items()}  # type: ignore[union-attr, operator]
    worse = loss_of(trainer.model, made, computer)
    outcome = trainer.train(Run(), lambda _: None)
    assert loss_of(trainer.model, made, computer) < 0.9 * worse
    after = state(base)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(torch.equal(a, pixel.factors[n].A) and torch.equal(b, pixel.factors[n].B) for n, (a, b) in factors.items())
    learned = outcome.model.lora_state()
    moved = [name for name in start if not torch.equal(start[name], learned[name])]
    assert len(moved) == len(start)
    assert outcome.losses == ("4 MSE" if stage == "pixel" else "4 MSE + 0.1 CSD")
    trained = adapted_by(step, [(adapter_of(outcome.model, recipe), 1.0)])
    x = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        assert torch.allclose(trained(x), outcome.model(x), atol=1e-5)


def adapter_of(model: LoraModel, recipe: Recipe) -> Adapter:
    card = AdapterCard("x", recipe.role, Base("tiny"), 4, recipe.rank, recipe.form, recipe.alpha)
    return Adapter(model.factors(), card)


def test_gradients_with_checkpointing_are_those_without(base: StableDiffusion, pair: dict[str, Any]) -> None:
    """Where a layer runs again in the backward pass it must be with its factors."""
    pixel, _ = pisa_adapters(pair, base.unet, Base("tiny"), 4, "test")
    step = OneStep(base, 4, [(pixel, 1.0)])
    model = OneStepLora(step, LoraSpec("2", 8.0, targets=PIXEL.targets), 1)
    with torch.no_grad():
        for up in model.lora_B:
            up.normal_(std=0.05, generator=torch.Generator().manual_seed(2))
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    found = []
    for checkpointed in (True, False):
        unet, vae = model._networks(torch.device("cpu"))
        for network in (unet, vae):
            network.enable_gradient_checkpointing() if checkpointed else network.disable_gradient_checkpointing()
        model.zero_grad()
        model(x).square().mean().backward()
        found.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert len(found[0]) == len(found[1]) == 2 * len(model.names)
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, atol=1e-7)
    assert max(gradient.abs().max() for gradient in found[0]) > 0


def test_the_base_is_not_copied_while_a_pair_learns(base: StableDiffusion) -> None:
    model = learner(OneStep(base, 4), PIXEL).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    unet, vae = model._networks(torch.device("cpu"))
    assert {p.data_ptr() for p in unet.parameters()} == {p.data_ptr() for p in base.unet.parameters()}
    assert {p.data_ptr() for p in vae.parameters()} == {p.data_ptr() for p in base.vae.parameters()}


def test_a_batch_in_small_parts_has_the_gradient_of_the_whole(
    base: StableDiffusion, task: Any, computer: Accelerator, tmp_path: Path
) -> None:
    found = []
    for micro in (0, 1):
        recipe = replace(PIXEL, micro=micro, steps=1, clip=0.0)
        trainer = Trainer(task(OneStep(base, 4), recipe), tmp_path / str(micro), computer)
        lr, hr = next(trainer._batches())
        value, sr = trainer._learn(lr, hr)
        assert sr.shape == hr.shape
        found.append([value, *(p.grad.clone() for p in trainer.model.parameters() if p.grad is not None)])
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    for a, b in zip(found[0][1:], found[1][1:], strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_distillation_is_left_out_where_it_weighs_nothing(base: StableDiffusion, computer: Accelerator) -> None:
    step = OneStep(base, 4)
    model = learner(step, PIXEL)
    assert isinstance(model, OneStepLora)
    x, y = torch.rand(1, 3, 16, 16), torch.rand(1, 3, 64, 64)
    sr = model(x)
    calls = []
    hook = step.unet.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        plain = Objective(PIXEL, 4, computer)(model, sr, y)
        assert not calls, "the teacher is the base itself, and it is not asked"
        distilled = Objective(replace(PIXEL, distil=0.5), 4, computer)(model, sr, y)
        assert len(calls) == 2
        assert distilled > plain
    finally:
        hook.remove()


def test_what_cannot_be_trained_is_refused(base: StableDiffusion, computer: Accelerator) -> None:
    step = OneStep(base, 4)
    with pytest.raises(InputError, match="only adapters"):
        learner(step, replace(PIXEL, method="full"))
    with pytest.raises(AdapterError, match="plain LoRA"):
        learner(step, replace(PIXEL, dora=True))
    plain = nn.Conv2d(3, 3, 1)
    with pytest.raises(InputError, match="distil is for models on Stable Diffusion"):
        Objective(replace(PIXEL, distil=1.0), 4, computer)(plain, torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8))


def test_what_was_trained_runs_in_the_restorer(base: StableDiffusion, opened: Any) -> None:
    """The step that is trained is the step that is made later: with both adapters, at (1, 1), without a colour fix."""
    from srgui.protocol import Setting, Source

    restorer = opened(process=0)
    step = OneStep(base, 4, [(adapter, 1.0) for adapter in restorer.own])
    x = torch.rand(1, 3, 14, 18, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        expected = step(x)
    ours = restorer.prepare(Source(x, {"colour": "none"}), Run()).render(Setting(), Run())
    assert torch.allclose(ours, expected, atol=1e-5)
    assert attach_live(base.unet, []) is not base.unet


def test_a_pair_is_trained_from_a_folder_and_used(
    base_folder: Path, tmp_path: Path, save_png: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two presets from the command line, on the tiny base; then a picture with what they gave."""
    for index in range(3):
        save_png(tmp_path / "pictures" / f"{index}.png", (64, 72 + index))
    folder = models_folder() / "tiny-sd"
    folder.mkdir(parents=True)
    card = {"schema": 1, "id": "tiny-sd", "family": "pisa-sr", "scale": 4, "title": "T", "licence": "none"}
    (folder / "card.json").write_text(json.dumps({**card, "parts": {"base": {"folder": str(base_folder)}}}))
    monkeypatch.setattr("srgui.tuning.result.ASSETS", tmp_path)  # whose examples take their time
    save_png(tmp_path / "examples" / "a.png", (48, 48))
    small = ["patch=8", "batch=2", "validate_every=2", "perceptual=0", "metric=psnr_y", "held_out=1", "lr=1e-3"]
    settings = [part for each in small for part in ("--set", each)]
    common = [str(tmp_path / "pictures"), "--model", "tiny-sd", "--steps", "2", "--workers", "0", "--device", "cpu", *settings]

    def call(*args: str) -> str:
        AcceleratorState._reset_state(reset_partial_state=True)
        done = CliRunner().invoke(app, list(args), catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    call("train", *common, "--name", "mine-pixel", "--preset", "pisa")
    call("train", *common, "--name", "mine-semantic", "--preset", "pisa-semantic", "--under", "mine-pixel")
    pixel, semantic = (load_adapter(f"mine-{role}") for role in ("pixel", "semantic"))
    assert (pixel.card.role, semantic.card.role) == ("pixel", "semantic")
    assert len(pixel.factors) == len(semantic.factors) == 73
    assert semantic.card.recipe["under"][0]["sha256"] == pixel.digest
    assert "CSD" in semantic.card.recipe["loss"]
    found = tmp_path / "out.png"
    pictures = [str(tmp_path / "examples" / "a.png"), "-o", str(found), "--outscale", "1"]
    call("upscale", *pictures, "--model", "tiny-sd", "--adapter", "mine-pixel", "--adapter", "mine-semantic", "--semantic", "0.5")
    assert found.exists()


def dry(preset: str, model: str, folder: Path, *args: str) -> dict[str, Any]:
    found = folder / "dry.json"
    words = ["train", str(folder), "--name", "x", "--preset", preset, "--model", model, "--dry-run", "--json", str(found), *args]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return dict(json.loads(found.read_text()))


@pytest.mark.parametrize("preset", ["pisa", "pisa-semantic"])
def test_a_dry_run_needs_neither_the_base_nor_its_pair(save_png: Callable[..., Path], tmp_path: Path, preset: str) -> None:
    for index in range(2):
        save_png(tmp_path / f"{index}.png", (64, 72 + index))
    found = dry(preset, "pisa-sr", tmp_path, "--set", "patch=8")
    assert (found["trainable"], found["modules"]) == (4_055_712, 258)
    assert found["total"] == 865_910_724 + 83_653_863
    small, large = (dry(preset, "pisa-sr", tmp_path, "--set", f"patch={patch}") for patch in (8, 16))
    assert 0 < small["memory"] < large["memory"]
    assert 0 < small["seconds"] < large["seconds"]


def test_the_presets_are_forecast_to_fit_24_gb(real_unet: nn.Module) -> None:
    from srgui.diffusion.base import meta_base
    from srgui.models.cards import find_card

    step = OneStep(meta_base(find_card("pisa-sr")), 4)
    for preset in PISA.values():
        _, memory = step.estimate(preset.recipe, torch.device("cpu"))
        assert 5e9 < memory < 16e9, "of 24 GB, in float32, before what LPIPS takes"
        assert preset.recipe.micro == 1


def test_without_the_base_and_its_shape_the_dry_run_says_what_is_missing(tmp_path: Path) -> None:
    folder = models_folder() / "bare"
    folder.mkdir(parents=True)
    card = {"schema": 1, "id": "bare", "family": "pisa-sr", "scale": 4, "title": "T", "licence": "none"}
    (folder / "card.json").write_text(json.dumps({**card, "parts": {"base": {"folder": str(tmp_path / "gone")}}}))
    with pytest.raises(ModelError, match="gone is not on this machine, nor its shape on the card of bare"):
        dry("pisa", "bare", tmp_path)
