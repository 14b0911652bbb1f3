"""Commands that train: train and, for base models from random weights, train-base."""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from srgui.cli.common import Device, Fields, read_adapters, read_fields, write_json
from srgui.errors import Cancelled, InputError, SrguiError, near

if TYPE_CHECKING:
    from accelerate import Accelerator

    from srgui.training.jobs import Job
    from srgui.training.recipe import Recipe
    from srgui.tuning.order import Order
    from srgui.tuning.plan import Plan

app = typer.Typer()
Name = Annotated[str, typer.Option(help="Name of what will be written; it becomes a folder's.")]
Workers = Annotated[
    int | None, typer.Option(min=0, help="Processes that cut patches; by default one for every four cores.", show_default=False)
]


@app.command()
def train(
    context: typer.Context,
    name: Name,
    hr_dir: Annotated[list[Path] | None, typer.Argument(metavar="HR_DIR", help="Folders of good pictures, or pictures.")] = None,
    lr_dir: Annotated[Path | None, typer.Option(help="Folder of their LR pictures, instead of a degradation.")] = None,
    pair_by: Annotated[str, typer.Option(help="How LR is found: by name, or by order.")] = "name",
    val_dir: Annotated[Path | None, typer.Option(help="Folder of held-out HR pictures; by default some of the others are.")] = None,
    val_lr_dir: Annotated[Path | None, typer.Option(help="Folder of their LR pictures.")] = None,
    degradation: Annotated[
        str | None, typer.Option(help="How LR is made: bicubic, camera, realworld, kernels or custom:...; by default the recipe's.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the split, the patches and the start.")] = None,
    preset: Annotated[str, typer.Option(help="Named recipe; `presets` lists them.")] = "domain",
    recipe_file: Annotated[Path | None, typer.Option("--recipe", help="A recipe as TOML or JSON, instead of a preset.")] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="What to start from; by default the preset's.")] = None,
    rank: Annotated[str | None, typer.Option(help="Of LoRA: a number, or a percentage such as 10%.")] = None,
    steps: Annotated[int | None, typer.Option(help="How long to train at most.")] = None,
    under: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[:STRENGTH]", help="An adapter that lies frozen beneath, as pixel does beneath semantic."),
    ] = None,
    options: Fields = None,
    title: Annotated[str, typer.Option(help="For people; by default the name.")] = "",
    licence: Annotated[str, typer.Option(help="Of what is trained, for its card.")] = "unknown",
    workers: Workers = None,
    device: Device = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the training of this name; nothing else has to be given again.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the pictures, count, and forecast time and memory; needs no weights.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write what was found to this file.")] = None,
) -> None:
    """Train an adapter on your own pictures (or, with the preset full, a whole model), and measure whether it helps.

    Ctrl-C keeps a checkpoint. Under `accelerate launch -m srgui train ...` it uses several GPUs or machines.
    """
    from srgui.training.presets import preset as named
    from srgui.tuning.order import Order, beneath, spare_workers

    if pair_by not in ("name", "order"):
        raise InputError(f"--pair-by {pair_by} is not known; use name or order")
    if hr_dir:
        given = {"degradation": degradation, "seed": seed, "rank": rank, "steps": steps}
        order = Order(
            name=name,
            pictures=tuple(str(path.resolve()) for path in hr_dir),
            model=model or named(preset).model,
            recipe=_recipe(recipe_file, preset, given, options),
            preset="" if recipe_file else preset,
            under=tuple(read_adapters(under)) or beneath(named(preset), model or named(preset).model),
            lr_dir=_absolute(lr_dir),
            pair_by="order" if pair_by == "order" else "name",
            val_dir=_absolute(val_dir),
            val_lr_dir=_absolute(val_lr_dir),
            device=device,
            workers=spare_workers() if workers is None else workers,
            title=title,
            licence=licence,
        )
        if resume:
            _check_same(order, _started(name))
    else:
        _refuse_alone(context, resume)
        order = _started(name)
    if dry_run:
        _dry_run(order, json_file)
    else:
        _train(order, resume, json_file)


@app.command("presets")
def presets_command() -> None:
    """The named recipes of train."""
    from srgui.training.presets import PISA, PRESETS

    for name, preset in {**PRESETS, **PISA}.items():
        print(f"{name:26} {preset.title}. {preset.description} Starts from {preset.model}.")


