"""``adapters``: list, inspect, import, export, rename and remove adapters."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from srgui.cli.common import Model
from srgui.models.cards import DEFAULT_MODEL

app = typer.Typer(no_args_is_help=True, help="List, inspect, import, export, rename and remove adapters.")


@app.command("list")
def adapters_list() -> None:
    """The adapters that come with srgui, and your own."""
    from srgui.lora.catalogue import scan

    cards, problems = scan()
    for problem in problems:
        print(f"warning: {problem}", file=sys.stderr)
    for name, card in cards.items():
        gain = card.metrics.get("mean_gain_db")
        helped = f"{gain:+.2f} dB" if isinstance(gain, (int, float)) else ""
        print(f"{name:20} x{card.scale}  {card.role:8} for {card.base.id:20} {helped:>9}  {card.title}")


@app.command("show")
def adapters_show(name: str) -> None:
    """Everything an adapter's card says."""
    from srgui.lora.catalogue import find_adapter

    card = find_adapter(name)
    fields = {
        "title": card.title,
        "role": card.role,
        "base": f"{card.base.id}, sha256 {card.base.sha256 or 'unknown'}",
        "scale": card.scale,
        "rank": f"{card.rank} ({card.form}), alpha {card.alpha or 'as the rank'}, targets {', '.join(card.targets)}",
        "degradation": card.degradation,
        "verdict": card.metrics.get("verdict", ""),
        "description": card.description,
        "limits": card.limits,
        "licence": card.licence,
        "trained on": card.trained_on,
        "pictures": card.training_sha256 and f"sha256 {card.training_sha256}",
        "metrics": card.metrics,
        "cost": card.cost,
        "recipe": card.recipe,
        "place": str(card.path or ""),
    }
    for label, value in fields.items():
        if value:
            text = json.dumps(value, indent=2, ensure_ascii=False) if isinstance(value, dict) else value
            print(f"{label + ':':14} {text}")


@app.command("import")
def adapters_import(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A file or folder: of srgui, peft, kohya or diffusers.")],
    name: Annotated[str | None, typer.Option(help="Name to give it; by default the file's, of a pair the model's.")] = None,
    model: Model = DEFAULT_MODEL,
) -> None:
    """Copy an adapter among yours, if it fits the model it is for; of PiSA-SR's own file both, as NAME-pixel and NAME-semantic."""
    from srgui.lora.catalogue import import_adapters
    from srgui.restorers import open_adapted

    to = open_adapted(model)
    for found in import_adapters(path, to.module, to.card.id, to.digest, to.scale, name):
        print(f"{found.name} is ready, for {found.base.id}")


@app.command("export")
def adapters_export(name: str, file: Annotated[Path, typer.Argument(help="A .safetensors file to write.")]) -> None:
    """Write an adapter with its card into one file."""
    from srgui.lora.catalogue import export_adapter

    export_adapter(name, file)
    print(file)


@app.command("rename")
def adapters_rename(old: str, new: str) -> None:
    """Give one of your adapters another name."""
    from srgui.lora.catalogue import rename_adapter

    print(f"{rename_adapter(old, new).name} is ready")


@app.command("remove")
def adapters_remove(name: str, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False) -> None:
    """Delete one of your adapters."""
    from srgui.lora.catalogue import own_adapter, remove_adapter

    path = own_adapter(name)
    if not yes:
        typer.confirm(f"Delete {path}?", abort=True)
    remove_adapter(name)
    print(f"{name} is removed")
