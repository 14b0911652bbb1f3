"""Colour fixes beside the published formulas."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from srgui.diffusion.colour import adain, colour_fix, wavelet
from srgui.errors import InputError


def published_adain(content: Tensor, style: Tensor) -> Tensor:
    out = torch.empty_like(content)
    for c in range(3):
        x, s = content[0, c].flatten().double(), style[0, c].flatten().double()
        std = [(((v - v.mean()) ** 2).sum() / (v.numel() - 1) + 1e-5).sqrt() for v in (x, s)]
        out[0, c] = ((x - x.mean()) / std[0] * std[1] + s.mean()).view(content.shape[2:])
    return out


def published_wavelet(content: Tensor, style: Tensor) -> Tensor:
    kernel = torch.tensor([[1, 2, 1], [2, 4, 2], [1, 2, 1]]).float().expand(3, 1, 3, 3) / 16

    def split(x: Tensor) -> tuple[Tensor, Tensor]:
        high = torch.zeros_like(x)
        for i in range(5):
            low = F.conv2d(F.pad(x, (2**i,) * 4, mode="replicate"), kernel, groups=3, dilation=2**i)
            high, x = high + x - low, low
        return high, x

    return split(content)[0] + split(style)[1]


@pytest.mark.parametrize("size", [(40, 56), (3, 90), (8, 8)])
def test_fixes_are_those_published(picture: Callable[..., Tensor], size: tuple[int, int]) -> None:
    x, s = picture(*size), picture(size[0], size[1] + 1)[..., :-1] ** 2
    assert torch.allclose(adain(x, s), published_adain(x, s), atol=1e-4)
    assert torch.allclose(wavelet(x, s), published_wavelet(x, s), atol=1e-4)


def test_a_picture_is_a_fixed_point_of_its_own_colours(picture: Callable[..., Tensor]) -> None:
    x = picture(33, 20)
    for kind in ("adain", "wavelet", "none"):
        assert torch.allclose(colour_fix(kind, x, x), x, atol=1e-6)  # type: ignore[arg-type]


def test_an_even_picture_and_an_unknown_fix() -> None:
    x = torch.full((1, 3, 8, 8), 0.25)
    assert torch.allclose(adain(x, x + 0.5), x + 0.5, atol=1e-6)
    with pytest.raises(InputError, match="adain, wavelet, none"):
        colour_fix("sepia", x, x)  # type: ignore[arg-type]
