"""Adapters on the Upscale tab: which fit the model, and a strength for each of those that are chosen."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any, NamedTuple

import gradio as gr

from srgui.errors import AdapterError, InputError
from srgui.lora.card import AdapterCard
from srgui.lora.catalogue import all_adapters
from srgui.models.cards import Card, all_cards
from srgui.restorers import adapters_base, takes_adapters

MOST = 4
STRONGEST = 2.0
_NONE_YET = "None for this model yet: train your own."
_INFO = "For one kind of pictures; they can be stacked."
_PAIR = " One that is (pixel) or (semantic) takes the place of the model's own pair."

# The strengths as they are sent, [[name, strength], ...]: computed in the page, so that a run never gets old ones.
_COLLECT = "(names, ...strengths) => [(names ?? []).map((name, i) => [name, strengths[i]])]"


class Stack(NamedTuple):
    """The components: ``value`` holds [[name, strength], ...], what an upscale gets."""

    chosen: gr.Dropdown
    strengths: list[gr.Slider]
    note: gr.HTML
    value: gr.JSON


def adapter_stack(model: gr.Dropdown) -> Stack:
    """Lay out the choice of adapters for the model that is chosen in ``model``."""
    start = model.value
    chosen = gr.Dropdown(
        multiselect=True, max_choices=MOST, label="Adapters", elem_id="adapters-chosen", value=[], **_offer(fitting(start), start)
    )
    note = gr.HTML(elem_id="adapters-note", elem_classes="note")
    with gr.Column(elem_id="strengths", elem_classes="tight"):
        strengths = [gr.Slider(0, STRONGEST, value=1, step=0.05, visible=False, buttons=[]) for _ in range(MOST)]
    value = gr.JSON([], label="Adapters", visible="hidden")
    stack = Stack(chosen, strengths, note, value)
    private: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    chosen.change(_chosen, [chosen, value], [*strengths, value], queue=False, **private)
    for slider in strengths:
        slider.change(None, [chosen, *strengths], value, js=_COLLECT, api_visibility="private")
    model.change(for_model, [model, chosen], [chosen, note], queue=False, **private)
    return stack


def fitting(model: str, also: Sequence[str] = ()) -> dict[str, AdapterCard]:
    """The adapters that can be put on a model, by name: not the model's own pair, which a box of its own turns on.

    Args:
        also: names that are offered all the same.
    """
    card = all_cards().get(model)
    if card is None or not card.present or not takes_adapters(card):
        return {}
    own = set(card.pair) - set(also)
    return {name: adapter for name, adapter in all_adapters().items() if name not in own and fits(adapter, card)}


def fits(adapter: AdapterCard, card: Card) -> bool:
    """Whether an adapter was made for the weights of a model: by their digest, or by its id where that is not known."""
    if not card.present or not takes_adapters(card):
        return False
    if adapter.base.sha256 is None:
        return adapter.base.id == card.id
    return adapter.base.sha256 == adapters_base(card)


def choose(model: str, names: Sequence[str]) -> Any:
    """The choice set to those of ``names`` that fit the model."""
    found = fitting(model, names)
    return gr.update(value=[name for name in names if name in found], **_offer(found, model))


def refreshed(model: str, chosen: Sequence[str] | None) -> Any:
    """The choice brought up to date: with adapters that came, without those that went.

    Where none went it is not set again: that would take back what a person does with the strengths meanwhile.
    """
    found = fitting(model, chosen or ())
    return choose(model, chosen or ()) if set(chosen or ()) - set(found) else gr.update(**_offer(found, model))


def for_model(model: str, chosen: Sequence[str] | None) -> tuple[Any, str]:
    """The choice for another model, and a note that names what does not fit it."""
    found = fitting(model, chosen or ())
    gone = [name for name in chosen or [] if name not in found]
    note = f"<p>Taken off, as made for another model: {html.escape(', '.join(gone))}</p>" if gone else ""
    return refreshed(model, chosen), note


def read_stack(value: object) -> list[tuple[str, float]]:
    """[[name, strength], ...] as it comes from the page or over the API, checked.

    Raises:
        InputError: it is something else. AdapterError: there is no such adapter among those on this machine.
    """
    if not isinstance(value, list):
        raise InputError(f'adapters {value!r} are not a list; send [["name", 1.0]]')
    known = all_adapters()
    found = []
    for item in value:
        try:
            name, strength = item
            found.append((str(name), float(strength)))
        except (TypeError, ValueError) as error:
            raise InputError(f'{item!r} is not a name and a strength; send [["name", 1.0]]') from error
        if name not in known:
            raise AdapterError(f"there is no adapter {name!r} on this machine; known: {', '.join(known) or 'none yet'}")
    return found


def _offer(found: dict[str, AdapterCard], model: str) -> dict[str, Any]:
    card = all_cards().get(model)
    adaptable = card is not None and takes_adapters(card)
    labels = [(_label(name, adapter), name) for name, adapter in found.items()]
    return {
        "choices": labels,
        "info": (_INFO + _PAIR * any(a.role != "domain" for a in found.values())) if found else _NONE_YET,
        "visible": adaptable,
    }


def _label(name: str, adapter: AdapterCard) -> str:
    role = "" if adapter.role == "domain" else f" ({adapter.role})"
    return f"{name}{role}" if adapter.title == name else f"{name}: {adapter.title}{role}"


def _chosen(names: Sequence[str] | None, value: Sequence[tuple[str, float]] | None) -> tuple[Any, ...]:
    """A slider for each chosen adapter; those that were there keep their strengths."""
    before: dict[str, float] = dict(value or [])
    now = [(name, before.get(name, 1.0)) for name in names or []]
    shown = [gr.update(visible=True, label=f"Strength of {name}", value=strength) for name, strength in now]
    return *shown, *[gr.update(visible=False)] * (MOST - len(shown)), now
