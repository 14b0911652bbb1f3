"""What an unfolding network is made of, as its card says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args, get_type_hints

from srgui.errors import InputError, near
from srgui.lora.targets import Rank
from srgui.unfolding.denoisers import DENOISERS

TaskName = Literal["sr", "cs", "cassi"]
TASKS: tuple[TaskName, ...] = get_args(TaskName)
Step = Literal["hqs", "pgd", "learned"]
Sharing = Literal["single", "block", "lorun"]
Phi = Literal["learned", "fixed"]


@dataclass(frozen=True)
class Design:
    """The shape of a network of ``stages`` data steps with a denoiser after each.

    Attributes:
        step: ``hqs``, the data step in closed form; ``pgd``, a gradient step; or ``learned``, a gradient step whose operator
            nobody knows, so that each stage learns one (SR).
        sharing: ``single``, one denoiser for all stages; ``block``, one for each; ``lorun``, one that a LoRA adapts to each.
        denoiser: ``resunet`` or ``transformer``; ``widths`` are its channels by level, or its (width, blocks).
        skip: whether the denoiser predicts what is to be added to its input.
        rank: of the LoRA, in percent of each layer's channels (gamma) or as a number.
        hidden: of the network that gives the weights of all stages from noise and scale (SR).
        ratio: of the measurement to the picture, percent, and ``phi`` whether its matrix learns (CS).
        bands: of the scene (CASSI).

    Raises:
        InputError: a value is unknown or out of range.
    """

    task: TaskName = "sr"
    stages: int = 9
    step: Step = "hqs"
    sharing: Sharing = "lorun"
    denoiser: str = "resunet"
    widths: tuple[int, ...] = (16, 32, 64, 64)
    skip: bool = True
    rank: str = "10%"
    hidden: int = 32
    ratio: float = 25.0
    phi: Phi = "learned"
    bands: int = 28

    def __post_init__(self) -> None:
        for name, known in (("task", TaskName), ("step", Step), ("sharing", Sharing), ("phi", Phi)):
            value = getattr(self, name)
            if value not in get_args(known):
                raise InputError(f"{name} = {value!r} is not known. {near(str(value), get_args(known))}")
        if self.denoiser not in DENOISERS:
            raise InputError(f"there is no denoiser {self.denoiser!r}. {near(self.denoiser, DENOISERS)}")
        if not 1 <= self.stages <= 30:
            raise InputError(f"{self.stages} stages are out of range; use 1 to 30")
        odd = self.denoiser == "transformer" and (len(self.widths) != 2 or self.widths[0] % 2)
        if not self.widths or min(self.widths) < 1 or odd:
            raise InputError(f"widths {self.widths} fit no {self.denoiser}; such as 16,32,64,64, or 24,2 for a transformer")
        if self.step == "learned" and self.task != "sr":
            raise InputError(f"step = 'learned' is for sr, where the operator may be unknown, not for {self.task}; use hqs or pgd")
        Rank(self.rank)

    @property
    def channels(self) -> int:
        """Of the picture that is restored."""
        return {"sr": 3, "cs": 1, "cassi": self.bands}[self.task]

    def as_dict(self) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def but(self, **changes: Any) -> Design:
        """The same with other values."""
        return replace(self, **changes)


_KINDS: Mapping[str, tuple[type, ...]] = {
    "widths": (tuple,),
    "skip": (bool,),
    "ratio": (int, float),
    "stages": (int,),
    "hidden": (int,),
    "bands": (int,),
}


def read_design(values: Mapping[str, Any]) -> Design:
    """A design from a card's table.

    Raises:
        InputError: an unknown field, or a value of the wrong type or out of range.
    """
    kinds = get_type_hints(Design)
    read = dict[str, Any]()
    for name, value in values.items():
        if name not in {field.name for field in fields(Design)}:
            raise InputError(f"an unfolding network has no {name!r}. {near(name, kinds)}")
        read[name] = tuple(value) if isinstance(value, list) else value
        if not isinstance(read[name], _KINDS.get(name, (str,))) or (isinstance(value, bool) and name != "skip"):
            raise InputError(f"{name} = {value!r} of an unfolding network is of the wrong type; mend its card")
    return Design(**read)
