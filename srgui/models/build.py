"""Networks with random weights, by a few words that say their shape: to train from nothing, and to count without weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from srgui.errors import ModelError, near
from srgui.models.compact import compact
from srgui.models.network import Network
from srgui.models.srcnn import RADIUS, SRCNN

_DEFAULTS: Mapping[str, Mapping[str, int]] = {
    "compact": {"scale": 4, "features": 48, "convs": 12},
    "srcnn": {"scale": 4},
    "rrdb": {"scale": 4, "features": 64, "blocks": 23},
}


def build(shape: Mapping[str, Any], seed: int = 0) -> Network:
    """The network ``{"kind": "compact" | "srcnn" | "rrdb", ...}`` on the CPU, with the random weights of ``seed``.

    ``rrdb`` is ESRGAN's generator, with 32 channels of growth: 16,697,987 parameters by default.

    Raises:
        ModelError: an unknown kind, or a field it does not have.
    """
    kind = str(shape.get("kind"))
    if kind not in _DEFAULTS:
        raise ModelError(f"there is no network {kind!r} to build. {near(kind, _DEFAULTS)}")
    unknown = set(shape) - {"kind"} - set(_DEFAULTS[kind])
    if unknown:
        raise ModelError(f"a {kind} network has no {', '.join(sorted(unknown))}; it has {', '.join(_DEFAULTS[kind])}")
    values = {**_DEFAULTS[kind], **{key: value for key, value in shape.items() if key != "kind"}}
    scale = values["scale"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "compact":
            return _network(compact(values["features"], values["convs"], scale), "Compact", scale, values["convs"] + 2)
        if kind == "srcnn":
            return _network(SRCNN(scale), "SRCNN", scale, RADIUS)
        return _network(_rrdb(values["features"], values["blocks"], scale), "ESRGAN", scale, None)


def _rrdb(features: int, blocks: int, scale: int) -> nn.Module:
    from spandrel.architectures.ESRGAN import ESRGAN

    network: nn.Module = ESRGAN(in_nc=3, out_nc=3, num_filters=features, num_blocks=blocks, scale=scale)
    return network


def _network(module: nn.Module, architecture: str, scale: int, radius: int | None) -> Network:
    module = module.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    return Network(module, architecture, scale, radius=radius)
