from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from srgui.errors import Cancelled, InputError, MemoryLimitError, ModelError
from srgui.inference import engine, planes
from srgui.inference.engine import FLOOR, Engine
from srgui.inference.planes import Computed, FloatStore
from srgui.inference.tiles import divide
from srgui.models.load import load_network
from srgui.models.network import Network
from srgui.protocol import Box, Run

Watch = Callable[..., Run]
Make = Callable[..., Tensor]


def run(network: Network, lr: Tensor, tile: int | None, how: Run | None = None) -> Tensor:
    height, width = lr.shape[-2] * network.scale, lr.shape[-1] * network.scale
    store = FloatStore(height, width)
    store.write(Box(0, 0, height, width), torch.full((1, 3, height, width), torch.nan))  # what is not written shows
    Engine(tile).run(network, lr, store, how or Run())
    return store.read(Box(0, 0, height, width))


def at_once(network: Network, lr: Tensor) -> Tensor:
    with torch.inference_mode():
        return network(lr).clone()


class Fussy(nn.Module):
    """Fails, as an allocation does, on inputs of more than ``most`` pixels on a side."""

    def __init__(self, inner: nn.Module, most: int, error: Exception) -> None:
        super().__init__()
        self.inner, self.most, self.error = inner, most, error

    def forward(self, x: Tensor) -> Tensor:
        if max(x.shape[-2:]) > self.most:
            raise self.error
        return self.inner(x)


FAILURES = [
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    MemoryError(),
]


# Exact tiling


@pytest.mark.parametrize(
    ("height", "width", "tile"),
    [(40, 50, 16), (40, 50, 17), (61, 47, 23), (61, 47, 60), (33, 33, 500), (1, 300, 16), (300, 1, 64), (1, 1, 16), (2, 3, 16)],
)
def test_tiled_equals_untiled(tiny: Network, picture: Make, height: int, width: int, tile: int) -> None:
    lr = picture(height, width)
    torch.testing.assert_close(run(tiny, lr, tile), at_once(tiny, lr), rtol=0, atol=1e-5)


def test_tiles_smaller_than_their_context_equal_untiled(tiny: Network, picture: Make) -> None:
    """A declared radius may be larger than the tile; the context then spans several neighbours."""
    lr = picture(50, 70)
    wide = replace(tiny, radius=20)
    torch.testing.assert_close(run(wide, lr, 16), at_once(tiny, lr), rtol=0, atol=1e-5)


def test_a_radius_that_is_too_small_would_show(tiny: Network, picture: Make) -> None:
    """The comparison above is sharp enough to see a context that lacks one pixel."""
    assert tiny.radius is not None
    lr = picture(40, 50)
    assert (run(replace(tiny, radius=tiny.radius - 1), lr, 16) - at_once(tiny, lr)).abs().max() > 1e-4


def test_automatic_tiles_equal_untiled(tiny: Network, picture: Make) -> None:
    lr = picture(30, 40)
    torch.testing.assert_close(run(tiny, lr, None), at_once(tiny, lr), rtol=0, atol=1e-5)


def test_automatic_tiles_follow_the_free_memory(tiny: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    sides = []
    for free in (0, 2**20, 2**24, 2**40):
        monkeypatch.setattr(engine, "free_memory", lambda device, free=free: free)
        sides.append(Engine().tile_for(tiny))
    assert sides == sorted(sides)
    assert sides[0] >= FLOOR
    assert sides[0] < sides[-1] <= 512


def test_the_forecast_counts_the_tiles_that_are_run(tiny: Network, picture: Make, watch: Watch) -> None:
    seen = watch()
    run(tiny, picture(40, 50), 16, seen)
    forecast = Engine(16).forecast(tiny, 40, 50)
    assert forecast.tiles == seen.of("tiles")[-1][1] == 12
    assert forecast.memory > 0
    assert forecast.seconds > 0


@pytest.mark.parametrize("tile", [0, 1, FLOOR - 1])
def test_a_tile_too_small_is_refused(tile: int) -> None:
    with pytest.raises(InputError, match=f"a tile of {tile} pixels is too small"):
        Engine(tile)


# Cross-fading where the radius is unknown


@pytest.mark.parametrize(
    ("height", "width", "tile"), [(40, 50, 16), (33, 95, 17), (100, 20, 32), (1, 100, 16), (17, 17, 16), (70, 66, 33)]
)
def test_cross_fading_leaves_a_pointwise_network_as_it_is(
    nearest: Callable[[int], nn.Module], picture: Make, height: int, width: int, tile: int
) -> None:
    network = Network(nearest(2), "Nearest", 2)
    assert network.radius is None
    lr = picture(height, width)
    torch.testing.assert_close(run(network, lr, tile), at_once(network, lr), rtol=0, atol=1e-6)


class Levels(nn.Module):
    """Fills each pass with a level of its own, so that the result shows which tile wrote what; fails once, before ``failing``."""

    def __init__(self, levels: list[float], failing: int | None = None) -> None:
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(1), requires_grad=False)
        self.levels, self.failing, self.used = levels, failing, 0

    def forward(self, x: Tensor) -> Tensor:
        if self.used == self.failing:
            self.failing = None
            raise FAILURES[0]
        self.used += 1
        return torch.full((1, 3, x.shape[-2] * 2, x.shape[-1] * 2), self.levels[self.used - 1])


