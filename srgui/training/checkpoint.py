"""What a training leaves on disk: its checkpoint, written so that no crash can break it, and sample pictures."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from srgui.errors import TrainingError
from srgui.images import Layout, to_samples, write_picture
from srgui.metrics import Scores
from srgui.training.validation import Watched

FILE = "checkpoint.pt"
SAMPLES = "samples"
_SHOWN = 4  # held-out pictures of which samples are kept


@dataclass
class Progress:
    """How far a training is: what a checkpoint holds besides tensors."""

    step: int = 0
    seconds: float = 0.0
    best_step: int = 0
    waited: int = 0  # measurements since the best
    base: Scores = field(default_factory=dict)
    best: Scores = field(default_factory=dict)


class Checkpoint:
    """The checkpoint of one folder.

    Args:
        identity: which training it belongs to; one of another is refused.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self.path, self.identity = folder / FILE, identity

    def write(self, state: dict[str, Any], progress: Progress) -> None:
        """Replace the checkpoint; the old one stays until the new one is whole.

        Raises:
            TrainingError: there is no room, or the folder cannot be written.
        """
        temporary = self.path.with_suffix(".part")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            torch.save({"identity": self.identity, "progress": asdict(progress), **state}, temporary)
            temporary.replace(self.path)
        except (OSError, RuntimeError) as error:  # torch's zip writer raises the latter when the disk is full
            temporary.unlink(missing_ok=True)
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error).splitlines()[0]
            kept = "the one before is kept" if self.path.exists() else "there is none yet"
            raise TrainingError(
                f"the checkpoint {self.path} cannot be written ({reason}); {kept}; free some space and resume"
            ) from error

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def read(self) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """The state, on the CPU, and the progress, or None where there is none.

        Raises:
            TrainingError: it is damaged, or belongs to another training.
        """
        if not self.path.exists():
            return None
        try:
            content = torch.load(self.path, weights_only=True, map_location="cpu")
            identity, progress = content.pop("identity"), content.pop("progress")
        except (
            pickle.UnpicklingError,
            RuntimeError,
            OSError,
            EOFError,
            ValueError,
            LookupError,
            AttributeError,
            TypeError,
        ) as error:
            raise TrainingError(f"the checkpoint {self.path} is damaged; remove it to start anew") from error
        differing = [key for key in self.identity if identity.get(key) != self.identity[key]]
        if differing:
            raise TrainingError(
                f"the training in {self.path.parent} was started with another {', '.join(differing)}; "
                "give what it was started with to resume it, or another name"
            )
        return content, progress


def write_samples(folder: Path, step: int, watched: Sequence[Watched], results: Sequence[Tensor]) -> None:
    """Write what the network makes of some held-out pictures: ``samples/<n>-now.png``, and at step 0 LR, HR and the base's.

    Raises:
        TrainingError: they cannot be written.
    """
    place = folder / SAMPLES
    try:
        place.mkdir(parents=True, exist_ok=True)
        for number, (picture, sr) in enumerate(list(zip(watched, results, strict=True))[:_SHOWN]):
            if step == 0:
                _write(place / f"{number}-lr.png", picture.lr)
                _write(place / f"{number}-hr.png", picture.hr)
            _write(place / f"{number}-{'base' if step == 0 else 'now'}.png", sr)
    except OSError as error:
        raise TrainingError(f"samples cannot be written to {place}: {error.strerror}; free some space and resume") from error


def _write(path: Path, picture: Tensor) -> None:
    samples = to_samples(picture, 8)
    height, width, channels = samples.shape
    write_picture(path, Layout(height, width, channels, 8), [samples], overwrite=True)
