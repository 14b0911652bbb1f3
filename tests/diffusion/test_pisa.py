"""PiSA-SR on a tiny base, beside the published algorithm written down directly."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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


def test_a_setting_of_one_and_one_runs_the_merged_pass_alone(opened: Any, counted: Any, lr: Tensor) -> None:
    restorer = opened(scale=1)
    calls = counted(restorer).calls
    prepared = restorer.prepare(Source(lr), Run())
    assert calls == {"eps_full": 0, "eps_pix": 0}
    prepared.render(Setting(), Run())
    assert calls == {"eps_full": 1, "eps_pix": 0}
    assert prepared.computed() == ("z_L", "eps_full")


def test_moving_a_slider_decodes_once_and_never_runs_the_unet(
    opened: Any, counted: Any, lr: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    restorer = opened(scale=1, latent=8, overlap=2)
    calls = counted(restorer).calls
    decodes = []
    decoder = restorer.base.vae.decode
    monkeypatch.setattr(restorer.base.vae, "decode", lambda *given: decodes.append(1) or decoder(*given))
    prepared = restorer.prepare(Source(lr), Run())
    prepared.render(Setting({"pixel": 0.5}), Run())
    before = dict(calls)
    assert before["eps_full"] == before["eps_pix"] > 1, "of a tiled picture each plane takes as many passes as tiles"
    for count, semantic in enumerate((0.2, 0.9, 1.5), 2):
        setting = Setting({"pixel": 0.7, "semantic": semantic})
        whole = prepared.render(setting, Run())
        region = prepared.render(setting, Run(), Box(3, 5, 20, 30))
        assert torch.equal(region, whole[..., 3:23, 5:35])
        assert len(decodes) == count
    assert calls == before


def test_all_tiles_of_a_plane_come_before_the_next_plane(opened: Any, lr: Tensor) -> None:
    restorer = opened(scale=1, latent=8, overlap=2)
    order: list[str] = []
    for name, network in restorer.guided.networks.items():
        network.register_forward_pre_hook(lambda *_, name=name: order.append(name))
    restorer.prepare(Source(lr), Run()).render(Setting({"pixel": 0.5}), Run())
    assert sum(a != b for a, b in itertools.pairwise(order)) == 1


def test_the_networks_share_the_weights_of_the_base(opened: Any) -> None:
    """Beyond the UNet there are the factors, and nothing that grows with a second plane."""
    restorer = opened()
    networks = restorer.guided.networks.values()

    def bytes_of(*modules: Any) -> int:
        storages = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for m in modules for p in m.parameters()}
        return sum(storages.values())

    assert bytes_of(*networks) == bytes_of(restorer.base.unet)
    factors = sum(f.A.nbytes + f.B.nbytes for n in networks for m in n.modules() for _, f in getattr(m, "_parts", ()))
    one = sum(t.nbytes for t in opened.content["state_dict_unet"].values())
    assert factors <= 2 * one


def test_the_base_is_never_written(opened: Any, lr: Tensor) -> None:
    base = opened.base
    before = {name: tensor.clone() for name, tensor in base.unet.state_dict().items()}
    opened(scale=1).prepare(Source(lr), Run()).render(Setting({"pixel": 0.4}), Run())
    after = base.unet.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_pair_whose_b_is_zero_gives_the_base(opened: Any, layout: Any, lr: Tensor) -> None:
    content = layout(opened.base.unet, (4, 2))
    state = content["state_dict_unet"]
    content["state_dict_unet"] = {key: t * 0 if ".lora_B." in key else t for key, t in state.items()}
    prepared = opened(scale=1, content=content).prepare(Source(lr), Run())
    with torch.no_grad():
        z = prepared.latent("z_L", Run())
        expected = opened.base.unet(z, torch.tensor([1]), opened.base.prompt("")).sample
    assert torch.equal(prepared.latent("eps_full", Run()), expected)
    assert torch.equal(prepared.latent("eps_pix", Run()), expected)


@pytest.mark.parametrize("size", [(8, 8), (1, 20), (25, 31), (14, 3), (1, 1)])
def test_a_picture_of_any_size_comes_out_at_the_size_asked_for(opened: Any, picture: Callable[..., Tensor], size: Any) -> None:
    restorer = opened(process=32, latent=6, overlap=2, encoder=48, decoder=6)
    prepared = restorer.prepare(Source(picture(*size)), Run())
    found = prepared.render(Setting({"pixel": 0.5}), Run())
    assert found.shape == (1, 3, size[0] * 4, size[1] * 4) == (1, 3, *prepared.size)
    assert found.isfinite().all()
    part = Box(0, 1, min(3, size[0]), min(3, size[1]))
    assert torch.allclose(prepared.render(Setting({"pixel": 0.5}), Run(), part), found[(..., *part.slices)], atol=1e-6)


def test_1_x_4000_pixels(opened: Any, picture: Callable[..., Tensor]) -> None:
    prepared = opened(latent=96, process=64).prepare(Source(picture(1, 4000)), Run())
    assert prepared.render(Setting(), Run()).shape == (1, 3, 4, 16000)


def test_colour_fixes_take_the_tones_of_the_enlarged_picture(opened: Any, lr: Tensor) -> None:
    shown = {}
    for kind in ("adain", "wavelet", "none"):
        shown[kind] = opened(scale=1).prepare(Source(lr, {"colour": kind}), Run()).render(Setting(), Run())
    off = {kind: (each.mean(dim=(2, 3)) - lr.mean(dim=(2, 3))).abs().max() for kind, each in shown.items()}
    assert off["adain"] < 0.5 * off["none"]
    assert off["wavelet"] < 0.5 * off["none"]


def test_encoding_by_a_sample_is_repeatable_and_by_the_mode_is_the_default(opened: Any, lr: Tensor) -> None:
    restorer = opened(scale=1)

    def z_of(**extras: object) -> Tensor:
        return restorer.prepare(Source(lr, extras), Run()).latent("z_L", Run())

    with torch.no_grad():
        distribution = opened.base.vae.encode(lr * 2 - 1).latent_dist
    assert torch.allclose(z_of(), distribution.mode() * 0.18215, atol=1e-6)
    drawn = z_of(sampled=True, seed=7)
    assert torch.equal(drawn, z_of(sampled=True, seed=7))
    noise = (drawn / 0.18215 - distribution.mode()) / distribution.std
    assert not torch.equal(drawn, z_of(sampled=True, seed=8))
    assert 0.7 < noise.std() < 1.3


def test_prompts_change_the_noise_and_a_negative_one_is_left_behind(opened: Any, lr: Tensor) -> None:
    restorer = opened(scale=1)

    def eps(**extras: object) -> Tensor:
        return restorer.prepare(Source(lr, extras), Run()).latent("eps_full", Run())

    plain, cat, dog = eps(), eps(prompt="a cat"), eps(prompt="a dog")
    assert not torch.equal(plain, cat)
    guided = eps(prompt="a cat", negative_prompt="a dog", prompt_scale=2.0)
    assert torch.allclose(guided, dog + 2 * (cat - dog), atol=1e-5)


def test_a_mask_holds_other_values_inside(opened: Any, lr: Tensor) -> None:
    prepared = opened(scale=1).prepare(Source(lr, {"colour": "none"}), Run())
    mask = torch.zeros(1, 1, 64, 72)
    outside = prepared.render(Setting({"semantic": 1.0}), Run())
    setting = Setting({"semantic": 1.0}, {"semantic": 0.0}, mask)
    assert torch.equal(prepared.render(setting, Run()), outside)
    everywhere = Setting({"semantic": 1.0}, {"semantic": 0.0}, mask + 1)
    assert torch.allclose(prepared.render(everywhere, Run()), prepared.render(Setting({"semantic": 0.0}), Run()), atol=1e-6)


@pytest.mark.parametrize(
    ("extras", "message"),
    [
        ({"colour": "sepia"}, "adain, wavelet, none"),
        ({"prompts": "cat"}, "there is no option 'prompts'"),
        ({"seed": "1"}, "must be of type int"),
        ({"seed": -1}, "seed -1 is out of range; use 0 to"),
        ({"prompt_scale": float("nan")}, "is no number"),
    ],
)
def test_options_that_cannot_be_are_refused(opened: Any, lr: Tensor, extras: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        opened(scale=1).prepare(Source(lr, extras), Run())


def test_controls_cost_a_decode_and_have_ranges(opened: Any, lr: Tensor) -> None:
    restorer = opened(scale=1)
    assert [(c.name, c.cost, c.default) for c in restorer.info.controls] == [("pixel", "decode", 1), ("semantic", "decode", 1)]
    with pytest.raises(InputError, match="out of range"):
        restorer.prepare(Source(lr), Run()).render(Setting({"semantic": 9.0}), Run())
    with pytest.raises(InputError, match="eps_full, eps_pix"):
        restorer.prepare(Source(lr), Run()).latent("eps_sem", Run())


def test_cancelling_between_tiles_leaves_the_picture_usable(opened: Any, watch: Any, lr: Tensor) -> None:
    prepared = opened(scale=1, latent=8, overlap=2).prepare(Source(lr), Run())
    with pytest.raises(Cancelled):
        prepared.render(Setting(), watch(limit=2))
    assert prepared.computed() == ("z_L",)
    assert prepared.render(Setting(), Run()).shape == (1, 3, 64, 72)
    prepared.close()
    with pytest.raises(Cancelled):
        prepared.render(Setting(), Run())


class Scarce:
    """A network that runs out of memory on latents of more than ``most``."""

    def __init__(self, network: Any, most: int) -> None:
        self.most, self.forward, self.sizes = most, network.forward, []

    def __call__(self, z: Tensor, *given: Any, **named: Any) -> Any:
        self.sizes.append(tuple(z.shape[-2:]))
        if z.shape[-2] * z.shape[-1] > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.forward(z, *given, **named)


def test_running_out_of_memory_halves_the_tiles_of_all_planes(opened: Any, picture: Callable[..., Tensor]) -> None:
    restorer = opened(scale=1)
    networks = restorer.guided.networks
    scarce = {"eps_full": Scarce(networks["eps_full"], 2000), "eps_pix": Scarce(networks["eps_pix"], 300)}
    for name, network in networks.items():
        network.forward = scarce[name]
    prepared = restorer.prepare(Source(picture(256, 256)), Run())
    prepared.latent("eps_full", Run())
    assert scarce["eps_full"].sizes == [(32, 32)]
    prepared.latent("eps_pix", Run())
    assert prepared.tiling.latent == 16
    assert set(scarce["eps_pix"].sizes[1:]) == {(16, 16)}
    assert scarce["eps_full"].sizes[-1] == (16, 16), "what was there is made again on the same grid"


def test_too_little_memory_for_the_smallest_tile_is_told(opened: Any, picture: Callable[..., Tensor]) -> None:
    restorer = opened(scale=1)
    for network in restorer.guided.networks.values():
        network.forward = Scarce(network, 10)
    prepared = restorer.prepare(Source(picture(160, 160)), Run())
    with pytest.raises(MemoryLimitError, match="not even a tile of 128 pixels fits into the memory of cpu"):
        prepared.render(Setting(), Run())


def test_tiles_come_from_free_memory_or_from_who_asks(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    restorer = opened()
    assert restorer._fitted() == restorer.tiling
    plenty = restorer.forecast(300, 200)
    monkeypatch.setattr("srgui.diffusion.memory.free_memory", lambda _: 10 * 2**20)
    small = restorer._fitted()
    assert 16 <= small.latent < 96
    assert small.overlap <= small.latent // 3
    assert 16 <= small.decoder < 224
    scarce = restorer.forecast(300, 200)
    assert scarce.memory < plenty.memory
    assert scarce.tiles > plenty.tiles
    monkeypatch.setattr("srgui.diffusion.memory.free_memory", lambda _: 1)
    assert restorer._fitted().latent == 16
    asked = opened(tile=64)._fitted()
    assert (asked.latent, asked.overlap, asked.decoder, asked.encoder) == (32, 10, 32, 256)


def test_the_forecast_counts_weights_and_the_largest_tile(opened: Any) -> None:
    restorer = opened()
    small, large = restorer.forecast(32, 32), restorer.forecast(400, 400)
    assert small.tiles == 1
    assert large.tiles == 9
    assert restorer.base.bytes < small.memory < large.memory
    assert 0 < small.seconds < large.seconds
    assert 0 < small.move < small.seconds
    assert 0 < small.first_move < small.seconds


def test_the_forecast_counts_the_tiles_that_wait_and_says_where(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    whole, tiled = opened(tile=400).forecast(300, 300), opened(tile=100).forecast(300, 300)
    pictures = 1200 * 1200 * 12
    held = opened.base.costs.held * (1200 // 8) ** 2 * 4
    assert whole.host == tiled.host == 0
    monkeypatch.setattr("srgui.diffusion.pisa.operations_per_second", lambda *_: 1e12)
    elsewhere = replace(opened, base=replace(opened.base, device=torch.device("cuda")))
    gpu = elsewhere(tile=100).forecast(300, 300)
    assert gpu.memory + gpu.host == tiled.memory
    assert gpu.host > held + pictures
    assert elsewhere(tile=400).forecast(300, 300).host < held


def test_an_adapter_given_takes_the_place_of_the_models_own(opened: Any, layout: Any, lr: Tensor) -> None:
    from srgui.diffusion.pisa import PisaRestorer

    own = opened(scale=1)
    with pytest.raises(AdapterError, match="both semantic adapters"):
        semantic = own.own[1]
        PisaRestorer(opened.base, own.info, [(semantic, 1.0)], own.own)


def test_without_a_semantic_adapter_there_is_one_scale(opened: Any, lr: Tensor) -> None:
    from srgui.diffusion.pisa import PisaRestorer

    pixel = opened(scale=1).own[0]
    restorer = PisaRestorer(opened.base, opened(scale=1).info, [(pixel, 0.5)], tiling=opened().tiling)
    assert [control.name for control in restorer.info.controls] == ["pixel"]
    assert restorer.info.adapters[0].strength == 0.5
    prepared = restorer.prepare(Source(lr, {"colour": "none"}), Run())
    z, eps = (prepared.latent(name, Run()) for name in ("z_L", "eps_full"))
    with torch.no_grad():
        expected = opened.base.vae.decode((z - 0.3 * eps) / 0.18215).sample.clamp(-1, 1) / 2 + 0.5
    assert torch.allclose(prepared.render(Setting({"pixel": 0.3}), Run()), expected, atol=1e-5)


def test_nan_weights_are_told(opened: Any, lr: Tensor) -> None:
    restorer = opened(scale=1)
    forward = restorer.guided.networks["eps_full"].forward

    def broken(*given: Any, **named: Any) -> Any:
        found = forward(*given, **named)
        return type(found)(sample=found.sample * torch.nan)

    restorer.guided.networks["eps_full"].forward = broken
    with pytest.raises(ModelError, match="the UNet gave NaN"):
        restorer.prepare(Source(lr), Run()).render(Setting(), Run())


def test_half_precision_in_the_unet_and_whole_in_the_vae(base_folder: Any, opened: Any, lr: Tensor) -> None:
    """On the CPU in bfloat16, as on a GPU in float16: a coarser residual, the same picture but for it."""
    from dataclasses import replace

    from srgui.diffusion.base import Precision, load_base

    half = load_base(base_folder, torch.device("cpu"), Precision(torch.bfloat16))
    assert half.vae.dtype == torch.float32
    coarse, fine = (
        replace(opened, base=base)(scale=1).prepare(Source(lr), Run()).latent("eps_full", Run()) for base in (half, opened.base)
    )
    assert coarse.dtype == torch.float32
    assert 0 < (coarse - fine).abs().mean() < 0.05 * fine.abs().mean()


def test_a_tiny_decoder_shows_a_small_picture_of_what_is_there(opened: Any, counted: Any, picture: Callable[..., Tensor]) -> None:
    from diffusers import AutoencoderTiny

    from srgui.diffusion.pisa import PisaRestorer

    torch.manual_seed(0)
    channels = (8, 8, 8, 8)
    tiny = AutoencoderTiny(encoder_block_out_channels=channels, decoder_block_out_channels=channels).eval().requires_grad_(False)
    own = opened(scale=1)
    restorer = PisaRestorer(opened.base, own.info, own=own.own, tiling=own.tiling, tiny=tiny)
    calls = counted(restorer).calls
    prepared = restorer.prepare(Source(picture(64, 160), {"colour": "none"}), Run())
    half = Setting({"semantic": 0.5})
    assert prepared.preview(half, Run()) is None, "a plane is missing, and only the patient wait for it"
    assert prepared.preview(half, Run(), patient=True) is not None
    before = dict(calls)
    with torch.no_grad():
        z, eps = prepared.latent("z_L", Run()), {n: prepared.latent(n, Run()) for n in ("eps_pix", "eps_full")}
        expected = tiny.decode(z - 0.5 * eps["eps_pix"] - 0.5 * eps["eps_full"]).sample / 2 + 0.5
    assert torch.allclose(prepared.preview(half, Run()), expected.clamp(0, 1), atol=1e-5)
    assert prepared.preview(half, Run(), side=80).shape == (1, 3, 32, 80)
    assert calls == before
    assert own.prepare(Source(picture(64, 64)), Run()).preview(Setting(), Run(), patient=True) is None
    prepared.close()
    with pytest.raises(Cancelled):
        prepared.preview(half, Run())


def test_a_preview_has_the_tones_of_the_result_and_waits_for_no_rendering(
    opened: Any, picture: Callable[..., Tensor], tiny_folder: Any
) -> None:
    from srgui.diffusion.pisa import PisaRestorer
    from srgui.diffusion.tiny import open_tiny
    from srgui.models.cards import Card, Part

    tiny = open_tiny(Card("x", "pisa-sr", 4, {"tiny": Part(tiny_folder)}, "X", "none"), 4, opened.base.device)
    own = opened(scale=1)
    assert not own.info.previews
    restorer = PisaRestorer(opened.base, own.info, own=own.own, tiling=own.tiling, tiny=tiny)
    assert restorer.info.previews
    lr = picture(64, 64)
    prepared = restorer.prepare(Source(lr), Run())
    result = prepared.render(Setting(), Run())
    with prepared._lock, ThreadPoolExecutor(1) as pool:  # as while it is rendered elsewhere
        shown = pool.submit(prepared.preview, Setting(), Run()).result(30)
    assert (shown.mean(dim=(2, 3)) - result.mean(dim=(2, 3))).abs().max() < 0.05
