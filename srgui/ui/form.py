"""The form of the Train tab: from what a person filled in to an order, and what is wrong with it, place by place."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any, Literal

from srgui.degradations import CUSTOM, check_degradation
from srgui.errors import InputError, ModelError, SrguiError
from srgui.lora.catalogue import new_name
from srgui.models.cards import Card, all_cards, find_card
from srgui.models.requirements import check_packages, missing_packages
from srgui.restorers import FAMILIES
from srgui.training.jobs import new_job_name
from srgui.training.preflight import Inventory, Kind, inspect
from srgui.training.presets import preset, presets_for
from srgui.training.recipe import Recipe, changed
from srgui.tuning.order import Order, check_order
from srgui.tuning.plan import Plan
from srgui.ui.parts import duration, size_text
from srgui.ui.stack import fitting

Place = Literal["pictures", "name", "settings"]
Stamp = tuple[str, int]

SUGGESTED = "my-adapter"
_TRAINABLE = ("spandrel", "srcnn", *(name for name, family in FAMILIES.items() if family.trainable))
_LISTED = 5  # problems of a kind that are shown at once
_GROUPS: Mapping[Kind, str] = {
    "unreadable": "cannot be read",
    "too-small": "too small",
    "duplicate": "there twice",
    "no-partner": "without a partner",
    "size-mismatch": "not of the size of their LR",
    "wrong-scale": "of another scale than the model",
}


@dataclass(frozen=True)
class Form:
    """What the page holds, in the order of its inputs; an emptied field of a number is None."""

    pictures: Sequence[str] | None
    folder: str
    name: str
    preset: str
    under: str | None
    degradation: str
    ranges: str
    model: str
    rank: str
    steps: int | None
    lr: float | None
    batch: int | None
    patch: int | None
    held_out: int | None
    lr_dir: str
    pair_by: Literal["name", "order"]
    val_dir: str
    val_lr_dir: str
    title: str
    licence: str
    seed: int | None
    device: str

    @property
    def uploads(self) -> list[Path]:
        return [Path(path) for path in self.pictures or []]


@dataclass
class Check:
    """A form that was looked at: ``problems`` by the place where to show them, and the plan where there is none."""

    problems: dict[Place, str] = field(default_factory=dict)
    inventory: Inventory | None = None
    plan: Plan | None = None


def suggestion() -> str:
    """A name that is free."""
    names = (f"{SUGGESTED}-{number}" if number > 1 else SUGGESTED for number in count(1))
    return next(name for name in names if not name_problem(name))


def name_problem(name: str) -> str:
    """Why an adapter cannot be called so; empty where it can."""
    try:
        new_name(name)
        new_job_name(name)
    except SrguiError as error:
        return str(error)
    return ""


def model_choices() -> list[tuple[str, str]]:
    """Models that can be trained, those that are not here last."""
    cards = sorted((card for card in all_cards().values() if card.family in _TRAINABLE), key=lambda card: bool(_lacking(card)))
    return [(f"{card.title} ×{card.scale}{_lacking(card)}", card.id) for card in cards]


def _lacking(card: Card) -> str:
    if missing_packages(card.family):
        return " (needs packages)"
    return "" if card.present else " (not downloaded)"


def recipe_of(form: Form) -> Recipe:
    """The preset's recipe with what the form says.

    Raises:
        InputError: a value that cannot be.
    """
    degradation = f"{CUSTOM}{form.ranges.strip()}" if form.degradation == CUSTOM else form.degradation
    given = {
        "degradation": degradation,
        "rank": form.rank.strip() or None,
        "steps": form.steps,
        "lr": form.lr,
        "batch": form.batch,
        "patch": form.patch,
        "held_out": form.held_out,
        "seed": form.seed,
    }
    values = {key: value for key, value in given.items() if value is not None}
    if form.steps is not None:
        values["epochs"] = 0
    check_degradation(degradation)
    return changed(preset(form.preset).recipe, values)


def order_of(form: Form) -> Order:
    """The order, with the pictures where they are now.

    Raises:
        InputError: a value that cannot be, or no pictures.
    """
    folder = folder_named(form.folder)
    return Order(
        name=form.name.strip(),
        pictures=(*(str(path) for path in form.uploads), *([str(folder)] if folder else [])),
        model=form.model,
        recipe=recipe_of(form),
        preset=form.preset,
        under=((form.under, 1.0),) if form.under and preset(form.preset).on_pixel else (),
        lr_dir=_text(folder_named(form.lr_dir)),
        pair_by=form.pair_by,
        val_dir=_text(folder_named(form.val_dir)),
        val_lr_dir=_text(folder_named(form.val_lr_dir)),
        device=form.device,
        title=form.title.strip(),
        licence=form.licence.strip() or "unknown",
    )


def kept(order: Order, form: Form, folder: Path) -> Order:
    """``order`` with its uploaded pictures in ``folder``, where the job keeps them."""
    stay = order.pictures[len(form.uploads) :]
    return replace(order, pictures=(*([str(folder)] if form.uploads else []), *stay))


def check(form: Form) -> Check:
    """Look at everything that can be wrong, and read the pictures."""
    found = Check()
    problem = name_problem(form.name.strip())
    if problem:
        found.problems["name"] = problem
    try:
        _check_model(form)
        order = order_of(replace(form, pictures=None, folder=""))
        if not problem:
            check_order(order)
    except SrguiError as error:
        found.problems["settings"] = str(error)
    try:
        if not form.uploads and not form.folder.strip():
            raise InputError("there is no picture yet; drop some into the box, or name a folder")
        folder_named(form.folder)
    except InputError as error:
        found.problems["pictures"] = str(error)
    if not found.problems.keys() & {"settings", "pictures"}:
        _read(form, found)
    return found


def _read(form: Form, found: Check) -> None:
    order = order_of(form)
    patch = 1 if order.recipe.resize else order.recipe.patch
    try:
        sources = tuple(_stamp(path) for path in order.pictures)
        lr = _stamp(order.lr_dir) if order.lr_dir else None
        found.inventory = _inspected(sources, find_card(order.model).scale, patch, lr, order.pair_by)
        plan = Plan(order, weights=False, inventory=found.inventory)
        _ = plan.items
    except InputError as error:
        found.problems["pictures"] = _without_folders(str(error), form)
    except SrguiError as error:
        found.problems["settings"] = str(error)
    else:
        found.plan = plan


@lru_cache(maxsize=8)
def _inspected(
    sources: tuple[Stamp, ...], scale: int, patch: int, lr: Stamp | None, pair_by: Literal["name", "order"]
) -> Inventory:
    """The inventory of sources that have not changed since their stamps: a change of a setting reads no picture again."""
    paths = [Path(path) for path, _ in sources]
    return inspect(paths, scale=scale, patch=patch, lr_dir=Path(lr[0]) if lr else None, pair_by=pair_by)


def _stamp(path: str) -> Stamp:
    try:
        return path, Path(path).stat().st_mtime_ns
    except OSError as error:  # uploads are cleared away after a day
        raise InputError(f"{Path(path).name} is no longer there; drop it again") from error


def _check_model(form: Form) -> None:
    card, fitting = find_card(form.model), presets_for(find_card(form.model).family)
    if form.preset not in fitting:
        titles = ", ".join(each.title for each in fitting.values())
        raise InputError(f"{preset(form.preset).title} is not for {card.title}; choose one of {titles}, or another model")
    check_packages(card.family)
    if not card.present:
        raise ModelError(f"{card.title} is not on this machine yet; download it on the Models tab, or choose another model")


def folder_named(text: str) -> Path | None:
    """The folder that a person named; quotes, as file managers put them around a path, are taken off.

    Raises:
        InputError: there is none.
    """
    text = text.strip().strip("\"'")
    if not text:
        return None
    try:
        path = Path(text).expanduser().resolve()
        there = path.is_dir()
    except (OSError, RuntimeError, ValueError) as error:  # a name that is too long, a user that is not there, a null byte
        raise InputError(f"{text[:80]!r} cannot be a folder ({error}); check the path") from error
    if not there:
        raise InputError(f"there is no folder {text}; check the path, on the computer that srgui runs on")
    return path


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _without_folders(text: str, form: Form) -> str:
    """A message with the names of uploaded files instead of where the server keeps them."""
    for path in form.uploads:
        text = text.replace(str(path), path.name)
    return text


def inventory_html(found: Check, form: Form) -> str:
    """What the check of the pictures found: how many can be used, which are held out, and the rest grouped by problem."""
    inventory = found.inventory
    if inventory is None:
        return ""
    known = len(inventory.items)
    text = f"<p><b>{known} picture{'s' if known != 1 else ''} can be used</b>"
    if found.plan is not None:
        held = found.plan.items[1]
        names = ", ".join(item.path.name for item in held[:3]) + (", …" if len(held) > 3 else "")
        text += f"; {len(held)} of them {'is' if len(held) == 1 else 'are'} held out to measure with ({html.escape(names)})"
    groups = {kind: [f.problem for f in inventory.findings if f.kind == kind] for kind in _GROUPS}
    return text + "</p>" + "".join(_group(_GROUPS[kind], problems, form) for kind, problems in groups.items() if problems)


def _group(title: str, problems: Sequence[str], form: Form) -> str:
    lines = [f"<li>{html.escape(_without_folders(problem, form))}</li>" for problem in problems]
    more = f"<li>and {len(lines) - _LISTED} more</li>" if len(lines) > _LISTED else ""
    return f"<details open><summary>{len(lines)} {title}, left out</summary><ul>{''.join(lines[:_LISTED])}{more}</ul></details>"


def forecast_html(counts: Mapping[str, Any], cost: Mapping[str, Any], recipe: Recipe) -> str:
    """What will learn, and what it will take."""
    share = counts["trainable"] / counts["total"]
    learns = f"{counts['trainable']:,} weights learn ({share:.0%} of the model's), on {counts['modules']} layers"
    early = ", less if it stops improving" if recipe.patience else ""
    more = ", and what the perceptual loss takes on top" if recipe.perceptual or recipe.adversarial else ""
    took = f"about <b>{duration(cost['seconds'])}</b> for {cost['steps']} steps{early}; {size_text(cost['memory'])}{more}"
    return f"<p>{took}</p><p>{learns}</p>"


def under_choices(model: str) -> list[tuple[str, str]]:
    """The pixel adapters of a model, on which a semantic one can be trained, the model's own first."""
    found = [name for name, adapter in fitting(model, find_card(model).pair).items() if adapter.role == "pixel"]
    own = [name for name in found if name in find_card(model).pair]
    names = own + [name for name in found if name not in own]
    return [(f"{name} (comes with the model)" if name in own else name, name) for name in names]


def preset_choices(model: str) -> list[tuple[str, str]]:
    """Presets that fit a model, by title; those that are made for one that is not here say so."""
    cards = all_cards()
    fitting = presets_for(find_card(model).family)
    there = {name: cards[model_for(name, model)].present for name in fitting}
    return [(chosen.title + ("" if there[name] else " (needs a download)"), name) for name, chosen in fitting.items()]


def model_for(name: str, model: str) -> str:
    """The model that a preset starts from while ``model`` is chosen: that, if it fits and is no preset's own; else its own."""
    fitting = presets_for(find_card(model).family)
    return model if name in fitting and model not in {each.model for each in fitting.values()} else preset(name).model
