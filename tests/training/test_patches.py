from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from srgui.degradations import bicubic_lr, degrade, rng_for
from srgui.errors import InputError
from srgui.training.pairs import Pairs
from srgui.training.patches import Batch, Patches, batches
from srgui.training.preflight import Item, inspect

PATCH, SCALE = 9, 2


@pytest.fixture
def items(tmp_path: Path, save_png: Callable[..., Path]) -> list[Item]:
    """Three pictures of different sizes, smooth, with edges."""
    y, x = np.mgrid[0:90, 0:120]
    for index, (height, width) in enumerate(((90, 120), (40, 52), (60, 61))):
        waves = np.stack([np.sin(x / (3 + index) + y / 9), np.cos(y / (4 + index)), np.sign(x - y + 5 * index)], axis=2)
        save_png(tmp_path / "hr" / f"{index}.png", (127 + 90 * waves[:height, :width]).astype(np.uint8))
    return inspect([tmp_path / "hr"], scale=SCALE, patch=PATCH).usable()


@pytest.fixture
def make(items: list[Item]) -> Callable[..., Patches]:
    def build(degradation: str = "bicubic", *, seed: int = 5, noisy: float = 0.0, size: int | None = None) -> Patches:
        return Patches(Pairs(items, SCALE, degradation, size=size), patch=PATCH, seed=seed, noisy=noisy)

    return build


def same(a: Batch, b: Batch) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def take(
    patches: Patches, batch: int, count: int, *, first_step: int = 0, rank: int = 0, world: int = 1, workers: int = 0
) -> list[Batch]:
    with closing(batches(patches, batch, first_step=first_step, rank=rank, world=world, workers=workers)) as stream:
        return list(islice(stream, count))


def pixels(image: Tensor) -> np.ndarray:
    """(3, h, w) in [0, 1] -> (h, w, 3) uint8, which it must be on the grid of."""
    grid = image * 255
    assert torch.allclose(grid, grid.round(), atol=1e-4)
    return grid.round().byte().permute(1, 2, 0).numpy()


# Samples


@pytest.mark.parametrize("degradation", ["bicubic", "camera", "realworld", "kernels", "custom:blur=1"])
def test_a_sample_has_its_size_and_range(make: Callable[..., Patches], degradation: str) -> None:
    patches = make(degradation)
    for sample in range(12):
        lr, hr = patches[sample]
        assert (lr.shape, hr.shape) == ((3, PATCH, PATCH), (3, PATCH * SCALE, PATCH * SCALE))
        assert lr.dtype == hr.dtype == torch.float32
        assert 0 <= lr.min() < lr.max() <= 1
        assert lr.is_contiguous()
        pixels(lr)
        pixels(hr)


@pytest.mark.parametrize("degradation", ["bicubic", "camera"])
def test_a_sample_depends_on_seed_and_number_alone(make: Callable[..., Patches], degradation: str) -> None:
    one, again, other = make(degradation), make(degradation), make(degradation, seed=6)
    wanted = [one[sample] for sample in range(6)]
    assert all(same(again[sample], wanted[sample]) for sample in (5, 0, 3, 3))
    assert all(not same(a, b) for a, b in pairwise(wanted))
    assert not same(other[0], wanted[0])


@pytest.mark.parametrize("degradation", ["bicubic", "custom:blur=0.4-1.2"])
def test_lr_and_hr_show_the_same_place(make: Callable[..., Patches], degradation: str) -> None:
    patches = make(degradation)
    for sample in range(24):
        lr, hr = (pixels(image).astype(int) for image in patches[sample])
        expected = bicubic_lr(hr.astype(np.uint8), SCALE).astype(int)
        inner = np.abs(expected - lr)[2:-2, 2:-2]
        assert inner.max() <= 1 if degradation == "bicubic" else inner.mean() < 12


