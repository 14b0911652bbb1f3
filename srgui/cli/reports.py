"""``report``: the tables of two papers, made anew on one's own pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from srgui.cli.common import Device, Fields, Model, progress_bar, read_fields, stopping, write_json
from srgui.models.cards import DEFAULT_MODEL

if TYPE_CHECKING:
    from srgui.reports.kinds import Kind

app = typer.Typer(no_args_is_help=True, help="Make the tables of two papers anew on your own pictures.")

Data = Annotated[
    list[Path], typer.Option("--data", metavar="DIR", help="HR pictures, or a folder with train/ and val/; can be repeated.")
]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for report.md, report.json and the trainings.")]
Bench = Annotated[
    list[Path] | None, typer.Option("--bench", metavar="DIR", help="HR pictures that are measured too; can be repeated.")
]
Steps = Annotated[int | None, typer.Option(help="How long each training takes; by default as the paper says.")]
Workers = Annotated[int, typer.Option(min=0, help="Processes that cut patches.")]


@app.command("esrgan-lora")
def esrgan_lora(
    data: Data,
    out: Out,
    model: Model = DEFAULT_MODEL,
    bench: Bench = None,
    l1: Annotated[bool, typer.Option("--l1", help="Train with the L1 loss alone.")] = False,
    steps: Steps = None,
    options: Fields = None,
    workers: Workers = 1,
    device: Device = "auto",
) -> None:
    """ESRGAN + LoRA: parameters with and without LoRA; scores and time before and after it is trained, per data set.

    The same command goes on where an interrupted one stopped, and does not train twice.
    """
    from srgui.reports.kinds import ESRGAN_LORA, ESRGAN_LORA_L1

    _report(ESRGAN_LORA_L1 if l1 else ESRGAN_LORA, data, out, model, bench, _changes(steps, options), workers, device)


@app.command("esrgan-finetune")
def esrgan_finetune(
    data: Data,
    out: Out,
    model: Model = DEFAULT_MODEL,
    bench: Bench = None,
    steps: Steps = None,
    options: Fields = None,
    workers: Workers = 1,
    device: Device = "auto",
) -> None:
    """Fine-tuning the trunk: bicubic, SRCNN, the model, and its trunk trained with MSE and with a perceptual loss.

    The same command goes on where an interrupted one stopped, and does not train twice.
    """
    from srgui.reports.kinds import ESRGAN_FINETUNE

    _report(ESRGAN_FINETUNE, data, out, model, bench, _changes(steps, options), workers, device)


def _changes(steps: int | None, options: list[str] | None) -> dict[str, Any]:
    return {**({} if steps is None else {"steps": steps, "epochs": 0}), **read_fields(options)}


def _report(
    kind: Kind,
    data: list[Path],
    out: Path,
    model: str,
    bench: list[Path] | None,
    changes: dict[str, Any],
    workers: int,
    device: str,
) -> None:
    from srgui.cli.pictures import find_lpips
    from srgui.reports.page import markdown
    from srgui.reports.request import Request, data_sets
    from srgui.reports.study import Study

    request = Request(kind, data_sets(data), out, tuple(bench or ()), model, changes, device, workers)
    out.mkdir(parents=True, exist_ok=True)
    study = Study(request, *find_lpips("auto"), say=lambda line: print(line, flush=True))
    with progress_bar() as run, stopping(run):
        report = study.report(run)
    write_json(out / "report.json", report)
    text = markdown(report)
    (out / "report.md").write_text(text, encoding="utf-8")
    print(text, end="")
    print(out / "report.md")
