from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from srgui.degradations import bicubic_lr
from srgui.errors import InputError, ModelError
from srgui.metrics import psnr, round_to_8bit
from srgui.models.cards import find_card
from srgui.models.load import load_network
from srgui.restorers import open_restorer
from srgui.training import base
from srgui.training.base import RECIPES, BaseRecipe, Result, parse_recipe, train_base, write_model
from srgui.training.muon import Muon, orthogonalise
from srgui.training.pairs import digest, load_pairs, patches, split

CPU = torch.device("cpu")
TINY = BaseRecipe(
    scale=2,
    features=4,
    convs=1,
    batch=4,
    patch=8,
    steps=6,
    horizon=100,
    cooldown=2,
    warmup=2,
    held_out=1,
    validate_every=3,
    lr_conv=2e-2,
    lr_rest=1e-2,
)


@pytest.fixture
def pictures(tmp_path: Path, save_png: Callable[..., Path]) -> Path:
    """Four synthetic pictures with edges and waves."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    y, x = np.mgrid[0:48, 0:60]
    for index in range(4):
        waves = np.stack([np.sin(x / (3 + index) + y / 9), np.cos(y / (4 + index)), np.sign(x - y + 5 * index)], axis=2)
        save_png(folder / f"{index}.png", (127 + 90 * waves).astype(np.uint8))
    return folder


def train(recipe: BaseRecipe, pictures: Path, work: Path) -> tuple[Result, list[dict[str, Any]]]:
    lines: list[dict[str, Any]] = []
    return train_base(recipe, [pictures], work, CPU, lines.append), lines


def same(a: Result, b: Result) -> bool:
    return a.weights.keys() == b.weights.keys() and all(torch.equal(a.weights[key], b.weights[key]) for key in a.weights)


# Training


@pytest.mark.parametrize("network", ["compact", "srcnn"])
def test_the_loss_on_a_fixed_batch_falls(pictures: Path, network: str) -> None:
    recipe = replace(TINY, network=network, steps=40)
    state = base._State(recipe, CPU)
    lr, hr = next(patches(load_pairs(split([pictures], 1, 0)[0], 2, 8), 4, 8, 0))
    losses = [state.train_step(lr, hr) for _ in range(30)]
    assert np.mean(losses[-5:]) < 0.7 * losses[0]


def test_validation_reports_what_the_kept_weights_reach(pictures: Path, tmp_path: Path) -> None:
    recipe = replace(TINY, steps=9)
    result, lines = train(recipe, pictures, tmp_path / "work")
    assert [line["step"] for line in lines] == [3, 6, 9]
    assert lines[-1]["best"] == max(line["psnr_y"] for line in lines)
    assert lines == [json.loads(line) for line in (tmp_path / "work" / "log.jsonl").read_text().splitlines()]
    network = recipe.build()
    network.load_state_dict(result.weights)
    (pair,) = load_pairs(split([pictures], 1, 0)[1], 2, 8)
    lr, hr = (torch.tensor(a).permute(2, 0, 1)[None] / 255 for a in (pair.lr, pair.hr))
    with torch.inference_mode():
        reached = psnr(round_to_8bit(network(lr)), hr, channel="Y", crop_border=2)
    assert result.report["validation_psnr_y"] == pytest.approx(reached, abs=0.002)


def test_a_resumed_run_gives_the_weights_of_an_uninterrupted_one(pictures: Path, tmp_path: Path) -> None:
    whole, _ = train(TINY, pictures, tmp_path / "whole")

    def stop(line: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_base(TINY, [pictures], tmp_path / "cut", CPU, stop)
    resumed, lines = train(TINY, pictures, tmp_path / "cut")
    assert [line["step"] for line in lines] == [6]
    assert same(whole, resumed)
    again, lines = train(TINY, pictures, tmp_path / "cut")  # nothing is left to do
    assert lines == []
    assert same(whole, again)


def test_the_seed_decides_the_weights(pictures: Path, tmp_path: Path) -> None:
    first, second, other = (train(replace(TINY, seed=s), pictures, tmp_path / n)[0] for s, n in ((1, "a"), (1, "b"), (2, "c")))
    assert same(first, second)
    assert not same(first, other)


def test_a_run_of_another_recipe_is_not_resumed(pictures: Path, tmp_path: Path) -> None:
    train(TINY, pictures, tmp_path / "work")
    with pytest.raises(InputError, match="belongs to another recipe; give the same options to resume it, or another folder"):
        train(replace(TINY, steps=9), pictures, tmp_path / "work")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04"])
def test_a_damaged_checkpoint_is_called_that(pictures: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "checkpoint.pt").write_bytes(content)
    with pytest.raises(InputError, match="checkpoint.pt is damaged; remove it"):
        train(TINY, pictures, tmp_path / "work")


@pytest.mark.parametrize("network", ["compact", "srcnn"])
def test_a_written_model_loads_and_runs(pictures: Path, tmp_path: Path, network: str) -> None:
    recipe = replace(TINY, network=network, steps=3)
    result, _ = train(recipe, pictures, tmp_path / "work")
    card = write_model("trained", recipe, result)
    assert find_card("trained") == card
    assert card.training["recipe"] == asdict(recipe)
    assert card.training["pictures_sha256"] == digest(split([pictures], 1, 0)[0])
    loaded = load_network(card.parts["weights"].path, CPU)
    assert loaded.scale == 2
    for key, value in loaded.module.state_dict().items():
        assert torch.equal(value, result.weights[key])
    assert open_restorer("trained", device="cpu").info.scale == 2
    write_model("trained", recipe, result)  # trained again, it is replaced


def test_a_model_is_not_written_elsewhere(home: Path) -> None:
    with pytest.raises(ModelError, match="cannot be a model's id"):
        write_model("../escaped", TINY, Result({}, {}))
    assert not home.exists()


def test_the_rate_rises_and_falls_to_zero() -> None:
    recipe = replace(TINY, steps=100, warmup=10, horizon=120, cooldown=20)
    rates = [recipe.rate(step) for step in range(101)]
    assert rates[0] < rates[5] < max(rates) <= 1
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[-1] == pytest.approx(0, abs=1e-9)


# Recipes


def test_options_change_fields() -> None:
    assert parse_recipe("compact", []) == RECIPES["compact"]
    changed = parse_recipe("srcnn", ["steps=7", "lr_conv=1e-3", "seed=0", "ema=0"])
    assert changed == replace(RECIPES["srcnn"], steps=7, lr_conv=1e-3, seed=0, ema=0.0)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("stesp=5", "no field 'stesp' to set. Did you mean steps"),
        ("network=srcnn", "no field 'network'"),
        ("steps", "steps= is not of type int; try steps="),
        ("steps=many", "steps=many is not of type int"),
        ("steps=1.5", "steps=1.5 is not of type int"),
        ("steps=0", "steps=0 is out of range"),
        ("batch=-1", "batch=-1 is out of range"),
        ("warmup=0", "warmup=0 is out of range"),
        ("held_out=0", "held_out=0 is out of range"),
        ("seed=-1", "seed=-1 is out of range"),
        ("ema=1", "ema=1 is out of range"),
        ("lr_conv=0", "lr_conv=0 is out of range"),
        ("lr_conv=nan", "lr_conv=nan is out of range"),
        ("lr_rest=inf", "lr_rest=inf is out of range"),
    ],
)
def test_a_wrong_option_is_refused(option: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_recipe("compact", [option])
    assert message in str(caught.value)


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(InputError, match="unknown network 'compcat'. Did you mean compact"):
        parse_recipe("compcat", [])


# Pairs


def test_patches_are_reproducible_and_a_resumed_stream_goes_on(pictures: Path) -> None:
    pairs = load_pairs(split([pictures], 1, 0)[0], 2, 8)
    stream, again, late = (patches(pairs, 3, 8, seed=5, skip=skip) for skip in (0, 0, 2))
    batches = [next(stream) for _ in range(4)]
    for batch in batches:
        assert all(torch.equal(a, b) for a, b in zip(batch, next(again), strict=True))
    for batch in batches[2:]:
        assert all(torch.equal(a, b) for a, b in zip(batch, next(late), strict=True))
    assert not torch.equal(batches[0][0], batches[1][0])
    assert not torch.equal(batches[0][0], next(patches(pairs, 3, 8, seed=6))[0])


@pytest.mark.parametrize("scale", [2, 4])
def test_patches_of_lr_and_hr_show_the_same_place(pictures: Path, scale: int) -> None:
    pairs = load_pairs(split([pictures], 1, 0)[0], scale, 8)
    lr, hr = next(patches(pairs, 16, 9, seed=0))
    assert lr.shape == (16, 3, 9, 9)
    assert hr.shape == (16, 3, 9 * scale, 9 * scale)
    assert 0 <= lr.min() < lr.max() <= 1
    for small, large in zip(lr, hr, strict=True):
        expected = bicubic_lr(large.mul(255).round().byte().permute(1, 2, 0).numpy(), scale)
        got = small.mul(255).round().byte().permute(1, 2, 0).numpy()
        assert np.abs(expected[2:-2, 2:-2].astype(int) - got[2:-2, 2:-2].astype(int)).max() <= 1


def test_pictures_too_small_for_a_patch_are_left_out(pictures: Path, save_png: Callable[..., Path]) -> None:
    small = [save_png(pictures / "small.png", (15, 90)), save_png(pictures / "dot.png", (1, 1))]
    large = pictures / "0.png"
    assert [pair.path for pair in load_pairs([*small, large], 2, 8)] == [large]
    with pytest.raises(InputError, match="none of 2 pictures has 16 pixels on both sides"):
        load_pairs(small, 2, 8)


def test_held_out_pictures_are_not_trained_on(pictures: Path) -> None:
    train_paths, held_out = split([pictures], 2, 3)
    assert len(held_out) == 2
    assert sorted(train_paths + held_out) == sorted(pictures.iterdir())
    assert split([pictures], 2, 3) == (train_paths, held_out)


@pytest.mark.parametrize("count", [0, 4, 5])
def test_more_cannot_be_held_out_than_there_is(pictures: Path, count: int) -> None:
    with pytest.raises(InputError, match=f"holds 4 pictures; held_out={count} must be at least 1 and fewer"):
        split([pictures], count, 0)


def test_the_digest_follows_names_contents_and_order(pictures: Path) -> None:
    paths = sorted(pictures.iterdir())
    assert digest(paths) == digest(list(paths))
    assert len({digest(paths), digest(paths[::-1]), digest(paths[:3])}) == 3


# Muon


@pytest.mark.parametrize("shape", [(8, 8), (48, 432), (48, 27), (64, 16), (1, 25)])
def test_orthogonalised_singular_values_are_near_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    result = orthogonalise(matrix * 1e-3)
    values = torch.linalg.svdvals(result)
    assert values.min() > 0.5
    assert values.max() < 1.3
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    assert ((left @ right) * result).sum() / result.norm() > 0.9 * min(shape) ** 0.5  # near the nearest orthogonal matrix


def test_muon_lowers_a_quadratic() -> None:
    target = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    weight = torch.zeros(6, 4, 3, 3, requires_grad=True)
    optimizer = Muon([weight], lr=0.05)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = (weight - target).square().mean()
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    assert losses[1] < losses[0]
    assert losses[-1] < 0.5 * losses[0]


def test_muon_steps_have_the_stated_size() -> None:
    weight = torch.zeros(32, 16, 3, 3, requires_grad=True)
    weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)) * 1e-4
    Muon([weight], lr=0.1).step()
    assert weight.detach().square().mean().sqrt().item() == pytest.approx(0.2 * 0.1, rel=0.25)