@pytest.mark.parametrize("degradation", ["custom:blur=1.1-1.2,jpeg=100", "custom:blur=1.5-1.6", "kernels"])
def test_a_patch_is_cut_from_the_degraded_whole(
    make: Callable[..., Patches], degradation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blur, noise and the border of a crop do not come into a patch that another cut would not show."""
    monkeypatch.setattr("srgui.degradations.light.jpeg", lambda image, quality: image)
    patches = make(degradation)
    hr = patches.pairs[0].hr
    whole = degrade(degradation, hr, SCALE, rng_for(1, "a"))
    rng = np.random.default_rng(0)
    for _ in range(60):
        top, left = (int(rng.choice([0, length - PATCH, rng.integers(length - PATCH + 1)])) for length in whole.shape[:2])
        monkeypatch.setattr(
            "srgui.training.patches.degrade", lambda text, region, scale, _: degrade(text, region, scale, rng_for(1, "a"))
        )
        got = patches._degraded(hr, top, left, rng)
        assert np.array_equal(got, whole[top : top + PATCH, left : left + PATCH])


def test_all_turns_places_and_pictures_come(make: Callable[..., Patches]) -> None:
    patches = make()
    wholes = [patches.pairs[index].hr for index in range(3)]
    views = {}
    for index, hr in enumerate(wholes):
        for turns in range(4):
            for flip in (False, True):
                turned = np.rot90(hr, turns)[:, ::-1] if flip else np.rot90(hr, turns)
                side = PATCH * SCALE
                for top in range(0, turned.shape[0] - side + 1, SCALE):
                    for left in range(0, turned.shape[1] - side + 1, SCALE):
                        views[turned[top : top + side, left : left + side].tobytes()] = (index, turns, flip)
    seen = Counter(views[pixels(patches[sample][1]).tobytes()] for sample in range(600))
    assert {(turns, flip) for _, turns, flip in seen} == {(turns, flip) for turns in range(4) for flip in (False, True)}
    roots = np.array([np.sqrt(height * width) for height, width in (patches.pairs.lr_size(index) for index in range(3))])
    shares = [sum(count for (index, _, _), count in seen.items() if index == wanted) / 600 for wanted in range(3)]
    assert shares == pytest.approx(list(roots / roots.sum()), abs=0.07)


def test_a_random_degradation_is_drawn_anew(items: list[Item]) -> None:
    """Of a picture that is but one patch, only the draw changes."""
    patches = Patches(Pairs(items[1:2], SCALE, "custom:noise=2-20"), patch=20, seed=0)
    levels = []
    for lr, hr in (patches[sample] for sample in range(20)):
        clean = bicubic_lr(pixels(hr), SCALE).astype(int)
        levels.append((pixels(lr) - clean).std())
    assert 2 < min(levels) < 8
    assert 12 < max(levels) < 20


def test_a_share_of_patches_is_noisy(make: Callable[..., Patches]) -> None:
    clean, some, every = make(), make(noisy=0.3), make(noisy=1.0)
    changed = [not same(clean[sample], some[sample]) for sample in range(200)]
    assert 0.2 < np.mean(changed) < 0.4
    for sample in range(20):
        assert torch.equal(clean[sample][1], every[sample][1])
        assert not torch.equal(clean[sample][0], every[sample][0])


def test_pictures_too_small_for_a_patch_are_refused(items: list[Item]) -> None:
    with pytest.raises(InputError, match="3 pictures, the smallest LR of 20 pixels, give no patches of 21"):
        Patches(Pairs(items, SCALE, "bicubic"), patch=21, seed=0)
    with pytest.raises(InputError, match="0 pictures"):
        Patches(Pairs([], SCALE, "bicubic"), patch=8, seed=0)


@pytest.mark.parametrize("degradation", ["bicubic", "camera"])
def test_resized_pictures_come_once_per_epoch(make: Callable[..., Patches], degradation: str) -> None:
    patches = make(degradation, size=16)
    wholes = [patches.pairs[index].hr.tobytes() for index in range(3)]
    orders = []
    for epoch in range(12):
        shown = [patches[epoch * 3 + place] for place in range(3)]
        assert all((lr.shape, hr.shape) == ((3, 8, 8), (3, 16, 16)) for lr, hr in shown)
        orders.append(tuple(wholes.index(pixels(hr).tobytes()) for _, hr in shown))
        assert sorted(orders[-1]) == [0, 1, 2]
    assert len(set(orders)) > 2


# Batches


def test_a_resumed_stream_goes_on(make: Callable[..., Patches]) -> None:
    whole = take(make("camera"), 3, 4)
    late = take(make("camera"), 3, 2, first_step=2)
    assert all(same(a, b) for a, b in zip(whole[2:], late, strict=True))
    assert whole[0][0].shape == (3, 3, PATCH, PATCH)


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_divide_a_batch(make: Callable[..., Patches], world: int) -> None:
    whole = take(make(), 6, 3)
    parts = [take(make(), 6, 3, rank=rank, world=world) for rank in range(world)]
    for step, (lr, hr) in enumerate(whole):
        for rank in range(world):
            assert same(parts[rank][step], (lr[rank::world], hr[rank::world]))


@pytest.mark.parametrize(("batch", "world"), [(5, 2), (0, 1), (2, 4)])
def test_a_batch_that_ranks_cannot_divide_is_refused(make: Callable[..., Patches], batch: int, world: int) -> None:
    with pytest.raises(InputError, match=f"a batch of {batch} cannot be divided among {world} processes"):
        batches(make(), batch, first_step=0, world=world)


@pytest.mark.parametrize("fits", [True, False])
def test_workers_change_nothing_and_end(make: Callable[..., Patches], fits: bool) -> None:
    expected = take(make("camera", noisy=0.5), 4, 5, first_step=3, rank=1, world=2)
    patches = make("camera", noisy=0.5)
    if not fits:
        patches.pairs.budget = 20_000
    before = torch.get_rng_state()
    with closing(batches(patches, 4, first_step=3, rank=1, world=2, workers=2)) as stream:
        got = list(islice(stream, 5))
        assert len(multiprocessing.active_children()) == 2
    assert multiprocessing.active_children() == []
    assert all(same(a, b) for a, b in zip(expected, got, strict=True))
    assert torch.equal(torch.get_rng_state(), before)  # the stream draws nothing from the generator of the training
    assert fits == (patches.pairs.budget != 20_000)


def test_workers_end_with_whoever_uses_them(make: Callable[..., Patches]) -> None:
    def train() -> None:
        for _ in batches(make(), 2, first_step=0, workers=1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train()
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_is_gone_is_told_in_one_line(make: Callable[..., Patches], items: list[Item], workers: int) -> None:
    patches = make()
    patches.pairs.budget = 0
    for item in items:
        item.path.unlink()
    with pytest.raises(InputError, match=r"\.png does not exist; check the name$") as caught:
        take(patches, 2, 1, workers=workers)
    assert "\n" not in str(caught.value)
    del caught
    assert multiprocessing.active_children() == []