@app.command("train-base")
def train_base(
    hr_dir: Annotated[list[Path], typer.Argument(metavar="HR_DIR", help="Folders; named twice, drawn twice as often.")],
    name: Name,
    network: Annotated[str, typer.Option(help="Recipe: compact, compact-cooldown or srcnn.")] = "compact",
    start: Annotated[str | None, typer.Option(help="Model to go on from, as compact-cooldown does.")] = None,
    options: Fields = None,
    workers: Workers = None,
    device: Device = "auto",
) -> None:
    """Train a base model from nothing. The bundled models were made with this; their cards give the recipe.

    Ctrl-C keeps a checkpoint, from which `train --resume` goes on.
    """
    from srgui.training.presets import BASES
    from srgui.training.recipe import changed
    from srgui.tuning.order import Order, spare_workers

    if network not in BASES:
        raise InputError(f"there is no network {network!r}. {near(network, BASES)}")
    fields = read_fields(options)
    shape: dict[str, Any] = {"kind": "srcnn" if network == "srcnn" else "compact"}
    shape |= {key: _whole(key, fields.pop(key)) for key in ("scale", "features", "convs") if key in fields}
    order = Order(
        name=name,
        pictures=tuple(str(path.resolve()) for path in hr_dir),
        model=start or "",
        recipe=changed(BASES[network], fields),
        preset=network,
        network={} if start else shape,
        device=device,
        workers=spare_workers() if workers is None else workers,
        licence="Apache-2.0",
    )
    _train(order, False, None)


@app.command("train-job", hidden=True)
def train_job(folder: Path) -> None:
    """Be the process of a training that the page started."""
    from srgui.training.jobs import Job
    from srgui.tuning.order import Order

    job = Job(folder)
    try:
        _work(job, Order.from_json(job.order))
    except SrguiError as error:
        job.fail(str(error))
        raise


def _recipe(file: Path | None, preset: str, given: dict[str, Any], options: list[str] | None) -> Recipe:
    """The recipe of a file or a preset, with what is given instead of its fields."""
    from srgui.training.presets import preset as named
    from srgui.training.recipe import changed, read_recipe

    values = {key: value for key, value in given.items() if value is not None}
    if "steps" in values:
        values["epochs"] = 0
    return changed(read_recipe(file) if file else named(preset).recipe, {**values, **read_fields(options)})


def _started(name: str) -> Order:
    """What the training of this name was started with."""
    from srgui.training import jobs
    from srgui.tuning.order import Order

    return Order.from_json(jobs.find(name).order)


