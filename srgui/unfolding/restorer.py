"""The family ``lorun`` behind the two-phase protocol: preparing runs the stages, rendering shows any of them."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from srgui.degradations.kernels import Ellipse, gaussian
from srgui.device import free_memory
from srgui.errors import AdapterError, InputError, MemoryLimitError
from srgui.inference.guidance import Blend
from srgui.models.cards import Card
from srgui.protocol import Box, Control, Forecast, RestorerInfo, Run, Source
from srgui.unfolding.files import digest, load
from srgui.unfolding.network import Unfolding
from srgui.unfolding.physics.blur import SCALES
from srgui.unfolding.scenes import pseudo_colour
from srgui.unfolding.sensing import Given

_PROBE = 48  # side of the picture on which a pass is timed
_LIVE = 10  # feature maps of the finest level that are alive at once


def stage_control(stages: int) -> Control:
    """0 is where the solver starts; between two stages their pictures are blended."""
    text = f"Which of the {stages} stages is shown: 0 is where the solver starts, {stages} the result."
    return Control("stage", "Stage", text, 0, stages, stages, "client")


def stage_weights(values: Mapping[str, float]) -> Mapping[str, float]:
    """Of the planes ``0`` to ``K``: the one named by ``stage``, or the two on either side of it."""
    below = math.floor(values["stage"])
    part = values["stage"] - below
    return {str(below): 1 - part, str(below + 1): part} if part else {str(below): 1.0}


class LorunRestorer:
    """A network of the family ``lorun`` in one setting.

    ``Source.extras`` says what was measured: ``given``, a whole measurement (see :mod:`srgui.unfolding.sensing`); or, for SR,
    ``kernel`` (1, 1, kh, kw), ``sf`` and ``sigma`` (in [0, 1]) beside the LR picture. Without a kernel a Gaussian stands for the
    camera's blur: standard deviation 0.4 LR pixels. An LR picture is continued by reflection beyond its border, unless
    ``circular`` is true, as it is for pictures that were simulated so.
    """

    def __init__(self, network: Unfolding, info: RestorerInfo) -> None:
        self.network = network
        stages = network.design.stages
        self.info = RestorerInfo(
            info.id, info.title, info.family, info.scale, info.licence, (stage_control(stages),), digest(network)
        )

    @classmethod
    def open(cls, card: Card, device: torch.device, engine: object, adapters: Sequence[Any] = ()) -> LorunRestorer:
        """Load the card's first setting.

        Raises:
            ModelError: the weights are missing or do not fit the card.
            AdapterError: an adapter is given.
        """
        if adapters:
            raise AdapterError(f"{card.id} has LoRA sets of its own, one per stage; leave {adapters[0][0].card.name} out")
        return cls(load(card).to(device), RestorerInfo(card.id, card.title, card.family, card.scale, card.licence))

    def forecast(self, height: int, width: int) -> Forecast:
        """Of an LR picture at the card's scale, measured on a small one."""
        area = height * width * self.info.scale**2
        return Forecast(1, self._memory(area), self._seconds * area)

    @cached_property
    def _seconds(self) -> float:
        """Per pixel of the result."""
        design = self.network.design
        x = torch.rand(1, design.channels + 1, _PROBE, _PROBE, device=self._device)
        begun = time.perf_counter()
        with torch.inference_mode():
            self.network.denoise(0, x)
        return (time.perf_counter() - begun) / _PROBE**2 * design.stages

    def _memory(self, area: int) -> int:
        design = self.network.design
        return 4 * area * (design.widths[0] * _LIVE + design.channels * (design.stages + 6))

    @property
    def _device(self) -> torch.device:
        return next(self.network.parameters()).device

    def prepare(self, source: Source, run: Run) -> Unfolded:
        """Start on a measurement; the stages run when the first plane is read.

        Raises:
            InputError: it does not match its operator, or a kernel or scale cannot be used.
            MemoryLimitError: the picture is too large for the memory that is free.
        """
        given, crop = self._given(source)
        prepared = Unfolded(self.network, {name: tensor.to(self._device) for name, tensor in given.items()}, crop)
        needed, free = self._memory(prepared.area), free_memory(self._device)
        if needed > free:
            raise MemoryLimitError(
                f"{self.info.id} needs about {needed / 2**30:.1f} GB for this picture and {free / 2**30:.1f} GB are free; crop it"
            )
        return prepared

    def _given(self, source: Source) -> tuple[Given, Box | None]:
        extras = source.extras
        if isinstance(extras.get("given"), Mapping):
            return extras["given"], None  # type: ignore[return-value]
        if self.network.design.task != "sr":
            raise InputError(f"{self.info.id} restores measurements, not pictures; simulate one, or choose an SR model")
        sf = extras.get("sf", self.info.scale)
        if sf not in SCALES:
            raise InputError(f"scale {sf} has no weights; there are {', '.join(map(str, SCALES))}")
        assert isinstance(sf, int)
        kernel = extras.get("kernel")
        kernel = camera_kernel(sf) if kernel is None else kernel
        assert isinstance(kernel, Tensor)
        sigma = torch.tensor([float(extras.get("sigma", 0.0))])  # type: ignore[arg-type]
        margin = 0 if extras.get("circular") else 4 + math.ceil(max(kernel.shape[-2:]) / 2 / sf)
        y, height, width = mirrored(source.lr, margin), source.lr.shape[-2], source.lr.shape[-1]
        given = {"y": y, "kernel": kernel, "sf": torch.tensor([sf]), "sigma": sigma}
        return given, Box(margin * sf, margin * sf, height * sf, width * sf)


