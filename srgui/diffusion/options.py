"""What a person may choose beside the picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import isfinite
from typing import get_args

from srgui.diffusion.colour import Fix
from srgui.errors import InputError
from srgui.protocol import OptionField

_SEEDS = 2**53  # what a page can hold exactly


@dataclass(frozen=True)
class Options:
    """What a person may choose for a picture; the defaults are those of PiSA-SR's release, but for the encoding.

    Attributes:
        prompt: what is in the picture; empty as released.
        negative_prompt: what shall not be in it. Where it is given, every plane takes a second pass.
        prompt_scale: how far the prediction is moved from the negative prompt's to the prompt's (classifier-free guidance,
            arXiv 2207.12598, Eq. 6); without a negative prompt it does nothing.
        sampled: encode by a sample of the VAE's distribution, as released, drawn with ``seed``; otherwise by its mode.
        colour: whose tones the result has, see :func:`srgui.diffusion.colour.colour_fix`.
    """

    prompt: str = ""
    negative_prompt: str = ""
    prompt_scale: float = 1.5
    sampled: bool = False
    seed: int = 0
    colour: Fix = "adain"

    @classmethod
    def of(cls, extras: Mapping[str, object]) -> Options:
        """From what a source brings beside its picture.

        Raises:
            InputError: an option is unknown, of the wrong type, or out of range.
        """
        kinds = {each.name: type(each.default) for each in fields(cls)}
        for name, value in extras.items():
            if name not in kinds:
                raise InputError(f"there is no option {name!r} for this model; it has {', '.join(kinds)}")
            if type(value) is not kinds[name] and not (kinds[name] is float and type(value) is int):
                raise InputError(f"{name} {value!r} must be of type {kinds[name].__name__}")
        found = cls(**extras)  # type: ignore[arg-type]
        if found.colour not in get_args(Fix):
            raise InputError(f"there is no colour fix {found.colour!r}; use {', '.join(get_args(Fix))}")
        if not 0 <= found.seed < _SEEDS:
            raise InputError(f"seed {found.seed} is out of range; use 0 to {_SEEDS - 1}")
        if not isfinite(found.prompt_scale):
            raise InputError(f"prompt_scale {found.prompt_scale} is no number; use one such as {cls.prompt_scale}")
        return found


FIELDS = (
    OptionField("prompt", "What is in the picture", "Empty, as released.", Options.prompt),
    OptionField("negative_prompt", "What shall not be in it", "Takes a second pass.", Options.negative_prompt),
    OptionField(
        "prompt_scale",
        "How far from the one to the other",
        "Guidance scale; only with something that shall not be in it.",
        Options.prompt_scale,
    ),
    OptionField(
        "colour",
        "Tones",
        "The model shifts them: AdaIN and wavelet take them from your picture.",
        Options.colour,
        {"As in the picture (AdaIN)": "adain", "In large areas as there (wavelet)": "wavelet", "As the model draws them": "none"},
    ),
    OptionField(
        "sampled", "Random start", "As published: encodes by a sample. Off: by the mode, always the same.", Options.sampled
    ),
    OptionField("seed", "Seed", "Of the random start.", Options.seed),
)