def _refuse_alone(context: typer.Context, resume: bool) -> None:
    """Without pictures, a training can only go on as it was started."""
    if not resume:
        raise InputError("train needs HR_DIR, a folder of good pictures; only with --resume it can be left out")
    kept = {"name", "hr_dir", "resume", "json_file", "dry_run"}
    sources = {name: context.get_parameter_source(name) for name in context.params.keys() - kept}
    changes = sorted(name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE")
    if changes:
        raise InputError(f"--resume without HR_DIR goes on as it was started and takes no {', '.join(changes)}; leave it out")


def _check_same(given: Order, started: Order) -> None:
    new, old = given.as_json(), started.as_json()
    changes = [key for key, value in old["recipe"].items() if new["recipe"][key] != value]
    changes += [key for key in ("pictures", "model", "lr_dir", "pair_by", "val_dir", "val_lr_dir") if new[key] != old[key]]
    if changes:
        raise InputError(
            f"the training {given.name} was started with another {', '.join(changes)}; "
            "give --resume and --name alone to go on with it, or choose another name"
        )


def _dry_run(order: Order, json_file: Path | None) -> None:
    from srgui.tuning.order import check_order
    from srgui.tuning.plan import Plan

    check_order(order)
    plan = Plan(order, weights=False)
    train, held_out = plan.items
    found = {
        **plan.counts(),
        **plan.forecast(),
        "pictures": len(train),
        "held_out": [item.path.name for item in held_out],
        "preflight": plan.inventory.as_json(),
        "recipe": order.recipe.as_dict(),
    }
    for line in plan.inventory.lines():
        print(line)
    share = found["trainable"] / found["total"]
    print(f"{found['trainable']:,} of {found['total']:,} parameters train ({share:.1%}), on {found['modules']} layers")
    print(f"{len(train)} pictures to learn from, {len(held_out)} held out")
    print(f"{found['steps']} steps, about {_duration(found['seconds'])} and {found['memory'] / 1e9:.1f} GB")
    if json_file is not None:
        write_json(json_file, found)


def _train(order: Order, resume: bool, json_file: Path | None) -> None:
    from srgui.training import jobs
    from srgui.tuning.tune import accelerator, prepare, together, written

    def enter() -> Job:
        if resume:
            job = jobs.find(order.name)
            if job.state == "done" and not over:
                raise InputError(
                    f"the training {order.name} is finished; remove {job.folder} to train it anew, or choose another name"
                )
            if _first() and not job.alive:
                job.renew()
            return job
        return jobs.create(order.name, order.as_json()) if _first() else jobs.Job(jobs.jobs_folder() / order.name)

    computer = accelerator(order)
    over = resume and written(jobs.find(order.name).folder) is not None
    plan = None if over else prepare(order, computer)
    job = together(computer, enter)
    try:
        found = _work(job, order, plan, computer)
    except SrguiError:
        if _first() and job.state == "failed" and not job.resumable:
            job.discard()  # the reason is told here, and there is nothing to go on from
        raise
    if json_file is not None and _first():
        write_json(json_file, found)


def _work(job: Job, order: Order, plan: Plan | None = None, computer: Accelerator | None = None) -> dict[str, Any]:
    """Train in this process; the first of several writes the job's events."""
    from srgui.protocol import Run
    from srgui.tuning.tune import accelerator, prepare, together, tune, written

    run, computer = Run(), computer or accelerator(order)

    def tell(event: dict[str, Any]) -> None:
        job.tell(event)
        _print(event)

    device = computer.device
    place = "cpu" if device.type == "cpu" else f"{device.type}:{device.index or 0}"
    turn = job.working(place, run) if _first() else job.listening(run)
    try:
        with ExitStack() as stack:
            together(computer, lambda: stack.enter_context(turn))
            if (found := written(job.folder)) is not None:
                tell({"kind": "result", **found})
            else:
                found = tune(plan or prepare(order, computer), job.folder, run, tell, computer)
            if _first():
                job.finish()
    except Cancelled:
        raise SrguiError(f"stopped; go on with: python -m srgui train --name {shlex.quote(job.name)} --resume") from None
    return found


def _first() -> bool:
    """Whether this process is the first of those that `accelerate launch` started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def _print(event: dict[str, Any]) -> None:
    kind = event["kind"]
    if kind == "preflight":
        print("\n".join(event["lines"]), flush=True)
    elif kind == "step" and sys.stderr.isatty():
        print(f"\r\033[Kstep {event['step']}/{event['steps']}  loss {event['loss']:.5f}", end="", file=sys.stderr, flush=True)
    elif kind == "validation":
        labels = {"psnr_y": ("PSNR-Y", ".3f"), "ssim_y": ("SSIM-Y", ".4f"), "lpips": ("LPIPS", ".4f")}
        known = ((label, spec, event[key]) for key, (label, spec) in labels.items() if event[key] is not None)
        scores = "  ".join(f"{label} {value:{spec}}" for label, spec, value in known)
        best = "  best" if event["best_step"] == event["step"] else ""
        print("\r\033[K" if sys.stderr.isatty() else "", end="", file=sys.stderr, flush=True)
        print(f"step {event['step']:6} {_duration(event['seconds']):>7}  {scores}{best}", flush=True)
    elif kind == "result":
        metrics = event["metrics"]
        verdict = metrics["verdict"] if "verdict" in metrics else f"Y-PSNR {metrics['psnr_y']:.3f} dB"
        change = event["cost"].get("mean_gain_db")
        cost = f"On {event['cost']['on']}: {change:+.2f} dB." if change is not None else ""
        print("\n".join(line for line in (event["stopped"], verdict, cost, event["place"]) if line), flush=True)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _whole(name: str, text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 10_000:
        raise InputError(f"{name}={text} must be a whole number of 1 or more")
    return int(text)


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(path.resolve())
