"""Measuring networks in the protocol of each task, on held-out pictures while they learn and on benchmarks afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from srgui.images import to_samples
from srgui.metrics import Scores, psnr, round_to_8bit, ssim
from srgui.training.preflight import Item
from srgui.training.validation import Watched
from srgui.unfolding.design import Design, TaskName
from srgui.unfolding.kernels import the_twelve
from srgui.unfolding.network import Solver
from srgui.unfolding.physics import BlurDownsample
from srgui.unfolding.physics.blur import SCALES
from srgui.unfolding.samples import luminance
from srgui.unfolding.scenes import coded_aperture, paint, pseudo_colour

SIDE = 192  # pixels of the middle of a held-out picture
_MULTIPLE = {"sr": 24, "cs": 32, "cassi": 8}  # of which its sides are


@dataclass(frozen=True)
class Example:
    """A measurement with what it was made of, both with a batch axis of 1."""

    name: str
    given: Mapping[str, Tensor]
    truth: Tensor
    border: int = 0


def measure(task: TaskName, picture: Tensor, truth: Tensor, border: int, *, similarity: bool = True) -> Scores:
    """``psnr`` in dB and ``ssim`` in the task's protocol.

    SR: over RGB, rounded to 8 bits, with a border cropped. CS: of the luminance, clipped, not rounded. CASSI: means over bands.

    Args:
        picture, truth: (1, C, H, W).
        similarity: whether ``ssim``, which takes much longer, is wanted.
    """
    if task == "sr":
        pairs = [(round_to_8bit(picture), truth)]
    else:
        clipped = picture.clamp(0, 1)
        pairs = [
            (clipped[:, c : c + 1].expand(-1, 3, -1, -1), truth[:, c : c + 1].expand(-1, 3, -1, -1)) for c in range(truth.shape[1])
        ]
    compared = {"psnr": psnr, "ssim": ssim} if similarity else {"psnr": psnr}
    return {
        name: float(np.mean([metric(a, b, channel="RGB", crop_border=border) for a, b in pairs]))
        for name, metric in compared.items()
    }


class Held:
    """Measures networks on examples; what the trainer calls between steps."""

    def __init__(self, design: Design, examples: Sequence[Example]) -> None:
        self.design, self.examples = design, list(examples)

    @property
    def pictures(self) -> list[Watched]:
        return [Watched(example.name, shown(example.given), shown({"x": example.truth})) for example in self.examples]

    def __call__(self, network: Solver) -> tuple[Scores, list[Tensor]]:
        """The mean scores, and the pictures as they can be shown."""
        results, scores = [], []
        for example in self.examples:
            with torch.inference_mode():
                picture = network({name: tensor.to(_device(network)) for name, tensor in example.given.items()}).cpu()
            picture = picture.clone()  # no inference tensor: scores are computed outside
            scores.append(measure(self.design.task, picture, example.truth, example.border, similarity=False))
            results.append(shown({"x": picture}))
        return {key: float(np.mean([score[key] for score in scores])) for key in scores[0]}, results


def _device(network: Solver) -> torch.device:
    return next(network.module.parameters()).device


def shown(given: Mapping[str, Tensor]) -> Tensor:
    """(1, 1 or 3, H, W) in [0, 1]: a picture, a scene in pseudo-colour, or a measurement, stretched, as far as it is one."""
    picture = given.get("x", given.get("y"))
    assert picture is not None
    if picture.shape[1] not in (1, 3):
        picture = pseudo_colour(picture)
    return picture.clamp(0, 1)


def held_out(design: Design, items: Sequence[Item]) -> list[Example]:
    """An example from the middle of every item; for SR the kernels and scales take turns."""
    from srgui.training.pairs import read_hr

    return [
        example_of(design, _middle(read_hr(item, 1), _MULTIPLE[design.task]), item.path.name, number)
        for number, item in enumerate(items)
    ]


def example_of(design: Design, photo: np.ndarray, name: str, number: int) -> Example:
    """A held-out photograph (H, W, 3) uint8 as an example of its task; ``number`` decides what is drawn."""
    rgb = torch.from_numpy(np.ascontiguousarray(photo.transpose(2, 0, 1))).float()[None] / 255
    if design.task == "sr":
        return sr_example(rgb, the_twelve()[5 * number % 12][None, None], SCALES[number % 3], name)
    if design.task == "cs":
        grey = luminance(rgb)
        return Example(name, {"x": grey}, grey)
    scene = paint(photo, np.random.default_rng(number))[None]
    return Example(name, {"x": scene, "mask": coded_aperture()[None, None, : photo.shape[0], : photo.shape[1]]}, scene)


def sr_example(hr: Tensor, kernel: Tensor, sf: int, name: str, sigma: float = 0.0, seed: int = 0, bits: int = 0) -> Example:
    """``hr`` (1, 3, H, W), sides multiples of ``sf``, seen through a kernel (1, 1, kh, kw), with noise of ``sigma`` in [0, 1].

    Args:
        bits: to which the measurement is rounded, which counts as noise; 0 leaves it as it is.
    """
    y = BlurDownsample(kernel, sf, (hr.shape[-2], hr.shape[-1])).A(hr)
    if sigma:
        y = y + sigma * torch.randn(y.shape, generator=torch.Generator().manual_seed(seed))
    if bits:
        top = 2**bits - 1
        y = y.clamp(0, 1).mul(top).round().div(top)
        sigma = (sigma**2 + 1 / 12 / top**2) ** 0.5
    given = {"y": y, "kernel": kernel, "sf": torch.tensor([sf]), "sigma": torch.tensor([sigma])}
    return Example(name, given, hr, sf**2)


def _middle(photo: np.ndarray, multiple: int) -> np.ndarray:
    height, width = (min(SIDE, length) // multiple * multiple for length in photo.shape[:2])
    top, left = (photo.shape[0] - height) // 2, (photo.shape[1] - width) // 2
    return photo[top : top + height, left : left + width]


def scene_samples(scene: Tensor) -> np.ndarray:
    """A scene in pseudo-colour as (H, W, 3) uint8."""
    return to_samples(pseudo_colour(scene), 8)
