"""A VAE over pictures of any size: tile by tile, with the group norms of the whole picture.

Tiles that are normalised one by one differ in tone. Here all tiles go through the network together, from one group norm to the
next; there they wait until the statistics of all are known (Tiled VAE of Mixture of Diffusers' public implementation, as
PiSA-SR uses it). Beyond that source, every pixel is counted once and the differences between the tiles' means count too, tiles
have as much context as the convolutions see, and the middle block, which attends to everything, is run on the whole latent: the
result is that of the VAE on the whole picture, but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from math import ceil
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srgui.errors import ModelError
from srgui.inference.tiles import plan
from srgui.protocol import Box, Run

_QUERIES = 4096  # of the attention at a time
_KNOWN = {"DownEncoderBlock2D", "UpDecoderBlock2D", "UNetMidBlock2D"}

Moments = tuple[int, Tensor, Tensor]  # pixels, and mean and variance of each group
Shared = tuple[Tensor, Tensor]
Walk = Generator[Moments, Shared, Tensor]


def encode(vae: Any, picture: Tensor, tile: int, run: Run, hold: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the latent of ``picture`` (1, 3, H, W) in [-1, 1], not scaled.

    Args:
        tile: side in pixels, a multiple of the VAE's factor; a picture of no more than ``tile * tile`` is encoded whole.
        hold: the type in which tiles wait for each other.

    Returns:
        Two of (1, C, H / factor, W / factor), float32 on the CPU.

    Raises:
        Cancelled: between two tiles.
    """
    height, width = picture.shape[-2:]
    device, dtype = _place(vae)
    with torch.inference_mode():
        if height * width <= tile * tile or not _can_be_tiled(vae.encoder):
            run.progress("encoding", 0, 1)
            moments = vae.encode(picture.to(device, dtype)).latent_dist.parameters
        else:
            moments = _encode_tiled(vae, picture, tile, run, hold)
    mean, logvar = moments.float().cpu().chunk(2, dim=1)
    return mean.clone(), (0.5 * logvar.clamp(-30, 20)).exp()


def decode(vae: Any, latent: Tensor, tile: int, run: Run, hold: torch.dtype = torch.float32) -> Tensor:
    """The picture (1, 3, H, W) of ``latent`` (1, C, H / factor, W / factor), not scaled; clamped to [-1, 1], float32 on the CPU.

    Args:
        tile: side in latents; a latent of no more than ``tile * tile`` is decoded whole.
        hold: the type in which tiles wait for each other.

    Raises:
        ModelError: the VAE gave NaN. Cancelled: between two tiles.
    """
    height, width = latent.shape[-2:]
    device, dtype = _place(vae)
    with torch.inference_mode():
        if height * width <= tile * tile or not _can_be_tiled(vae.decoder):
            run.progress("decoding", 0, 1)
            found = vae.decode(latent.to(device, dtype)).sample.float().cpu()
        else:
            found = _decode_tiled(vae, latent.to(device, dtype), tile, run, hold)
    if not bool(found.isfinite().all()):
        raise ModelError("the VAE gave NaN; its weights are broken, get the base again")
    return found.clamp(-1, 1).clone()


def decoder_reach(decoder: Any) -> int:
    """How many latents around a tile the decoder's convolutions look at, from its first upsampling block on."""
    reach, side = 0.0, 1.0
    for block in decoder.up_blocks:
        reach += 2 * len(block.resnets) * side
        if block.upsamplers is not None:
            side /= 2
            reach += side
    return ceil(reach + side)


def encoder_reach(encoder: Any) -> int:
    """How many pixels around a tile the encoder's convolutions look at, up to its middle block; a multiple of its factor."""
    reach, side = 1, 1
    for block in encoder.down_blocks:
        reach += 2 * len(block.resnets) * side
        if block.downsamplers is not None:
            reach += 2 * side
            side *= 2
    return ceil(reach / side) * side


def _place(vae: nn.Module) -> tuple[torch.device, torch.dtype]:
    first = next(vae.parameters())
    return first.device, first.dtype


def _can_be_tiled(network: Any) -> bool:
    blocks = [*getattr(network, "down_blocks", ()), *getattr(network, "up_blocks", ()), network.mid_block]
    return {type(block).__name__ for block in blocks} <= _KNOWN


