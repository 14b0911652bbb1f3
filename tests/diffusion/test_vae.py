"""The VAE in tiles: the same picture as without tiles."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from srgui.diffusion.base import StableDiffusion
from srgui.diffusion.vae import decode, decoder_reach, encode, encoder_reach
from srgui.errors import Cancelled
from srgui.protocol import Run

# Of pictures in [-1, 1] and latents of magnitude 1: float32, sums in another order.
BOUND = 2e-5


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("size", [(40, 37), (9, 50), (1, 60), (24, 24)])
def test_decoding_in_tiles_gives_the_picture_decoded_whole(base: StableDiffusion, size: tuple[int, int]) -> None:
    latent = noise(1, 4, *size) * 3
    whole = decode(base.vae, latent, 100, Run())
    assert whole.shape == (1, 3, size[0] * 8, size[1] * 8)
    assert (decode(base.vae, latent, 7, Run()) - whole).abs().max() < BOUND


@pytest.mark.parametrize("size", [(320, 296), (72, 400), (8, 480)])
def test_encoding_in_tiles_gives_the_latent_encoded_whole(base: StableDiffusion, size: tuple[int, int]) -> None:
    picture = noise(1, 3, *size).clamp(-1, 1)
    whole = encode(base.vae, picture, 1000, Run())
    tiles = encode(base.vae, picture, 56, Run())
    for ours, expected in zip(tiles, whole, strict=True):
        assert ours.shape == (1, 4, size[0] // 8, size[1] // 8)
        assert (ours - expected).abs().max() < BOUND


def test_the_whole_is_what_the_vae_itself_gives(base: StableDiffusion) -> None:
    picture, latent = noise(1, 3, 64, 80).clamp(-1, 1), noise(1, 4, 8, 10)
    with torch.no_grad():
        distribution = base.vae.encode(picture).latent_dist
        decoded = base.vae.decode(latent).sample
    mean, deviation = encode(base.vae, picture, 512, Run())
    assert torch.equal(mean, distribution.mode())
    assert torch.allclose(deviation, distribution.std)
    assert torch.equal(decode(base.vae, latent, 64, Run()), decoded.clamp(-1, 1))


def test_tiles_that_wait_in_half_precision_stay_below_a_level_of_8_bits(base: StableDiffusion) -> None:
    latent = noise(1, 4, 24, 24)
    whole = decode(base.vae, latent, 100, Run())
    assert (decode(base.vae, latent, 9, Run(), torch.float16) - whole).abs().max() < 2 / 255


def test_the_context_of_a_tile_covers_what_the_convolutions_see(base: StableDiffusion) -> None:
    """One latent less and the tiles would show; with the whole reach they do not (above)."""
    assert decoder_reach(base.vae.decoder) == 9
    assert encoder_reach(base.vae.encoder) == 48
    from diffusers import AutoencoderKL

    with torch.device("meta"):
        real = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            latent_channels=4,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
        )
    assert decoder_reach(real.decoder) == 13
    assert encoder_reach(real.encoder) == 80


def test_cancelling_ends_it_between_two_tiles(base: StableDiffusion, watch: Any) -> None:
    run = watch(limit=5, what="decoding")
    with pytest.raises(Cancelled):
        decode(base.vae, noise(1, 4, 24, 24), 8, run)
    assert len(run.of("decoding")) == 5
    run = watch()
    decode(base.vae, noise(1, 4, 24, 24), 8, run)
    done, total = run.of("decoding")[-1]
    assert done == total