def camera_kernel(sf: int) -> Tensor:
    """(1, 1, 25, 25): a Gaussian of 0.4 LR pixels, between what bicubic downsampling and a lens leave."""
    return torch.from_numpy(gaussian(25, Ellipse(0.4 * sf, 0.4 * sf))).float()[None, None]


def mirrored(picture: Tensor, margin: int) -> Tensor:
    """(1, C, H, W) with ``margin`` pixels more on every side, reflected as often as that takes."""
    height, width = picture.shape[-2:]
    rows, cols = (_reflection(length, margin, picture.device) for length in (height, width))
    return picture[..., rows, :][..., cols]


def _reflection(length: int, margin: int, device: torch.device) -> Tensor:
    places = torch.arange(-margin, length + margin, device=device)
    period = max(1, 2 * (length - 1))
    folded = places.remainder(period)
    return torch.minimum(folded, period - folded).clamp_max(length - 1)


class Unfolded(Blend):
    """A measurement whose stages are computed, together, when one is first shown."""

    def __init__(self, network: Unfolding, given: Given, crop: Box | None) -> None:
        self._network, self._given = network, network.sensing.measured(given)
        operator = network.sensing.operator(self._given)
        operator.check(self._given["y"])
        self.area = operator.size[0] * operator.size[1]
        self._crop = crop or Box(0, 0, *operator.size)
        self._lock = threading.Lock()
        self._outputs: list[Tensor] = []
        count = network.design.stages
        planes = {str(stage): _Stage(self, stage) for stage in range(count + 1)}
        super().__init__(planes, stage_weights, (stage_control(count),))

    @property
    def picture_size(self) -> tuple[int, int]:
        return self._crop.height, self._crop.width

    def outputs(self, run: Run) -> list[Tensor]:
        """The start and every stage's result, (1, C, H, W) on the CPU, not clipped.

        Raises:
            Cancelled: the run was; nothing is kept.
        """
        with self._lock:
            if not self._outputs:
                self._outputs = self._run(run)
            return self._outputs

    def _run(self, run: Run) -> list[Tensor]:
        network, found = self._network, list[Tensor]()
        with torch.inference_mode():
            operator = network.sensing.operator(self._given)
            found.append(self._kept(network.sensing.start(operator, self._given["y"])))
            for stage, picture in enumerate(network.outputs(self._given)):
                found.append(self._kept(picture))
                run.progress("stages", stage + 1, network.design.stages)
        # no inference tensors: metrics and blends are computed outside
        return [picture.clone() for picture in found]

    def _kept(self, picture: Tensor) -> Tensor:
        return picture[(..., *self._crop.slices)].float().cpu()

    def close(self) -> None:
        super().close()
        self._outputs = []


class _Stage:
    """One stage's result as a plane of colours."""

    def __init__(self, owner: Unfolded, stage: int) -> None:
        self._owner, self._stage = owner, stage
        self.size = owner.picture_size

    def read(self, box: Box, run: Run) -> Tensor:
        return colours(self._owner.outputs(run)[self._stage][(..., *box.slices)])

    def close(self) -> None:
        pass


def colours(picture: Tensor) -> Tensor:
    """(1, 3, H, W): a picture as it is, grey three times, a scene in pseudo-colour."""
    if picture.shape[1] == 3:
        return picture
    return picture.expand(-1, 3, -1, -1) if picture.shape[1] == 1 else pseudo_colour(picture)
