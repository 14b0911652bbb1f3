"""The discriminator of ESRGAN, in the style of VGG, for patches of any size."""

from __future__ import annotations

from torch import Tensor, nn

from srgui.errors import InputError

_STRIDE = 32  # five halvings
_POOLED = 4  # what they leave of the published 128 x 128


class Discriminator(nn.Module):
    """Tells HR from SR: convolutions 3 x 3 and, with stride 2, 4 x 4, batch norm and LeakyReLU 0.2, then two linear layers.

    Source: SRGAN (Ledig et al. 2017, Fig. 4) as ESRGAN (Wang et al. 2018) trains it; at 128 x 128 and 64 features it is the
    published network of 14,499,401 parameters.

    It differs in two things. The last map is averaged to 4 x 4 before the linear layers, so that a patch may have any size; of
    128 x 128 it is 4 x 4 already. And batch norm keeps no running statistics: a batch is always normalised by its own, as
    during training in the paper, and the network is not used otherwise. So there is no buffer that processes could disagree on
    or that a second forward pass would change before the first one's backward pass, and training and evaluation mode are the
    same. Each process normalises its own part of the batch: several with n patches each are not one with all of them (on GPUs
    ``nn.SyncBatchNorm.convert_sync_batchnorm`` makes them so).

    Judge real and fake patches in one batch. Normalised apart, both have the same mean in every layer, and where patches are
    small little else is left: four of 32 x 32, noise and blurred noise, could not be told apart at all.

    Args:
        features: of the first convolution; the last have eight times as many.
    """

    def __init__(self, features: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, features, 3, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        layers += _block(features, features, 4, 2)
        channels = features
        for width in (2 * features, 4 * features, 8 * features, 8 * features):
            layers += _block(channels, width, 3, 1) + _block(width, width, 4, 2)
            channels = width
        self.body = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(_POOLED)
        self.head = nn.Sequential(nn.Linear(channels * _POOLED**2, 100), nn.LeakyReLU(0.2, inplace=True), nn.Linear(100, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, 1) of pictures (N, 3, H, W) in [0, 1]: the larger, the more real.

        Raises:
            InputError: a side is below 32 pixels, or the last map has a single value, which cannot be normalised: one patch
                below 64 pixels.
        """
        count, _, height, width = x.shape
        values = count * (height // _STRIDE) * (width // _STRIDE)
        if values < 2:
            raise InputError(
                f"a batch of {count} patches of {width} x {height} is too small for the discriminator; "
                f"give {2 * _STRIDE} x {2 * _STRIDE} HR pixels, or two patches of {_STRIDE} x {_STRIDE}"
            )
        maps = self.pool(self.body(x))  # (N, 8 * features, H // 32, W // 32) -> (N, 8 * features, 4, 4)
        return self.head(maps.flatten(1))


def _block(channels: int, width: int, kernel: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, width, kernel, stride, padding=1, bias=False),
        nn.BatchNorm2d(width, track_running_stats=False),
        nn.LeakyReLU(0.2, inplace=True),
    ]
