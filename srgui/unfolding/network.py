"""The network: data steps and denoisers in turn, one denoiser shared, one per stage, or one with a LoRA per stage (LoRun)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from srgui.lora.trainable import LoraSet, LoraSpec
from srgui.unfolding.denoisers import build_denoiser
from srgui.unfolding.design import Design
from srgui.unfolding.sensing import Given, build_sensing

PHASES = {1: ("*",), 2: ("adapters.*", "sensing*")}  # what learns, as patterns on the names of modules (LoRun, Algorithm 1)


class Unfolding(nn.Module):
    """K stages of a data step and a denoiser (LoRun, arXiv 2602.18697).

    With ``lorun`` stage k runs the one denoiser with the weights W + B_k A_k (Eq. 4); only the factors are kept per stage.

    Args:
        seed: of the random start.
    """

    def __init__(self, design: Design, seed: int = 0) -> None:
        super().__init__()
        self.design = design
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.sensing = build_sensing(design)
            count = design.stages if design.sharing == "block" else 1
            make = partial(build_denoiser, design.denoiser, design.channels, design.widths, design.skip)
            self.denoisers = nn.ModuleList(make() for _ in range(count))
        sets = design.stages if design.sharing == "lorun" else 0
        spec = LoraSpec(rank=design.rank, form="reshape", targets=self.denoisers[0].adapted)  # type: ignore[arg-type]
        self.adapters = nn.ModuleList(LoraSet(self.denoisers[0], spec, seed + stage) for stage in range(sets))

    def outputs(self, given: Given) -> Iterator[Tensor]:
        """The picture after every stage, (N, C, H, W), not clipped.

        Raises:
            InputError: the measurement does not match its operator.
        """
        given = self.sensing.measured(given)
        y = given["y"]
        operator = self.sensing.operator(given)
        operator.check(y)
        x = self.sensing.start(operator, y)
        for stage, (step, level) in enumerate(zip(*self.sensing.weights(given), strict=True)):
            z = self.sensing.data_step(stage, operator, x, y, step)
            # the noise level as one more channel: (N, C, H, W) -> (N, C + 1, H, W)
            x = self.denoise(stage, torch.cat([z, level.expand(len(z), 1, *z.shape[-2:])], dim=1))
            yield x

    def denoise(self, stage: int, x: Tensor) -> Tensor:
        """What the denoiser of a stage makes of (N, C + 1, H, W)."""
        shared = self.denoisers[stage if self.design.sharing == "block" else 0]
        result: Tensor = self.adapters[stage].adapt(shared, x) if self.adapters else shared(x)  # type: ignore[operator]
        return result

    def forward(self, given: Given) -> Tensor:
        """The picture after the last stage."""
        *_, last = self.outputs(given)
        return last

    def start_from(self, backbone: Unfolding) -> None:
        """Take over the denoiser and, where they fit, the physics of a trained backbone."""
        # a single denoiser starts every block
        for stage, denoiser in enumerate(self.denoisers):
            denoiser.load_state_dict(backbone.denoisers[min(stage, len(backbone.denoisers) - 1)].state_dict())
        own = self.sensing.state_dict()
        theirs = backbone.sensing.state_dict()
        fitting = {name: theirs[name] for name in own.keys() & theirs.keys() if own[name].shape == theirs[name].shape}
        self.sensing.load_state_dict({**own, **fitting})


@dataclass(frozen=True, eq=False)
class Solver:
    """A network as the trainer wants it: called with a measurement, it gives a picture."""

    module: nn.Module
    scale: int = 1

    def with_module(self, module: nn.Module) -> Solver:
        return Solver(module, self.scale)

    def __call__(self, given: Given) -> Tensor:
        """(N, C, H, W) float32, not clipped."""
        picture: Tensor = self.module(given)
        return picture.float()


@dataclass(frozen=True)
class Count:
    """Parameters: of the whole network, of those that learn in the second phase, and what training holds of them in bytes."""

    total: int
    trained: int

    @property
    def memory(self) -> int:
        """Bytes of parameters, and of gradients and Adam's two moments of those that learn, in float32."""
        return 4 * (self.total + 3 * self.trained)


def count(design: Design) -> Count:
    """Of a network of this design. A matrix Phi is left out: it is the measurement's, not the solver's."""
    network = Unfolding(design)
    total = sum(p.numel() for name, p in network.named_parameters() if not name.endswith("phi"))
    frozen = sum(p.numel() for p in network.denoisers.parameters()) if design.sharing == "lorun" else 0
    return Count(total, total - frozen)