def shares(length: int, tile: int, fade: int) -> Tensor:
    """(tiles, 2 * length): how much of each tile a line of pixels at x2 shows, with linear ramps over ``fade`` LR pixels."""
    edges = [*sorted({box.left for box in divide(Box(0, 0, 1, length), tile)}), length]
    at = (torch.arange(2 * length) + 0.5) / 2
    begun = [((at - edge) / fade + 0.5).clamp(0, 1) if edge else torch.ones(2 * length) for edge in edges]
    begun[-1] = torch.zeros(2 * length)
    return torch.stack([here - after for here, after in pairwise(begun)])


def blended(height: int, width: int, tile: int, levels: list[float]) -> Tensor:
    """What cross-fading should give: the shares down times the shares across."""
    sides = [box.height for box in divide(Box(0, 0, height, 1), tile)] * (height > tile)
    sides += [box.width for box in divide(Box(0, 0, 1, width), tile)] * (width > tile)
    fade = min([16, *sides]) // 2 * 2
    down, across = shares(height, tile, fade), shares(width, tile, fade)
    assert down.sum(dim=0).sub(1).abs().max() < 1e-6
    return down.T @ torch.tensor(levels[: len(down) * len(across)]).view(len(down), len(across)) @ across


sizes = st.integers(17, 90)
levels = st.lists(st.floats(0, 1, width=32), min_size=80, max_size=80)


@given(sizes, sizes, st.integers(16, 50), levels)
def test_cross_fading_gives_each_tile_its_share(height: int, width: int, tile: int, levels: list[float]) -> None:
    """So there is no seam: neighbouring pixels differ by no more than a step of the ramp."""
    result = run(Network(Levels(levels), "Levels", 2), torch.zeros(1, 3, height, width), tile)
    expected = blended(height, width, tile, levels)
    torch.testing.assert_close(result, expected.expand(1, 3, -1, -1), rtol=0, atol=1e-5)


