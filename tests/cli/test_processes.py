"""Trainings as processes of their own: killed at any moment, or several for one adapter."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from srgui.lora.catalogue import load_adapter, scan
from srgui.places import ROOT
from srgui.training import jobs
from srgui.training.jobs import Job

Call = Callable[..., Any]
SMALL = ["--device", "cpu", "--workers", "0", "--set", "patch=6", "--set", "batch=4", "--set", "validate_every=2"]


def command(hr_dir: Path, tiny_files: Any, name: str) -> list[str]:
    return ["train", str(hr_dir), "--name", name, "--steps", "4", *SMALL, "-m", str(tiny_files.safetensors)]


def environment() -> dict[str, str]:
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "TORCH_HOME": "/nowhere",
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
    }


# Trains in one forked process after the other. Number n kills itself right after the n-th time that it has put a file or a
# folder in its place; the first that is not killed ends all. Prints how each ended.
KILLING = """
import os, signal, sys
from pathlib import Path
import torch
from srgui import metrics
from srgui.cli import main
from srgui.models.load import load_network
from srgui.tuning import result, tune

torch.set_num_threads(1)
tune._lpips = lambda: None
result.ASSETS = Path(sys.argv[2]).parent
load_network(Path(sys.argv[-1]), torch.device("cpu"))  # imported once, for all
metrics.score(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32), 4, None)

def child(number, words):
    left = [number]
    def counting(plain):
        def count(*args, **options):
            result = plain(*args, **options)
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result
        return count
    os.replace = counting(os.replace)
    Path.rename = counting(Path.rename)
    Path.replace = counting(Path.replace)
    sys.argv = ["srgui", *words]
    try:
        main()
    except SystemExit as end:
        os._exit(end.code or 0)
    os._exit(0)

number = 0
while True:
    number += 1
    started = Path(os.environ["SRGUI_HOME"], "jobs", "mine", "order.json").exists()
    process = os.fork()
    if process == 0:
        child(number, ["train", "--name", "mine", "--resume"] if started else sys.argv[1:])
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    broken = [str(path) for path in Path(os.environ["SRGUI_HOME"], "adapters").glob("[!.]*") if not (path / "card.json").exists()]
    print("end", number, status, broken, flush=True)
    if status != -signal.SIGKILL:
        break
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that forks")
def test_killed_at_any_moment_it_can_be_resumed_and_gives_the_same(srgui: Call, hr_dir: Path, tiny_files: Any, home: Path) -> None:
    shutil.copytree(hr_dir, hr_dir.parent / "examples")
    words = command(hr_dir, tiny_files, "mine")
    done = subprocess.run(
        [sys.executable, "-c", KILLING, *words], cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    ends = [line.split(maxsplit=3)[1:] for line in done.stdout.splitlines() if line.startswith("end ")]
    assert [status for _, status, _ in ends] == ["-9"] * (len(ends) - 1) + ["0"], done.stderr
    assert len(ends) > 5
    assert all(broken == "[]" for _, _, broken in ends)
    job = jobs.find("mine")
    assert job.state == "done"
    assert [event["step"] for event in job.events() if event["kind"] == "validation"] == [0, 2, 4]
    assert scan()[1] == []
    assert srgui(*command(hr_dir, tiny_files, "whole")).code == 0
    same("mine", "whole", 0.0)


def same(first: str, second: str, tolerance: float) -> None:
    a, b = load_adapter(first).factors, load_adapter(second).factors
    for name in a:
        for x, y in ((a[name].A, b[name].A), (a[name].B, b[name].B)):
            assert torch.allclose(x, y, rtol=0, atol=tolerance), f"{name} differs by {(x - y).abs().max()}"


def test_a_job_of_the_page_outlives_its_starter_and_says_why_it_failed(hr_dir: Path, home: Path) -> None:
    job = jobs.create("mine", {"name": "mine", "pictures": [str(hr_dir)], "recipe": {"steps": 0}})
    job.start()
    limit = time.monotonic() + 60
    while not job.end and time.monotonic() < limit:
        time.sleep(0.05)
    assert Job(job.folder).state == "failed"
    assert job.end["message"] == "steps = 0 is out of range; use 1 or more"


# Notes the rank and every sample drawn for a step, and then is srgui.
NOTING = """
import os, sys
from pathlib import Path
sys.path.insert(0, os.getcwd())
from srgui.cli import main
from srgui.training import patches

rank, plain = os.environ["RANK"], patches._Steps.__getitem__

def noted(self, step):
    with open(Path(__file__).with_name(f"samples{rank}"), "a") as file:
        print(*range(step * self.batch + self.rank, (step + 1) * self.batch, self.world), file=file)
    return plain(self, step)

patches._Steps.__getitem__ = noted
main()
"""


def launch(script: Path, words: list[str]) -> subprocess.CompletedProcess[str]:
    """Two processes on the CPU."""
    script.write_text(NOTING)
    options = ["--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    start = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", *options, "--main_process_port", "0", str(script)]
    return subprocess.run([*start, *words], cwd=ROOT, env=environment(), capture_output=True, text=True, check=False, timeout=100)


def test_two_processes_train_the_adapter_of_one(srgui: Call, hr_dir: Path, tmp_path: Path, tiny_files: Any, home: Path) -> None:
    done = launch(tmp_path / "noting.py", command(hr_dir, tiny_files, "two"))
    assert done.returncode == 0, done.stderr
    drawn = [[int(sample) for sample in (tmp_path / f"samples{rank}").read_text().split()] for rank in (0, 1)]
    assert drawn == [list(range(0, 16, 2)), list(range(1, 16, 2))]
    assert srgui(*command(hr_dir, tiny_files, "one")).code == 0
    same("one", "two", 1e-5)
    one, two = ([event for event in jobs.find(name).events() if event["kind"] == "validation"] for name in ("one", "two"))
    assert [event["step"] for event in one] == [event["step"] for event in two]
    assert [event["psnr_y"] for event in two] == pytest.approx([event["psnr_y"] for event in one], abs=1e-3)