def _encode_tiled(vae: Any, picture: Tensor, tile: int, run: Run, hold: torch.dtype) -> Tensor:
    encoder, (device, dtype) = vae.encoder, _place(vae)
    factor = 2 ** sum(block.downsamplers is not None for block in encoder.down_blocks)
    height, width = (side // factor for side in picture.shape[-2:])
    tiles = plan(height, width, max(1, tile // factor), encoder_reach(encoder) // factor)

    def start(outer: Box, inner: Box) -> Walk:
        at = outer.scaled(factor)
        return _down(encoder, _Tile(picture[(..., *at.slices)], inner.scaled(factor), device, dtype, hold))

    values = _together(
        [(t.inner, start(t.outer, _inside(t.inner, t.outer))) for t in tiles],
        (height, width),
        run,
        "encoding",
        _norms(encoder.down_blocks),
    )
    x = _middle(encoder.mid_block, values.to(device, dtype), run)
    x = encoder.conv_out(encoder.conv_act(encoder.conv_norm_out(x)))
    return x if vae.quant_conv is None else vae.quant_conv(x)


def _decode_tiled(vae: Any, latent: Tensor, tile: int, run: Run, hold: torch.dtype) -> Tensor:
    decoder, (device, dtype) = vae.decoder, _place(vae)
    x = latent if vae.post_quant_conv is None else vae.post_quant_conv(latent)
    x = _middle(decoder.mid_block, decoder.conv_in(x), run).cpu()
    factor = 2 ** sum(block.upsamplers is not None for block in decoder.up_blocks)
    height, width = latent.shape[-2:]
    tiles = plan(height, width, tile, decoder_reach(decoder))
    walks = [
        (t.inner.scaled(factor), _up(decoder, _Tile(x[(..., *t.outer.slices)], _inside(t.inner, t.outer), device, dtype, hold)))
        for t in tiles
    ]
    return _together(walks, (height * factor, width * factor), run, "decoding", _norms(decoder.up_blocks) + 1)


def _inside(inner: Box, outer: Box) -> Box:
    return Box(inner.top - outer.top, inner.left - outer.left, inner.height, inner.width)


def _norms(blocks: Any) -> int:
    return sum(isinstance(module, nn.GroupNorm) for block in blocks for module in block.modules())


class _Tile:
    """A tile on its way through the network. While it waits, it is off the device.

    Attributes:
        value: (1, C, h, w).
        inner: the part of it that the tile is responsible for.
    """

    def __init__(self, value: Tensor, inner: Box, device: torch.device, dtype: torch.dtype, hold: torch.dtype) -> None:
        self.value, self.inner = value, inner
        self.device, self.dtype, self.hold = device, dtype, hold

    def parked(self) -> Tensor:
        return self.value.to("cpu", self.hold)

    def back(self, value: Tensor) -> Tensor:
        return value.to(self.device, self.dtype)

    def take_back(self) -> None:
        self.value = self.back(self.value)

    def resized(self, module: Callable[[Tensor], Tensor], change: Callable[[int], int]) -> None:
        self.value = module(self.value)
        self.inner = Box(*(change(side) for side in (self.inner.top, self.inner.left, self.inner.height, self.inner.width)))


def _down(encoder: Any, tile: _Tile) -> Walk:
    tile.take_back()
    tile.value = encoder.conv_in(tile.value)
    for block in encoder.down_blocks:
        for resnet in block.resnets:
            yield from _resnet(resnet, tile)
        for downsampler in block.downsamplers or ():
            tile.resized(downsampler, lambda side: side // 2)
    return tile.value[(..., *tile.inner.slices)].float().cpu()


def _up(decoder: Any, tile: _Tile) -> Walk:
    tile.take_back()
    for block in decoder.up_blocks:
        for resnet in block.resnets:
            yield from _resnet(resnet, tile)
        for upsampler in block.upsamplers or ():
            tile.resized(upsampler, lambda side: side * 2)
    yield from _norm(decoder.conv_norm_out, tile)
    tile.value = decoder.conv_out(decoder.conv_act(tile.value))
    return tile.value[(..., *tile.inner.slices)].float().cpu()


def _resnet(block: Any, tile: _Tile) -> Generator[Moments, Shared, None]:
    skip = tile.parked()
    yield from _norm(block.norm1, tile)
    tile.value = block.conv1(block.nonlinearity(tile.value))
    yield from _norm(block.norm2, tile)
    tile.value = block.conv2(block.nonlinearity(tile.value))
    before = tile.back(skip)
    before = before if block.conv_shortcut is None else block.conv_shortcut(before)
    tile.value = (before + tile.value) / block.output_scale_factor


def _norm(norm: nn.GroupNorm, tile: _Tile) -> Generator[Moments, Shared, None]:
    inside = tile.value[(..., *tile.inner.slices)].float().reshape(norm.num_groups, -1)
    variance, mean = torch.var_mean(inside, dim=1, correction=0)
    moments = inside.shape[1], mean.double().cpu(), variance.double().cpu()
    del inside
    tile.value = tile.parked()
    mean, deviation = yield moments
    tile.take_back()
    tile.value = _normalised(norm, tile.value, mean, deviation)


def _normalised(norm: nn.GroupNorm, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Group norm with given statistics, as one multiplication and one addition per channel."""
    each = norm.num_channels // norm.num_groups
    factor = norm.weight.double().cpu() * (variance + norm.eps).rsqrt().repeat_interleave(each)
    shift = norm.bias.double().cpu() - mean.repeat_interleave(each) * factor
    shape = (1, -1, 1, 1)
    return torch.addcmul(shift.view(shape).to(x), x, factor.view(shape).to(x))


def _combined(moments: Sequence[Moments]) -> Shared:
    """Mean and variance of each group over all tiles (Chan et al. 1979): the tiles' variances, and those between their means."""
    counts = torch.tensor([count for count, _, _ in moments], dtype=torch.float64)[:, None]
    means, variances = torch.stack([mean for _, mean, _ in moments]), torch.stack([variance for _, _, variance in moments])
    weights = counts / counts.sum()
    mean = (weights * means).sum(dim=0)
    return mean, (weights * (variances + (means - mean).square())).sum(dim=0)


def _together(walks: Sequence[tuple[Box, Walk]], size: tuple[int, int], run: Run, what: str, norms: int) -> Tensor:
    """Let all tiles walk from norm to norm, and put what they end in together: (1, C, *size) float32 on the CPU."""
    done, total = 0, len(walks) * (norms + 1)
    run.progress(what, 0, total)
    answer: Shared | None = None
    out: Tensor | None = None
    while out is None or done < total:
        moments: list[Moments] = []
        for box, walk in walks:
            try:
                moments.append(next(walk) if answer is None else walk.send(answer))
            except StopIteration as stop:
                out = torch.empty(1, stop.value.shape[1], *size) if out is None else out
                out[(..., *box.slices)] = stop.value
            done += 1
            run.progress(what, done, total)
        answer = _combined(moments) if moments else None
    return out


def _middle(block: Any, x: Tensor, run: Run) -> Tensor:
    x = block.resnets[0](x, None)
    for attention, resnet in zip(block.attentions, block.resnets[1:], strict=True):
        x = resnet(x if attention is None else _attended(attention, x, run), None)
    return x


def _attended(attention: Any, x: Tensor, run: Run) -> Tensor:
    """Self-attention over all of (1, C, h, w), some queries at a time, so that it can be cancelled."""
    height, width = x.shape[-2:]
    flat = attention.group_norm(x.flatten(2)).transpose(1, 2)  # (1, hw, C)
    query, key, value = (_heads(layer(flat), attention.heads) for layer in (attention.to_q, attention.to_k, attention.to_v))
    parts = []
    for start in range(0, height * width, _QUERIES):
        run.check()
        parts.append(F.scaled_dot_product_attention(query[:, :, start : start + _QUERIES], key, value))
    found = torch.cat(parts, dim=2).transpose(1, 2).flatten(2)
    found = attention.to_out[0](found).transpose(1, 2).reshape(x.shape)
    return (found + x if attention.residual_connection else found) / attention.rescale_output_factor


def _heads(x: Tensor, heads: int) -> Tensor:
    """(1, n, C) -> (1, heads, n, C / heads)"""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)
