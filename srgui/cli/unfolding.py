"""``unfold``: train, compare and measure unfolding networks (LoRun)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from srgui.cli.common import progress_bar, read_fields, stopping, write_json
from srgui.errors import InputError

if TYPE_CHECKING:
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

    from srgui.unfolding.learning import Order, learn, trained_backbone
    from srgui.unfolding.publish import publish

    plan = _design(task, design)
    changes = {1: read_fields(first), 2: read_fields(second)}
    given = None if backbone is None else trained_backbone(backbone)
    order = Order(plan, data, out, changes, given, workers)
    with progress_bar() as run, stopping(run):
        network, phases = learn(order, run, _tell, Accelerator(cpu=True))
    print(publish(out / "model", name, network, phases))


@app.command()
def evaluate(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES", help="Pictures or folders; .mat scenes too for cassi.")],
    task: TaskOption = "sr",
    scale: Annotated[int, typer.Option(help="sr: 2, 3 or 4.")] = 2,
    kernels: Annotated[str, typer.Option(help="sr: K1 to K12 or files of kernels, separated by commas, or all.")] = "all",
    sigma: Annotated[float, typer.Option(min=0, max=50, help="sr: noise of the LR pictures, in units of 1/255.")] = 0.0,
    bits: Annotated[int, typer.Option(min=0, max=16, help="sr: round the LR pictures to so many bits; 0 does not.")] = 0,
    unknown: Annotated[bool, typer.Option("--unknown", help="sr: do not tell the network the kernel and the noise.")] = False,
    ratio: Annotated[float, typer.Option(help="cs: measurements per pixel, percent.")] = 25.0,
    mask: Annotated[Path | None, typer.Option(help="cassi: .mat, .npy or grey picture; by default a random one.")] = None,
    gap_tv: Annotated[bool, typer.Option("--gap-tv", help="cassi: run GAP-TV beside it, a minute per scene.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many pictures.")] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="Id or folder of an unfolding network.")] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the numbers there.")] = None,
) -> None:
    """Measure a network in its task's own protocol, stage by stage, beside what needs no training."""
    from srgui.unfolding.evaluation import Request
    from srgui.unfolding.evaluation import evaluate as measure
    from srgui.unfolding.files import UNKNOWN, find, load
    from srgui.unfolding.kernels import NAMES
    from srgui.unfolding.scenes import read_mask

    card = find(model or f"srgui-lorun-{_known(task)}")
    network = load(card, f"{ratio:g}" if task == "cs" else UNKNOWN if task == "sr" and unknown else task)
    if network.design.task != task:
        raise InputError(f"{card.id} is for {network.design.task}, not for {task!r}; leave --model out, or give another")
    chosen = NAMES if kernels == "all" else tuple(kernels.split(","))
    window = None if mask is None else read_mask(mask)
    request = Request(_pictures(images)[:limit], chosen if task == "sr" else (), scale, sigma, bits, window, gap_tv)
    with progress_bar() as run, stopping(run):
        found = measure(network, request, run)
    settings = {"model": card.id, "task": task, "sigma": sigma, "bits": bits, "seed": request.seed}
    settings |= (
        {"scale": scale, "kernels": list(chosen), "unknown": unknown} if task == "sr" else {"ratio": ratio} if task == "cs" else {}
    )
    for notice in found["notices"]:
        print(notice)
    for name, scores in {card.id: found["mean"], **found["baselines"]}.items():
        print(f"{name}: {scores['psnr']:.2f} dB, SSIM {scores['ssim']:.4f}")
    print("after each stage: " + ", ".join(f"{psnr:.2f}" for psnr in found["stages"]))
    if json is not None:
        write_json(json, {**found, "settings": settings})


@app.command()
def compare(
    data: Data,
    out: Out,
    images: Annotated[list[Path], typer.Option("--bench", help="Pictures or folders to measure on; can be repeated.")],
    task: TaskOption = "sr",
    steps: Annotated[int, typer.Option(min=2, help="Of every training, both phases together.")] = 1000,
    gammas: Annotated[str, typer.Option(help="Ranks of the LoRA sets in percent, separated by commas.")] = "5,10,20",
    design: DesignFields = None,
    changes: First = None,
    backbone: Annotated[Path | None, typer.Option(help="Folder of a training, such as at another ratio, to adapt as well.")] = None,
    scale: Annotated[int, typer.Option(help="sr: 2, 3 or 4.")] = 2,
    kernels: Annotated[str, typer.Option(help="sr: kernels to measure with.")] = "all",
    limit: Annotated[int | None, typer.Option(min=1, help="Measure on the first so many pictures only.")] = None,
) -> None:
    """One denoiser, one per stage, and one with LoRA sets, for an equal number of steps: report.md, report.json and models/.

    The same command goes on where it was stopped.
    """
    from srgui.unfolding.compare import Comparison, markdown
    from srgui.unfolding.compare import compare as run_all
    from srgui.unfolding.evaluation import Request
    from srgui.unfolding.kernels import NAMES
    from srgui.unfolding.learning import trained_backbone

    chosen = NAMES if kernels == "all" else tuple(kernels.split(","))
    bench = Request(_pictures(images)[:limit], chosen if task == "sr" else (), scale)
    given = None if backbone is None else trained_backbone(backbone)
    ranks = [_percent(part) for part in gammas.split(",")]
    what = Comparison(_design(task, design), data, out, steps, ranks, bench, read_fields(changes), given)
    with progress_bar() as run, stopping(run):
        report = run_all(what, run, _tell, lambda line: print(line, flush=True))
    write_json(out / "report.json", report)
    text = markdown(report)
    (out / "report.md").write_text(text, encoding="utf-8")
    print(text, end="")


def _percent(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"--gammas holds {text!r}, which is no number; such as --gammas 5,10,20") from error


def _pictures(paths: list[Path]) -> list[Path]:
    from srgui.images import list_pictures

    found = [file for path in paths for file in (list_pictures(path) if path.is_dir() else [path])]
    missing = [path for path in found if not path.is_file()]
    if missing:
        raise InputError(f"{missing[0]} does not exist; check the path")
    return found


def _tell(event: dict[str, Any]) -> None:
    if event["kind"] == "validation":
        print(f"step {event['step']} of {event['steps']}: {event['psnr']:.3f} dB, {event['seconds'] / 60:.1f} min", flush=True)
    elif event["kind"] == "phase":
        print(f"phase {event['phase']}: {event['sharing']}", flush=True)


def _known(task: str) -> str:
    """A task's name.

    Raises:
        InputError: there is no such task.
    """
    from srgui.unfolding.design import TASKS

    if task not in TASKS:
        raise InputError(f"there is no task {task!r}; use {', '.join(TASKS)}")
    return task


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
