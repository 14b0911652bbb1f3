"""What a person asks for when they ask for a training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from srgui.device import pick
from srgui.errors import InputError
from srgui.lora.catalogue import new_name
from srgui.models.cards import new_model_name
from srgui.training.recipe import Recipe, changed


@dataclass(frozen=True)
class Order:
    """What is asked for.

    Attributes:
        name: of the adapter, or of the model, that will be written.
        pictures: folders and files of HR pictures. A folder named several times is drawn more often.
        model: what to start from, as ``--model`` takes it; empty with ``network``.
        network: the shape of a network to start from random weights, see :func:`srgui.models.build.build`.
        val_dir: a folder of held-out pictures; otherwise some of ``pictures`` are held out.
    """

    name: str
    pictures: tuple[str, ...]
    model: str
    recipe: Recipe
    preset: str = ""
    network: Mapping[str, Any] = field(default_factory=dict)
    lr_dir: str | None = None
    pair_by: Literal["name", "order"] = "name"
    val_dir: str | None = None
    val_lr_dir: str | None = None
    device: str = "auto"
    workers: int = 1
    title: str = ""
    licence: str = "unknown"

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "recipe": self.recipe.as_dict(), "pictures": list(self.pictures)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Order:
        """Raises InputError where it is not what :meth:`as_json` gave."""
        try:
            values = {**content, "recipe": changed(Recipe(), content["recipe"]), "pictures": tuple(content["pictures"])}
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise InputError(f"this order for a training cannot be read ({error}); start the training anew") from error


def check_order(order: Order) -> None:
    """What can be refused at once: a name that is taken or no name, an unknown device.

    Raises:
        AdapterError, ModelError: the name.
        InputError: the device.
    """
    if order.recipe.method == "lora":
        new_name(order.name)
    else:
        new_model_name(order.name)
    pick(order.device)
