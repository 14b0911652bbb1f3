"""What a model's family wants to know beside the picture, as controls of the Upscale tab."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import gradio as gr

from srgui.models.cards import find_card
from srgui.protocol import Option, OptionField
from srgui.restorers import FAMILIES, option_fields

_FAMILIES = [name for name, family in FAMILIES.items() if family.options]
_ALL = tuple((family, field) for family in _FAMILIES for field in option_fields(family))


class Options(NamedTuple):
    """The components: a group for each family that has options, and in them a control for each of its options, in order."""

    groups: list[gr.Accordion]
    values: list[Any]


def option_panel(model: gr.Dropdown) -> Options:
    """Lay out the options of every family; those of the model that is chosen in ``model`` are seen."""
    found = Options([], [])
    for family in _FAMILIES:
        seen = _is_of(model.value, family)
        with gr.Accordion("Prompts, tones, start", open=False, visible=seen, elem_id=f"options-{family}") as group:
            found.values.extend(_component(field) for field in option_fields(family))
        found.groups.append(group)
    model.change(shown, model, found.groups, queue=False, show_progress="hidden", api_visibility="private")
    return found


def shown(model: str) -> Any:
    """Which groups are seen with a model."""
    updates = [gr.update(visible=_is_of(model, family)) for family in _FAMILIES]
    return updates if len(updates) > 1 else updates[0]


def read_options(model: str, values: Sequence[Any]) -> dict[str, Option]:
    """The options of a model from the values of all controls; an emptied number is the default."""
    family = find_card(model).family
    told = zip(_ALL, values, strict=False)  # over the API the last ones may be left out
    return {field.name: field.default if value is None else value for (of, field), value in told if of == family}


def written(model: str, options: Mapping[str, Option]) -> list[Any]:
    """The values of all controls for ``options`` of a model, the others at their defaults."""
    family = find_card(model).family
    return [options.get(field.name, field.default) if of == family else field.default for of, field in _ALL]


def _is_of(model: str, family: str) -> bool:
    return find_card(model).family == family


def _component(field: OptionField) -> Any:
    given: dict[str, Any] = {
        "value": field.default,
        "label": field.label,
        "info": field.help,
        "elem_id": f"option-{field.name.replace('_', '-')}",
    }
    if field.choices:
        return gr.Dropdown(list(field.choices.items()), **given)
    if isinstance(field.default, bool):
        return gr.Checkbox(**given)
    if isinstance(field.default, str):
        return gr.Textbox(max_lines=3, **given)
    return gr.Number(precision=0 if isinstance(field.default, int) else None, **given)
