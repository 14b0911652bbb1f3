"""From a model's name to a restorer: the one place that knows which family is run by which class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srgui.device import pick
from srgui.errors import AdapterError, ModelError, near
from srgui.models.cards import DEFAULT_MODEL, Card, find_card
from srgui.models.requirements import check_packages
from srgui.protocol import OptionField, Restorer

if TYPE_CHECKING:
    from torch import nn

    from srgui.inference.made import Made
    from srgui.lora.adapter import Adapter
    from srgui.models.network import Network


@dataclass(frozen=True)
class Family:
    """How models of a family are run, adapted and trained; what is named is imported when it is needed.

    Attributes:
        restorer: the class, as ``module:name``.
        adapted: of a family that is more than one network, the part that adapters lie on, with the base's digest.
        digest: and that digest alone, which takes no packages.
        trainable: and a network made of it that can be trained.
        options: what models want to know beside the picture.
        paired: whether a base restores nothing without its pair.
    """

    restorer: str
    adapted: str = ""
    digest: str = ""
    trainable: str = ""
    options: str = ""
    paired: bool = False


FAMILIES = {
    "spandrel": Family("srgui.inference.pixel:PixelRestorer"),
    "srcnn": Family("srgui.inference.pixel:PixelRestorer"),
    "bicubic": Family("srgui.inference.pixel:BicubicRestorer"),
    "lorun": Family("srgui.unfolding.restorer:LorunRestorer"),
    "pisa-sr": Family(
        "srgui.diffusion.pisa:PisaRestorer",
        adapted="srgui.diffusion.base:adapted_part",
        digest="srgui.diffusion.base:base_digest",
        trainable="srgui.diffusion.training:open_trainable",
        options="srgui.diffusion.options:FIELDS",
        paired=True,
    ),
}


def family_of(card: Card) -> Family:
    """What is known of a card's family; one that is unknown can do nothing."""
    return FAMILIES.get(card.family, Family(""))


def open_restorer(
    model: str = DEFAULT_MODEL,
    *,
    adapters: Sequence[tuple[str, float]] = (),
    pair: bool = False,
    device: str = "auto",
    tile: int | None = None,
) -> Restorer:
    """The restorer for a model's id, card or weight file.

    Args:
        adapters: names, folders or files of adapters, each with its strength.
        pair: put the model's own pixel and semantic adapters on it, where it has them and ``adapters`` holds none of a pair.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        tile: side of a tile in LR pixels; None chooses it from free memory.

    Raises:
        ModelError: unknown model or family, weights missing or unusable.
        AdapterError: an adapter is unknown, broken, or made for another base.
        InputError: a device that is not there, or a tile that is too small.
    """
    from srgui.inference.engine import Engine
    from srgui.lora.catalogue import load_adapter

    card = _present(_found(model))
    family = FAMILIES[card.family]
    loaded = [(load_adapter(name), strength) for name, strength in adapters]
    if (pair or family.paired) and not any(adapter.card.role in ("pixel", "semantic") for adapter, _ in loaded):
        loaded += [(pair_adapter(card, name), 1.0) for name in card.pair]
    restorer: Restorer = _named(family.restorer).open(card, pick(device), Engine(tile), loaded)
    return restorer


def reopen(made: Made, *, model: str | None = None, device: str = "auto") -> Restorer:
    """The restorer that made a result: the same weights and adapters, whatever the adapters are called now.

    Args:
        model: where the weights are, if not among the models known by their id.

    Raises:
        ModelError: the model is not there, or has other weights now.
        AdapterError: an adapter is not on this machine.
        InputError: as :func:`open_restorer`.
    """
    from srgui.lora.catalogue import named

    adapters = [(named(each.name, each.sha256), each.strength) for each in made.adapters]
    restorer = open_restorer(model or made.model, adapters=adapters, device=device, tile=made.tile)
    if made.model_sha256 is not None and restorer.info.digest != made.model_sha256:
        raise ModelError(f"{restorer.info.id} has other weights than those that made this result; give them with --model")
    return restorer


