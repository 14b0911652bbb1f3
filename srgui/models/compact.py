"""The Compact network (SRVGGNetCompact of Real-ESRGAN), the architecture of the bundled base model."""

from __future__ import annotations

from torch import nn


def compact(features: int, convs: int, scale: int) -> nn.Module:
    """A Compact network with random weights; (N, 3, H, W) -> (N, 3, H * scale, W * scale).

    Args:
        features: channels of the layers in between.
        convs: how many 3 x 3 convolutions there are between the first and the last.
    """
    from spandrel.architectures.Compact import Compact

    network: nn.Module = Compact(num_feat=features, num_conv=convs, upscale=scale)
    return network
