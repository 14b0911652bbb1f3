"""Denoisers: what stands between two data steps. Any of them fits any task."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from srgui.errors import InputError, near
from srgui.unfolding.denoisers.resunet import ResUNet
from srgui.unfolding.denoisers.transformer import HalfShuffle

DENOISERS = ("resunet", "transformer")


def build_denoiser(kind: str, channels: int, widths: Sequence[int], skip: bool) -> nn.Module:
    """A denoiser (N, channels + 1, H, W) -> (N, channels, H, W); the last input channel is the noise level.

    Args:
        widths: of a ResUNet's levels; of a Transformer (width, blocks).
        skip: whether it predicts what is to be added to its input, which costs no parameter.

    Raises:
        InputError: there is no such denoiser.
    """
    if kind == "resunet":
        return ResUNet(channels, widths, skip)
    if kind == "transformer":
        return HalfShuffle(channels, *widths, skip=skip)
    raise InputError(f"there is no denoiser {kind!r}. {near(kind, DENOISERS)}")
