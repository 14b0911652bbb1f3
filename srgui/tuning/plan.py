"""An order with everything that can be known before training: pictures checked and split, network loaded, time and memory."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from srgui.device import pick
from srgui.errors import InputError, ModelError
from srgui.lora.adapter import attach, check_fits
from srgui.lora.catalogue import all_adapters, load_adapter
from srgui.lora.trainable import LoraModel
from srgui.models.build import build
from srgui.models.cards import DEFAULT_MODEL, Card, find_card
from srgui.models.load import from_state_dict, load_network, read_state_dict
from srgui.models.network import Network
from srgui.restorers import family_of, open_trainable, pair_adapter
from srgui.training.forecast import forecast
from srgui.training.learner import learner
from srgui.training.pairs import Pair, Pairs, digest, validation_pairs, zoomed_size
from srgui.training.patches import Patches
from srgui.training.preflight import Inventory, Item, inspect, split
from srgui.tuning.order import Order


class Plan:
    """An order with its pictures checked and its network loaded: everything that can be known before training.

    Args:
        weights: whether they must be there; without them the network is built from its shape where it is not here, or too
            large to be read only to be counted.
        inventory: of the order's pictures, where they were inspected already.

    Raises:
        InputError: no usable picture, or too few; a value that cannot be.
        ModelError, AdapterError: the model or a target cannot be had.
    """

    def __init__(self, order: Order, *, weights: bool = True, inventory: Inventory | None = None) -> None:
        self.order = order
        self.card = find_card(order.model) if order.model else None
        self.network = _network(order, self.card, weights)
        self.inventory = inventory or self._inspect([Path(p) for p in dict.fromkeys(order.pictures)], order.lr_dir)

    def _inspect(self, sources: Sequence[Path], lr_dir: str | None) -> Inventory:
        recipe, scale = self.order.recipe, self.network.scale
        return inspect(
            sources,
            scale=scale,
            patch=1 if recipe.resize else recipe.patch,
            degradation=recipe.degradation,
            lr_dir=Path(lr_dir) if lr_dir else None,
            pair_by=self.order.pair_by,
        )

    @cached_property
    def items(self) -> tuple[list[Item], list[Item]]:
        """Pictures to train on, and those held out.

        Raises:
            InputError: there are not enough.
        """
        order, usable = self.order, self.inventory.usable()
        if order.val_dir is not None:
            held = self._inspect([Path(order.val_dir)], order.val_lr_dir).usable()
            seen = {item.sha256 for item in usable}
            both = [item.path.name for item in held if item.sha256 in seen]
            if both:
                raise InputError(f"{both[0]} is in the validation folder and among the training pictures; remove it from one")
            train = usable
        else:
            train, held = split(usable, order.recipe.held_out or None, order.recipe.seed)
        return self._repeated(train), held

    def _repeated(self, items: list[Item]) -> list[Item]:
        times = Counter(str(Path(source).resolve()) for source in self.order.pictures)
        return [item for item in items for _ in range(max(1, times[str(item.path.resolve().parent)]))]

    @cached_property
    def patches(self) -> Patches:
        recipe = self.order.recipe
        pairs = Pairs(self._zoomed(self.items[0]), self.network.scale, recipe.degradation, size=recipe.resize or None)
        return Patches(pairs, patch=recipe.patch, seed=recipe.seed, noisy=recipe.noisy)

    def _zoomed(self, items: list[Item]) -> list[Item]:
        """The items, and after them those that are large enough once more, smaller."""
        recipe, scale = self.order.recipe, self.network.scale
        zooms = [] if recipe.zoom == 1 or recipe.resize else [recipe.zoom**0.5, recipe.zoom]
        smaller = [replace(item, zoom=zoom) for zoom in zooms for item in items if item.lr_path is None]
        return items + [item for item in smaller if min(zoomed_size(item)) // scale >= recipe.patch]

    @cached_property
    def held_out(self) -> list[Pair]:
        recipe = self.order.recipe
        return validation_pairs(self.items[1], self.network.scale, recipe.degradation, recipe.seed)

    @property
    def steps(self) -> int:
        return self.order.recipe.total_steps(len(self.items[0]))

    @property
    def identity(self) -> dict[str, Any]:
        base = self.network.digest or json.dumps(dict(self.order.network))
        return {"base": base, "pictures": self.pictures_sha256, "under": self.under}

    @cached_property
    def under(self) -> list[dict[str, Any]]:
        """The adapters that lie beneath what is trained, for cards."""
        found = [(load_adapter(name), strength) for name, strength in self.order.under]
        return [{"name": adapter.card.name, "strength": strength, "sha256": adapter.digest} for adapter, strength in found]

    @cached_property
    def pictures_sha256(self) -> str:
        return digest([item.path for item in self.items[0]])

    def counts(self) -> dict[str, Any]:
        """``trainable``, ``total`` (parameters of the network), and ``modules`` (layers that learn)."""
        module = learner(self.network.module, self.order.recipe)
        free = {name: p for name, p in module.named_parameters() if p.requires_grad}
        modules = len(module.names) if isinstance(module, LoraModel) else len({name.rpartition(".")[0] for name in free})
        total = sum(p.numel() for p in self.network.module.parameters())
        return {"trainable": sum(p.numel() for p in free.values()), "total": total, "modules": modules}

    def forecast(self) -> dict[str, Any]:
        """``steps``, ``seconds_per_step``, ``seconds`` and ``memory`` (bytes), measured on some real steps."""
        return forecast(self.network, self.order.recipe, self.patches, self.steps, pick(self.order.device))


def _network(order: Order, card: Card | None, weights: bool) -> Network:
    """A network of this training's own: while it learns, nobody else may run it."""
    if card is None:
        return build(order.network, order.recipe.seed)
    if family_of(card).trainable:
        known = all_adapters()  # to be counted, a model needs its own pair no more than its weights
        names = [(name, strength) for name, strength in order.under if weights or name not in card.pair or name in known]
        beneath = [(pair_adapter(card, name), strength) for name, strength in names]
        return open_trainable(card.id, beneath, order.recipe.prompt, weights)
    if card.family not in ("spandrel", "srcnn"):
        raise ModelError(f"{card.id} is of the family {card.family}, which cannot be trained; try {DEFAULT_MODEL}")
    if not card.present:
        if not weights and card.network:
            return build(card.network)
        raise ModelError(f"the weights of {card.id} are not on this machine; {card.remedy}")
    path = card.parts["weights"].path
    found = load_network(path, torch.device("cpu"))
    network = replace(from_state_dict(read_state_dict(path), path), digest=found.digest)
    beneath = [(load_adapter(name), strength) for name, strength in order.under]
    for adapter, _ in beneath:
        check_fits(network.module, adapter, network.digest)
    return network.with_module(attach(network.module, beneath)) if beneath else network