def option_fields(family: str) -> tuple[OptionField, ...]:
    """What a person may say to models of ``family`` beside the picture."""
    target = FAMILIES[family].options
    found: tuple[OptionField, ...] = _named(target) if target else ()
    return found


def open_network(model: str) -> tuple[Card, Network]:
    """The card of a model that is one network, and that network on the CPU, shared with all who run it.

    Raises:
        ModelError: unknown model, weights missing or unusable, or it is no network.
    """
    import torch

    from srgui.models.load import load_network

    card = _present(find_card(model))
    if "weights" not in card.parts:
        raise ModelError(f"{card.id} is not a network with weights; choose one such as {DEFAULT_MODEL}")
    return card, load_network(card.parts["weights"].path, torch.device("cpu"))


def _found(model: str) -> Card:
    """Unfolding networks have a catalogue of their own: most take no picture, and all want more than one."""
    from srgui.unfolding.files import scan

    return scan()[0].get(model) or find_card(model)


@dataclass(frozen=True)
class Adapted:
    """What adapters for a model lie on.

    Attributes:
        module: its shapes are enough to check an adapter; it may be on the meta device.
        digest: of the base's weights, as adapters name it.
    """

    card: Card
    module: nn.Module
    digest: str | None
    scale: int


def open_adapted(model: str) -> Adapted:
    """What adapters for a model lie on.

    Raises:
        ModelError: unknown model, weights missing or unusable, or it cannot be adapted.
    """
    card = find_card(model)
    target = family_of(card).adapted
    if not target:
        card, network = open_network(model)
        return Adapted(card, network.module, network.digest, network.scale)
    part, digest = _named(target)(_present(card))
    return Adapted(card, part, digest, card.scale)


def adapters_base(card: Card) -> str | None:
    """The digest of what adapters for a model lie on; None where it is not on this machine, or takes none."""
    if not card.present or not takes_adapters(card):
        return None
    target = family_of(card).digest
    if target:
        found: str | None = _named(target)(card)
        return found
    path = card.parts["weights"].path
    return _digest(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=32)
def _digest(path: Path, _mtime: int) -> str:
    from srgui.models.load import file_digest

    return file_digest(path)


def takes_adapters(card: Card) -> bool:
    return bool(family_of(card).adapted) or "weights" in card.parts


def open_trainable(model: str, beneath: Sequence[tuple[Adapter, float]], prompt: str, weights: bool = True) -> Network:
    """A model that is more than one network as a network that can be trained.

    Args:
        beneath: adapters that lie beneath what is trained, frozen.
        prompt: what the pictures show.
        weights: whether they must be there; without them the network is on the meta device, to be counted only.

    Raises:
        ModelError: unknown model, weights missing or unusable. AdapterError: an adapter is for another base.
    """
    card = find_card(model)
    if weights:
        _present(card)
    network: Network = _named(family_of(card).trainable)(card, beneath, prompt, weights)
    return network


def pair_adapter(card: Card, name: str) -> Adapter:
    """An adapter that may be one of a model's own pair.

    Raises:
        AdapterError: it is unknown; of a pair that does not come with srgui, where to get it. Or it is broken.
    """
    from srgui.lora.catalogue import all_adapters, load_adapter

    if name in card.pair and name not in all_adapters() and card.source:
        raise AdapterError(
            f"{card.id} needs the adapter {name}, which is not on this machine; get it from {card.source} and bring it in with: "
            f"python -m srgui adapters import FILE --model {card.id} --name {card.id}"
        )
    return load_adapter(name)


def _named(target: str) -> Any:
    """What ``module:name`` names."""
    module, name = target.split(":")
    return getattr(import_module(module), name)


def _present(card: Card) -> Card:
    if card.family not in FAMILIES:
        raise ModelError(f"{card.id} is of the unknown family {card.family!r}; update srgui. {near(card.family, FAMILIES)}")
    check_packages(card.family)
    if not card.present:
        raise ModelError(f"the weights of {card.id} are not on this machine; {card.remedy}")
    return card
