"""Adapters' cards as HTML: a table to choose from, and all that one of them says."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from typing import Any

from srgui.lora.card import AdapterCard
from srgui.models.cards import all_cards
from srgui.ui.parts import size_text
from srgui.ui.stack import fits
from srgui.ui.verdict import cost_text, gain_of, verdict_html

_COLUMNS = ("Adapter", "For", "Rank", "Gain", "On ordinary photographs", "Licence", "Size")
_PREVIEW = 4_000_000  # bytes up to which a preview is shown


def table_html(cards: Mapping[str, AdapterCard], problems: Sequence[str], chosen: str | None) -> str:
    """A row for each adapter, its name a button that chooses it (``data-adapter``), then what is wrong with others."""
    if not cards and not problems:
        return (
            "<div class='empty'><strong>There is no adapter yet</strong>"
            "<span>Train one from your own pictures on the Train tab, or import one below.</span></div>"
        )
    head = "".join(f"<th scope='col'>{title}</th>" for title in _COLUMNS)
    rows = "".join(_row(name, card, name == chosen) for name, card in cards.items())
    rows += "".join(f"<tr class='failed'><td colspan='{len(_COLUMNS)}'>{html.escape(text)}</td></tr>" for text in problems)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _row(name: str, card: AdapterCard, chosen: bool) -> str:
    role = "" if card.role == "domain" else f" · {card.role}"
    gain, cost = card.metrics.get("mean_gain_db"), card.cost.get("mean_gain_db")
    cells = [
        f"{html.escape(card.base.id)} <small>×{card.scale}{role}{_misfit(card)}</small>",
        html.escape(card.rank),
        f"{gain:+.2f} dB" if isinstance(gain, (int, float)) else "",
        f"{cost:+.2f} dB <small>{html.escape(str(card.cost.get('on', '')).split(',')[0])}</small>"
        if isinstance(cost, (int, float))
        else "",
        html.escape(card.licence),
        size_text(_size(card)),
    ]
    button = (
        f"<button type='button' data-adapter='{html.escape(name, quote=True)}' aria-pressed='{str(chosen).lower()}'>"
        f"{html.escape(name)}</button>"
    )
    small = f"<small>{html.escape(card.title)}</small>" if card.title != name else ""
    body = "".join(f"<td>{cell}</td>" for cell in cells)
    return f"<tr{' class=chosen' if chosen else ''}><th scope='row'>{button}{small}</th>{body}</tr>"


def _misfit(card: AdapterCard) -> str:
    base = all_cards().get(card.base.id)
    if base is None:
        return " · not on this machine"
    if not base.present:
        return " · not downloaded"
    return "" if fits(card, base) else " · for other weights than those here"


def _size(card: AdapterCard) -> int:
    if card.path is None:
        return 0
    try:
        return sum(file.stat().st_size for file in card.path.glob("adapter_model.*"))
    except OSError:  # removed meanwhile
        return 0


def details_html(name: str, card: AdapterCard) -> str:
    """All that a card says, with the preview that lies beside it."""
    gain = gain_of(card.metrics)
    verdict = verdict_html(gain, card.cost, large=False) if gain is not None else ""
    recipe = card.recipe
    fields = {
        "About": card.description,
        "Limits": card.limits,
        "Other pictures": "" if gain is not None else cost_text(card.cost),
        "Undoes": card.degradation,
        "Trained on": card.trained_on,
        "Training": _training(recipe),
        "Rank": f"{card.rank}, {card.form} form" + (f", alpha {card.alpha:g}" if card.alpha else ""),
        "Licence": card.licence,
        "Place": str(card.path or ""),
    }
    rows = "".join(f"<dt>{key}</dt><dd>{html.escape(value)}</dd>" for key, value in fields.items() if value)
    title = f" <small>{html.escape(card.title)}</small>" if card.title != name else ""
    return f"<h3>{html.escape(name)}{title}</h3>{_preview(name, card)}{verdict}<dl>{rows}</dl>"


def _training(recipe: Mapping[str, Any]) -> str:
    parts = [
        f"{recipe['steps']} steps" if "steps" in recipe else "",
        f"best at {recipe['best_step']}" if "best_step" in recipe else "",
        f"{recipe['minutes']} min on {recipe.get('device', 'a machine')}" if "minutes" in recipe else "",
        str(recipe.get("loss", "")),
    ]
    return ", ".join(part for part in parts if part)


def _preview(name: str, card: AdapterCard) -> str:
    """The picture beside the card, in the page itself: the folder is not served."""
    path = None if card.path is None else card.path / "preview.webp"
    try:
        if path is None or path.stat().st_size > _PREVIEW:
            return ""
        data = base64.b64encode(path.read_bytes()).decode("ascii")
    except OSError:
        return ""
    alt = html.escape(f"A piece of a held-out picture by the base, left, and with {name}, right", quote=True)
    caption = "<figcaption>left: base; right: with the adapter</figcaption>"
    return f"<figure class='preview'><img src='data:image/webp;base64,{data}' alt='{alt}'>{caption}</figure>"
