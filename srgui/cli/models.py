"""``models``: list, inspect, download and add models."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from srgui.cli.common import progress_bar
from srgui.models.cards import find_card, scan
from srgui.models.requirements import REMEDY, missing_packages

app = typer.Typer(no_args_is_help=True, help="List, inspect, download and add models.")


@app.command("list")
def models_list() -> None:
    """The models that come with srgui, your own, and those that can be downloaded."""
    cards, problems = scan()
    for problem in problems:
        print(f"warning: {problem}", file=sys.stderr)
    lacking = False
    for card in cards.values():
        state = "ready" if card.present else "download" if card.downloadable else "incomplete"
        if missing_packages(card.family):
            state, lacking = "packages", True
        print(f"{card.id:28} x{card.scale}  {state:10} {card.licence:14} {card.title}")
    if lacking:
        print(f"packages: some that these models need are not installed; {REMEDY}", file=sys.stderr)


@app.command("show")
def models_show(model: str) -> None:
    """Everything a model's card says."""
    card = find_card(model)
    fields = {
        "id": card.id,
        "title": card.title,
        "description": card.description,
        "family": card.family,
        "scale": card.scale,
        "licence": card.licence,
        "source": card.source,
        "trained on": card.trained_on,
        **{f"part {role}": f"{part.path}{'' if part.path.exists() else ' (not here)'}" for role, part in card.parts.items()},
        "metrics": card.metrics,
        "training": card.training,
    }
    for name, value in fields.items():
        if value:
            print(f"{name + ':':14} {json.dumps(value) if isinstance(value, dict) else value}")


@app.command("download")
def models_download(models: list[str]) -> None:
    """Fetch models of the catalogue into your models folder."""
    from srgui.models.download import download_model

    for model in models:
        with progress_bar() as run:
            card = download_model(model, run)
        print(f"{card.id} is ready")


@app.command("add")
def models_add(
    file: Annotated[Path, typer.Argument(help="A weight file, or a folder with an unfolding network.")],
    name: Annotated[str | None, typer.Option(help="Id to give it; by default the file's name.")] = None,
) -> None:
    """Copy a weight file of any architecture spandrel knows, or the folder of an unfolding network, to your own."""
    if file.is_dir():
        from srgui.unfolding.files import add

        print(f"{add(file, name).id} is ready: on the Lab, and for unfold evaluate --model")
        return
    from srgui.models.download import add_model

    card = add_model(file, name)
    print(f"{card.id} is ready (x{card.scale}, {card.description})")
