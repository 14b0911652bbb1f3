"""The errors a person may meet. Every message says the value, the reason and the remedy, in one line."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class SrguiError(Exception):
    """Base of every error that is told to the user as it stands, without a traceback."""


class InputError(SrguiError):
    """A picture, a folder or a value that was given cannot be used."""


class OutputError(SrguiError):
    """A result cannot be written where it was asked for."""


class ModelError(SrguiError):
    """A model or a weight file is unknown, broken, hostile or not a super-resolution network."""


class AdapterError(SrguiError):
    """An adapter is unknown, broken, hostile, or does not fit the model it is put on."""


class TrainingError(SrguiError):
    """Training cannot start or go on; what was learned so far is kept."""


class DownloadError(SrguiError):
    """A download failed or did not match its digest."""


class MemoryLimitError(SrguiError):
    """Not even the smallest tile fits into memory."""


class MetricUnavailable(SrguiError):
    """A metric cannot be computed here; the message is the reason."""


class Cancelled(SrguiError):
    """The user cancelled the run."""

    def __init__(self) -> None:
        super().__init__("cancelled; nothing was written")


def near(name: str, known: Iterable[str]) -> str:
    """The part of a message that names what is near ``name``: `` Did you mean a, b?``, or all known names."""
    known = sorted(known)
    close = get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"Did you mean {', '.join(close)}?"
    return f"Known: {', '.join(known)}." if known else "There is none on this machine."