@given(st.integers(40, 90), st.integers(40, 90), levels, st.integers(0, 3))
def test_cross_fading_survives_running_out_of_memory(height: int, width: int, levels: list[float], failing: int) -> None:
    """Tiles on two grids would leave seams where the one ends and the other begins."""
    tile = max(height, width) // 2 + 1
    boxes = divide(Box(0, 0, height, width), tile)
    failing = min(failing, len(boxes) - 1)
    smaller = max(FLOOR, max(boxes[failing].height, boxes[failing].width) // 2)
    result = run(Network(Levels(levels, failing), "Levels", 2), torch.zeros(1, 3, height, width), tile)
    expected = blended(height, width, smaller, levels[failing:])
    torch.testing.assert_close(result, expected.expand(1, 3, -1, -1), rtol=0, atol=1e-5)


# Running out of memory


@pytest.mark.parametrize("error", FAILURES, ids=["cuda", "cpu", "python"])
@pytest.mark.parametrize("exact", [True, False])
def test_out_of_memory_gives_smaller_tiles_and_the_same_result(
    tiny: Network, picture: Make, watch: Watch, error: Exception, exact: bool
) -> None:
    lr, seen = picture(90, 100), watch()
    most = 50 if exact else 85
    network = replace(tiny, module=Fussy(tiny.module, most, error), radius=tiny.radius if exact else None)
    result = run(network, lr, 90, seen)
    torch.testing.assert_close(result, at_once(tiny, lr), rtol=0, atol=1e-5)
    reports = seen.of("tiles")
    done, totals = [d for d, _ in reports], [t for _, t in reports]
    assert done == list(range(len(reports)))
    assert done[-1] == totals[-1] > totals[0] == 2
    assert all(a <= b for a, b in pairwise(totals))
    assert all(d <= t for d, t in reports)


def test_the_floor_itself_is_tried(tiny: Network, picture: Make, watch: Watch) -> None:
    """31 pixels do not halve into the floor of 16 evenly; the last try must not be left out, nor the floor gone below."""
    lr, seen = picture(31, 31), watch()
    network = replace(tiny, module=Fussy(tiny.module, FLOOR + 2 * tiny.tile_pad, FAILURES[0]))
    torch.testing.assert_close(run(network, lr, 31, seen), at_once(tiny, lr), rtol=0, atol=1e-5)
    assert seen.of("tiles")[-1] == (4, 4)


@pytest.mark.parametrize("error", FAILURES, ids=["cuda", "cpu", "python"])
@pytest.mark.parametrize("tile", [None, 64])
def test_no_memory_at_all_is_one_clear_line(tiny: Network, picture: Make, error: Exception, tile: int | None) -> None:
    network = replace(tiny, module=Fussy(tiny.module, 1, error))
    with pytest.raises(MemoryLimitError, match=r"not even a tile of \d+ pixels fits into the memory of cpu; close") as caught:
        run(network, picture(70, 70), tile)
    assert "\n" not in str(caught.value)


def test_no_memory_for_a_forecast_is_the_same_error(tiny: Network) -> None:
    with pytest.raises(MemoryLimitError):
        Engine().forecast(replace(tiny, module=Fussy(tiny.module, 1, FAILURES[0])), 100, 100)


def test_other_errors_pass_through(tiny: Network, picture: Make) -> None:
    network = replace(tiny, module=Fussy(tiny.module, 1, RuntimeError("mat1 and mat2 shapes cannot be multiplied")))
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        run(network, picture(40, 40), 32)


def test_nan_is_refused_not_saved_as_black(picture: Make) -> None:
    with pytest.raises(ModelError, match="gave NaN"):
        run(Network(Levels([torch.nan] * 9), "Levels", 2), picture(20, 20), 16)


# Cancelling


def test_cancel_stops_within_one_tile(nearest: Callable[[int], nn.Module], picture: Make, watch: Watch) -> None:
    module = nearest(2)
    with pytest.raises(Cancelled):
        run(Network(module, "Nearest", 2), picture(64, 64), 16, watch(limit=3))  # the start, and two tiles of 16
    assert module.calls == 2


def test_after_a_cancel_the_store_is_released_and_the_next_read_starts_again(
    tiny: Network, picture: Make, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []

    class Store(FloatStore):
        def close(self) -> None:
            closed.append(self)
            super().close()

    monkeypatch.setattr(planes, "store_for", Store)
    lr = picture(40, 40)
    plane = Computed((160, 160), lambda store, run: Engine(16).run(tiny, lr, store, run))
    whole = Box(0, 0, 160, 160)
    with pytest.raises(Cancelled):
        plane.read(whole, watch(limit=3))
    assert len(closed) == 1
    assert not plane.ready
    torch.testing.assert_close(plane.read(whole, Run()), at_once(tiny, lr), rtol=0, atol=1e-5)
    assert plane.ready
    plane.close()
    assert len(closed) == 2


def test_a_cancelled_run_starts_nothing(nearest: Callable[[int], nn.Module], picture: Make) -> None:
    module, cancelled = nearest(2), Run()
    cancelled.cancel()
    with pytest.raises(Cancelled):
        run(Network(module, "Nearest", 2), picture(20, 20), 16, cancelled)
    assert module.calls == 0


def test_a_child_run_is_cancelled_with_its_parent() -> None:
    parent = Run()
    child = parent.child(lambda progress: None)
    child.check()
    parent.cancel()
    with pytest.raises(Cancelled):
        child.check()


# What networks may ask for


class Grey(nn.Module):
    """A network of one channel that would notice if it got three."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pixel_shuffle(self.conv(x), 2)


def test_grey_networks_take_the_planes_one_by_one(picture: Make) -> None:
    module = Grey().requires_grad_(False)
    lr = picture(40, 37)
    result = run(Network(module, "Grey", 2, channels=1, radius=1), lr, 16)
    expected = torch.cat([module(lr[:, i : i + 1]) for i in range(3)], dim=1)
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(40, 50), (1, 1), (1, 33), (17, 3), (64, 64)])
def test_sizes_are_padded_to_what_the_network_can_take(
    nearest: Callable[[int], nn.Module], picture: Make, height: int, width: int
) -> None:
    module = nearest(3)
    network = Network(module, "Nearest", 3, radius=0, multiple_of=8, minimum=24)
    lr = picture(height, width)
    result = run(network, lr, 24)
    assert all(side % 8 == 0 and side >= 24 for size in module.sizes for side in size)
    assert torch.equal(result, lr.repeat_interleave(3, -1).repeat_interleave(3, -2))


def test_measuring_the_cost_leaves_no_hooks(tiny: Network) -> None:
    for network in (tiny, replace(tiny, module=Fussy(tiny.module, 1, FAILURES[0]))):
        with suppress(torch.OutOfMemoryError):
            assert network.cost[0] > 0
        assert not any(module._forward_hooks for module in network.module.modules())


def test_the_bundled_base_is_tiled_exactly(picture: Make) -> None:
    from srgui.models.cards import find_card

    network = load_network(Path(find_card("srgui-compact-x4").parts["weights"].path), torch.device("cpu"))
    lr = picture(45, 61)
    whole = at_once(network, lr)
    for tile in (16, 33, 60):
        torch.testing.assert_close(run(network, lr, tile), whole, rtol=0, atol=1e-5)
