"""Denoisers, stages and what they share: published counts, ratios of the paper, and that a LoRA changes nothing at first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from srgui.errors import InputError
from srgui.lora.trainable import LoraSet
from srgui.unfolding.denoisers import build_denoiser
from srgui.unfolding.denoisers.resunet import ResUNet
from srgui.unfolding.design import Design, read_design
from srgui.unfolding.kernels import the_twelve
from srgui.unfolding.network import Unfolding, count
from srgui.unfolding.physics import gradient_step
from srgui.unfolding.sensing import HyPaNet, enlarged
from srgui.unfolding.unknown import LearnedPair

TASKS = ("sr", "cs", "cassi")
SMALL = {"resunet": (4, 6), "transformer": (4, 1)}


def design(task: str, sharing: str = "lorun", denoiser: str = "resunet", **more: Any) -> Design:
    more = {"stages": 3, "widths": SMALL[denoiser], "bands": 4, "ratio": 2.0, "hidden": 4, **more}
    return Design(task=task, sharing=sharing, denoiser=denoiser, **more)  # type: ignore[arg-type]


def given(task: str, batch: int = 2) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(3)
    if task == "sr":
        kernel = the_twelve()[:batch, None, 8:17, 8:17]
        y = torch.rand(batch, 3, 8, 9, generator=draw)
        return {"y": y, "kernel": kernel, "sf": torch.full((batch,), 2), "sigma": torch.full((batch,), 0.01)}
    if task == "cs":
        return {"x": torch.rand(batch, 1, 32, 64, generator=draw)}
    return {"x": torch.rand(batch, 4, 10, 12, generator=draw), "mask": torch.rand(batch, 1, 10, 12, generator=draw)}


def total(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def disturbed(network: Unfolding) -> Unfolding:
    """The same with random weights where it starts with zeros."""
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network


def test_the_published_parameter_counts() -> None:
    assert total(ResUNet()) == 588_784
    assert total(ResUNet(3, (64, 128, 256, 512))) + total(HyPaNet(8, 64)) == 17_016_016
    assert total(HyPaNet(6, 32)) == 1_548
    assert total(Unfolding(Design(stages=6, sharing="single"))) == 590_332


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("denoiser", "widths", "most"), [("resunet", (16, 32, 64, 64), 0.4), ("transformer", (24, 2), 0.6)])
def test_nine_stages_of_lorun_have_a_part_of_the_parameters_of_nine_denoisers(
    task: str, denoiser: str, widths: tuple[int, ...], most: float
) -> None:
    lorun = Design(task=task, denoiser=denoiser, widths=widths)  # type: ignore[arg-type]
    assert lorun.stages == 9
    assert lorun.rank == "10%"
    ours, theirs = count(lorun), count(lorun.but(sharing="block"))
    assert ours.total <= most * theirs.total
    assert ours.memory <= 0.4 * theirs.memory


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("denoiser", SMALL)
@pytest.mark.parametrize("step", ["hqs", "pgd"])
def test_every_denoiser_serves_every_task_with_every_step(task: str, denoiser: str, step: str) -> None:
    network = disturbed(Unfolding(design(task, "lorun", denoiser, step=step)))
    measured = given(task)
    outputs = list(network.outputs(measured))
    height, width = (16, 18) if task == "sr" else measured["x"].shape[-2:]
    assert len(outputs) == 3
    for output in outputs:
        assert output.shape == (2, network.design.channels, height, width)
        assert output.isfinite().all()
    assert torch.equal(network(measured), outputs[-1])


@pytest.mark.parametrize("task", TASKS)
def test_a_picture_does_not_depend_on_others_in_its_batch(task: str) -> None:
    network = disturbed(Unfolding(design(task)))
    measured = given(task)
    together = network(measured)
    alone = network({name: tensor[1:] for name, tensor in measured.items()})
    assert torch.allclose(together[1:], alone, atol=1e-5)


@pytest.mark.parametrize("denoiser", SMALL)
@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("size", [(1, 1), (7, 13), (70, 9)], ids=str)
def test_denoisers_take_any_size(denoiser: str, skip: bool, size: tuple[int, int]) -> None:
    module = build_denoiser(denoiser, 2, SMALL[denoiser], skip)
    assert module(torch.rand(1, 3, *size)).shape == (1, 2, *size)


@pytest.mark.parametrize("denoiser", SMALL)
def test_a_denoiser_that_adds_starts_by_adding_nothing(denoiser: str) -> None:
    x = torch.rand(1, 3, 12, 10)
    assert torch.equal(build_denoiser(denoiser, 2, SMALL[denoiser], True)(x), x[:, :2])


def test_shuffled_attention_reaches_across_windows_and_near_attention_does_not() -> None:
    from srgui.unfolding.denoisers.transformer import HalfShuffleAttention

    torch.manual_seed(0)
    attention = HalfShuffleAttention(8)
    attention.out = torch.nn.Identity()  # type: ignore[assignment]
    x = torch.rand(1, 64, 64, 8)
    changed = x.clone()
    changed[0, 8, 16] += 1  # window (1, 2), first place of it
    moved = (attention(changed) - attention(x)).abs() > 1e-7
    near, far = moved[0, ..., :4].any(-1).nonzero(), moved[0, ..., 4:].any(-1).nonzero()
    assert {(int(r) // 8, int(c) // 8) for r, c in near} == {(1, 2)}
    assert len(near) == 64
    assert {(int(r) % 8, int(c) % 8) for r, c in far} == {(0, 0)}
    assert len(far) == 64


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("denoiser", SMALL)
def test_lora_sets_change_nothing_at_first(task: str, denoiser: str) -> None:
    backbone = disturbed(Unfolding(design(task, "single", denoiser)))
    for sharing in ("lorun", "block"):
        network = Unfolding(design(task, sharing, denoiser), seed=1)
        network.start_from(backbone)
        assert torch.allclose(network(given(task)), backbone(given(task)), atol=1e-6)


def test_a_lora_set_concerns_its_stage_alone_and_the_denoiser_is_not_copied() -> None:
    network = disturbed(Unfolding(design("cs")))
    before = [output.detach() for output in network.outputs(given("cs"))]
    weight = network.denoisers[0].head.weight.clone()  # type: ignore[union-attr, operator]
    with torch.no_grad():
        for parameter in network.adapters[1].parameters():
            parameter.add_(0.3)
    after = list(network.outputs(given("cs")))
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[1], after[1])
    assert torch.equal(network.denoisers[0].head.weight, weight)  # type: ignore[arg-type, union-attr]
    assert len(network.denoisers) == 1
    assert total(network) == total(network.denoisers) + total(network.adapters) + total(network.sensing)


def test_a_stage_computes_what_its_merged_weights_compute() -> None:
    network = disturbed(Unfolding(design("cs")))
    lora = network.adapters[2]
    assert isinstance(lora, LoraSet)
    merged = build_denoiser("resunet", 1, SMALL["resunet"], True)
    merged.load_state_dict({**network.denoisers[0].state_dict(), **lora.weights()})
    x = torch.rand(1, 2, 16, 16)
    assert torch.allclose(network.denoise(2, x), merged(x), atol=1e-6)


def test_rank_follows_gamma() -> None:
    ranks = [count(Design(rank=f"{gamma}%")).trained for gamma in (5, 10, 20)]
    assert ranks[0] < ranks[1] < ranks[2]


def test_everything_learns_but_what_the_second_phase_freezes() -> None:
    network = disturbed(Unfolding(design("cs")))
    network.denoisers.requires_grad_(False)
    network(given("cs")).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert (parameter.grad is None) == name.startswith("denoisers."), name


def test_the_start_of_sr_puts_samples_where_they_were_taken() -> None:
    rows = torch.arange(12.0).view(1, 1, 12, 1).expand(1, 3, 12, 12) / 12
    for sf in (2, 3, 4):
        inner = enlarged(rows[..., ::sf, ::sf], (12, 12))[..., sf : 12 - 2 * sf, :]
        assert torch.allclose(inner, rows[..., sf : 12 - 2 * sf, :], atol=0.02)


def test_noise_matters_to_the_hyper_parameters_over_its_whole_range() -> None:
    hyper = HyPaNet(3, 8)
    sigmas = torch.tensor([0.0, 1 / 255 / 12**0.5, 5 / 255, 50 / 255])
    steps, levels = hyper.weigh(sigmas, torch.full((4,), 2))
    assert steps.shape == levels.shape == (3, 4, 1, 1, 1)
    assert (steps > 0).all()
    assert (levels > 0).all()
    assert (steps[:, 1:] > 1.5 * steps[:, :-1]).all()


def test_an_unknown_operator_is_learned_by_each_stage_from_the_picture_alone() -> None:
    network = disturbed(Unfolding(design("sr", step="learned")))
    measured = given("sr")
    last = network(measured)
    assert last.shape == (2, 3, 16, 18)
    told = {**measured, "kernel": measured["kernel"].flip(0), "sigma": measured["sigma"] + 1}
    assert torch.equal(network(told), last)
    alone = {name: measured[name] for name in ("y", "sf")}
    assert torch.equal(network(alone), last)
    assert torch.equal(network(network.sensing.measured(alone)), last)  # on the HR grid it is not enlarged again
    before = list(network.outputs(measured))
    with torch.no_grad():
        network.sensing.pairs[1].phi.first.weight.add_(0.3)  # type: ignore[union-attr, index, operator]
    after = list(network.outputs(measured))
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[1], after[1])


def test_a_learned_pair_keeps_pictures_at_first_so_a_step_goes_straight_to_the_measurement() -> None:
    pair, x, y = LearnedPair(3), torch.rand(1, 3, 8, 9), torch.rand(1, 3, 8, 9)
    assert torch.equal(pair.A(x), x)
    assert torch.allclose(gradient_step(pair, x, y, 0.5), (x + y) / 2, atol=1e-6)
    assert sum(parameter.numel() for parameter in pair.parameters()) == 2 * (2 * 3 * 64 * 9 + 1)


def test_an_unknown_operator_starts_from_a_backbone_that_knew_it() -> None:
    known, unknown = Unfolding(design("sr")), Unfolding(design("sr", step="learned"))
    unknown.start_from(known)
    for name, value in known.denoisers.state_dict().items():
        assert torch.equal(unknown.denoisers.state_dict()[name], value)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"task": "derain"}, "'derain' is not known"),
        ({"stages": 0}, "0 stages"),
        ({"step": "learned", "task": "cs"}, "is for sr"),
        ({"denoiser": "resnet"}, "no denoiser 'resnet'"),
        ({"widths": []}, "fit no resunet"),
        ({"denoiser": "transformer"}, "fit no transformer"),
        ({"stage": 3}, "no 'stage'"),
        ({"stages": "3"}, "of the wrong type"),
        ({"stages": True}, "of the wrong type"),
    ],
)
def test_designs_that_cannot_be(values: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_design(values)


def test_a_design_survives_its_card() -> None:
    one = replace(Design(), widths=(8, 12), task="cs", ratio=10.0)
    assert read_design(one.as_dict()) == one
