"""What a person asks for when they ask for a training."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from srgui.device import pick
from srgui.errors import InputError
from srgui.lora.catalogue import new_name
from srgui.models.cards import find_card, new_model_name
from srgui.training.learner import lora_spec
from srgui.training.presets import Preset
from srgui.training.recipe import Recipe, changed


def spare_workers() -> int:
    """How many processes to cut patches in: on few cores they would only take turns with the training itself."""
    return min(8, (os.cpu_count() or 1) // 4)


@dataclass(frozen=True)
class Order:
    """What is asked for.

    Attributes:
        name: of the adapter, or of the model, that will be written.
        pictures: folders and files of HR pictures. A folder named several times is drawn more often.
        model: what to start from, as ``--model`` takes it; empty with ``network``.
        network: the shape of a network to start from random weights, see :func:`srgui.models.build.build`.
        under: adapters that lie beneath what is trained, frozen, each with its strength; as a pixel adapter does beneath a
            semantic one.
        val_dir: a folder of held-out pictures; otherwise some of ``pictures`` are held out.
    """

    name: str
    pictures: tuple[str, ...]
    model: str
    recipe: Recipe
    preset: str = ""
    network: Mapping[str, Any] = field(default_factory=dict)
    under: tuple[tuple[str, float], ...] = ()
    lr_dir: str | None = None
    pair_by: Literal["name", "order"] = "name"
    val_dir: str | None = None
    val_lr_dir: str | None = None
    device: str = "auto"
    workers: int = field(default_factory=spare_workers)
    title: str = ""
    licence: str = "unknown"

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "recipe": self.recipe.as_dict(), "pictures": list(self.pictures)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Order:
        """Raises InputError where it is not what :meth:`as_json` gave."""
        try:
            values = {**content, "recipe": changed(Recipe(), content["recipe"]), "pictures": tuple(content["pictures"])}
            values["under"] = tuple((name, strength) for name, strength in content.get("under", ()))
            return cls(**values)
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"this order for a training cannot be read ({error}); start the training anew") from error


def beneath(preset: Preset, model: str) -> tuple[tuple[str, float], ...]:
    """The adapters that lie beneath what ``preset`` trains on ``model``, where none are named.

    Raises:
        ModelError: there is no such model.
    """
    pair = find_card(model).pair
    return ((pair[0], 1.0),) if preset.on_pixel and pair else ()


def check_order(order: Order) -> None:
    """What can be refused at once: a name that is taken or no name, a rank that is none, an unknown device.

    Raises:
        AdapterError, ModelError: the name, the rank.
        InputError: the device.
    """
    if order.recipe.method == "lora":
        new_name(order.name)
        lora_spec(order.recipe)
    else:
        new_model_name(order.name)
    pick(order.device)
