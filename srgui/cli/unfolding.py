"""``unfold``: train, compare and measure unfolding networks (LoRun)."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from srgui.cli.common import progress_bar, read_fields
from srgui.errors import Cancelled, InputError, SrguiError

if TYPE_CHECKING:
    from srgui.protocol import Run
    from srgui.unfolding.design import Design

app = typer.Typer(no_args_is_help=True, help="Unfolding networks (LoRun): known operators, one denoiser, a LoRA per stage.")

Data = Annotated[list[Path], typer.Option("--data", metavar="DIR", help="Photographs to train on; can be repeated.")]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for checkpoints and weights.")]
TaskOption = Annotated[str, typer.Option("--task", help="sr, cs or cassi.")]
DesignFields = Annotated[
    list[str] | None,
    typer.Option("--design", metavar="FIELD=VALUE", help="Change the network: stages, widths, denoiser, step, rank, ratio."),
]
First = Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change the recipe of the backbone.")]
Second = Annotated[list[str] | None, typer.Option("--set2", metavar="FIELD=VALUE", help="Change the recipe of the LoRA sets.")]


@app.command()
def train(
    data: Data,
    out: Out,
    task: TaskOption = "sr",
    design: DesignFields = None,
    first: First = None,
    second: Second = None,
    backbone: Annotated[Path | None, typer.Option(help="Folder of a training whose denoiser is adapted, not trained.")] = None,
    name: Annotated[str, typer.Option(help="Id of the network on its card.")] = "my-lorun",
    workers: Annotated[int, typer.Option(min=0, help="Processes that cut patches.")] = 0,
) -> None:
    """Train a network, backbone first and then its LoRA sets; the same command goes on where it was stopped."""
    from accelerate import Accelerator

    from srgui.unfolding.learning import Order, learn, resumed
    from srgui.unfolding.publish import publish

    plan = _design(task, design)
    changes = {1: read_fields(first), 2: read_fields(second)}
    given = None if backbone is None else resumed(backbone, "single", 1)
    order = Order(plan, data, out, changes, given, workers)
    with progress_bar() as run, stopping(run):
        network, phases = learn(order, run, _tell, Accelerator(cpu=True))
    place = publish(out, name, network, phases)
    print(place)


def _tell(event: dict[str, Any]) -> None:
    if event["kind"] == "validation":
        print(f"step {event['step']} of {event['steps']}: {event['psnr']:.3f} dB, {event['seconds'] / 60:.1f} min", flush=True)
    elif event["kind"] == "phase":
        print(f"phase {event['phase']}: {event['sharing']}", flush=True)


def _design(task: str, fields: list[str] | None) -> Design:
    """A design from the command line.

    Raises:
        InputError: a field is unknown or its value cannot be read.
    """
    from srgui.unfolding.design import Design, read_design

    kinds: dict[str, Any] = {name: type(value) for name, value in Design().as_dict().items()}
    values: dict[str, Any] = {"task": task}
    for name, text in read_fields(fields).items():
        try:
            if kinds.get(name) is list:
                values[name] = [int(part) for part in text.split(",")]
            elif kinds.get(name) is bool:
                values[name] = {"true": True, "false": False}[text.lower()]
            else:
                values[name] = kinds.get(name, str)(text)
        except (ValueError, KeyError) as error:
            raise InputError(
                f"--design {name}={text} cannot be read; such as --design stages=5 --design widths=16,32,64,64"
            ) from error
    return read_design(values)


@contextmanager
def stopping(run: Run) -> Iterator[None]:
    """Ctrl-C lets a training keep its checkpoint first."""
    former = signal.signal(signal.SIGINT, lambda *_: run.cancel())
    try:
        yield
    except Cancelled:
        raise SrguiError("stopped; the same command goes on from here") from None
    finally:
        signal.signal(signal.SIGINT, former)
