"""Packages that only some families need, and what to say where they are missing."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

from srgui.errors import ModelError

PACKAGES: Mapping[str, tuple[str, ...]] = {"pisa-sr": ("diffusers", "transformers")}
REMEDY = "add them with: pip install -r requirements-diffusion.txt"


def missing_packages(family: str) -> tuple[str, ...]:
    """Names of the packages that models of ``family`` need and that are not installed."""
    return tuple(name for name in PACKAGES.get(family, ()) if find_spec(name) is None)


def check_packages(family: str) -> None:
    """
    Raises:
        ModelError: a package that ``family`` needs is not installed.
    """
    missing = missing_packages(family)
    if missing:
        raise ModelError(f"models of the family {family} need {' and '.join(missing)}, not installed here; {REMEDY}")
