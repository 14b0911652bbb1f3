from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from srgui.errors import Cancelled, OutputError, SrguiError, TrainingError
from srgui.places import ROOT
from srgui.protocol import Run
from srgui.training import jobs
from srgui.training.jobs import Job, all_jobs, create, find, jobs_folder, new_job_name


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_POLL", 0.02)
    monkeypatch.setattr(jobs, "_LOOK", 0.2)


class Worker(threading.Thread):
    """Is at a job until it is told to end, or its run is cancelled."""

    def __init__(self, job: Job, device: str = "cpu", error: BaseException | None = None) -> None:
        super().__init__(daemon=True)
        self.job, self.device, self.error, self.run_ = job, device, error, Run()
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.raised: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            with self.job.working(self.device, self.run_):
                self.begun.set()
                while not self.may_end.wait(0.01):
                    self.run_.check()
                if self.error is not None:
                    raise self.error
        except (SrguiError, ZeroDivisionError) as error:
            self.raised = error

    def end(self) -> None:
        self.may_end.set()
        self.join(10)
        assert not self.is_alive()


def until(condition: Callable[[], Any]) -> None:
    limit = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


def make(name: str, age: float = 0.0) -> Job:
    job = create(name, {"name": name})
    os.utime(job.folder / "order.json", (time.time() - age,) * 2)
    return job


# States


def test_a_job_runs_and_is_done() -> None:
    job = make("a")
    assert find("a").order == {"name": "a"}
    worker = Worker(job)
    assert worker.begun.wait(10)
    assert job.alive
    assert job.state == "running"
    assert job.end == {}
    worker.end()
    assert (job.state, job.alive, job.end["message"]) == ("done", False, "")
    assert [event["kind"] for event in job.events()] == ["begin"]


@pytest.mark.parametrize(
    ("error", "message"), [(TrainingError("no space"), "no space"), (ZeroDivisionError("x"), "ZeroDivisionError: x")]
)
def test_a_job_that_fails_says_why(error: Exception, message: str) -> None:
    worker = Worker(make("a"), error=error)
    worker.end()
    assert worker.raised is error
    assert (find("a").state, find("a").end["message"]) == ("failed", message)


def test_a_stopped_job_is_resumed() -> None:
    job = make("a")
    worker = Worker(job)
    assert worker.begun.wait(10)
    job.stop()
    worker.join(10)
    assert isinstance(worker.raised, Cancelled)
    assert job.state == "stopped"
    job.renew()
    assert job.state == "interrupted"
    worker = Worker(job)
    assert worker.begun.wait(10)
    assert job.state == "running"
    worker.end()
    assert job.state == "done"


def test_a_job_whose_process_is_killed_is_interrupted() -> None:
    job = make("a")
    code = f"""
from pathlib import Path
from srgui.protocol import Run
from srgui.training.jobs import Job
with Job(Path({str(job.folder)!r})).working("cpu", Run()):
    input()
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE) as process:
        until(lambda: job.events())
        assert job.state == "running"
        process.kill()
    assert job.state == "interrupted"
    worker = Worker(job)
    worker.end()
    assert job.state == "done"


# Taking turns


def test_one_job_at_a_time_on_a_device_the_oldest_first() -> None:
    first, young, old = make("first"), make("young", 10), make("old", 20)
    running = Worker(first)
    assert running.begun.wait(10)
    waiting = [Worker(young), Worker(old)]
    until(lambda: young.state == old.state == "queued")
    elsewhere = Worker(make("elsewhere"), "cuda:0")
    assert elsewhere.begun.wait(10)
    assert not any(worker.begun.is_set() for worker in waiting)
    running.end()
    assert waiting[1].begun.wait(10)
    assert (young.state, old.state) == ("queued", "running")
    waiting[1].end()
    assert waiting[0].begun.wait(10)
    waiting[0].end()
    elsewhere.end()


def test_a_queued_job_can_be_stopped() -> None:
    running, waiting = Worker(make("a")), make("b")
    assert running.begun.wait(10)
    worker = Worker(waiting)
    until(lambda: waiting.state == "queued")
    waiting.stop()
    worker.join(10)
    assert waiting.state == "stopped"
    assert not worker.begun.is_set()
    running.end()


def test_a_job_killed_while_it_waited_holds_nobody_up() -> None:
    dead = make("dead", 100)
    (dead.folder / "waiting").write_text("cpu")
    worker = Worker(make("a"))
    assert worker.begun.wait(10)
    worker.end()


def test_two_processes_are_not_at_one_job() -> None:
    job = make("a")
    first = Worker(job)
    assert first.begun.wait(10)
    second = Worker(Job(job.folder))
    second.join(10)
    assert "runs already, in another process" in str(second.raised)
    assert job.state == "running"
    job.fail("nothing")
    job.start()  # it is running: nothing happens
    first.end()
    assert job.state == "done"


def test_looking_does_not_get_in_the_way() -> None:
    job = make("a")
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            _ = job.state

    watchers = [threading.Thread(target=look, daemon=True) for _ in range(4)]
    for watcher in watchers:
        watcher.start()
    for _ in range(5):
        worker = Worker(job)
        worker.end()
        assert worker.raised is None
    over.set()
    for watcher in watchers:
        watcher.join(10)


# Names and folders


@pytest.mark.parametrize("name", ["../x", "/x", "con", "a/b", "", ".a", "a" * 101])
def test_a_name_that_is_none_is_refused(name: str, home: Path) -> None:
    with pytest.raises(TrainingError, match="cannot be the name of an adapter; use letters"):
        create(name, {})
    with pytest.raises(TrainingError, match="there is no training called"):
        find(name)
    assert not home.exists()


def test_a_name_is_taken_until_its_job_is_over_and_holds_nothing() -> None:
    job = make("a")
    for state in ("interrupted", "running", "stopped"):
        if state == "running":
            worker = Worker(job)
            assert worker.begun.wait(10)
        if state == "stopped":
            (job.folder / "checkpoint.pt").touch()
            job.stop()
            worker.join(10)
        with pytest.raises(TrainingError, match=rf"is there already \({state}\); resume it, remove .*a, or choose another name"):
            new_job_name("a")
        with pytest.raises(TrainingError, match="is there already"):
            create("a", {})
    job.finish()
    job.tell({"kind": "step", "step": 1})
    assert create("a", {"new": True}).order == {"new": True}
    assert find("a").events() == []
    assert [path.name for path in jobs_folder().iterdir() if path.is_dir()] == ["a"]


def test_a_job_cannot_be_discarded_while_it_runs() -> None:
    worker = Worker(make("a"))
    assert worker.begun.wait(10)
    with pytest.raises(TrainingError, match="runs; stop it first"):
        find("a").discard()
    worker.end()
    find("a").discard()
    assert all_jobs() == []


def test_a_removed_job_does_not_come_back() -> None:
    job = make("a")
    job.discard()
    assert (job.alive, job.state, job.events(), job.end, job.created) == (False, "interrupted", [], {}, 0.0)
    job.discard()
    with pytest.raises(TrainingError, match=r"has no readable order\.json"):
        _ = job.order
    assert not job.folder.exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"3", b"\xff", b"null"])
def test_an_order_that_cannot_be_read_is_said(content: bytes) -> None:
    job = make("a")
    (job.folder / "order.json").write_bytes(content)
    with pytest.raises(TrainingError, match=r"a has no readable order\.json"):
        _ = job.order
    assert job.state == "interrupted"
    job.discard()


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    job = make("a")
    (job.folder / "events.jsonl").mkdir()
    with pytest.raises(TrainingError, match="cannot be written: .*; free some space and resume"):
        job.tell({})
    jobs_folder().joinpath("b").mkdir()
    monkeypatch.setattr(Path, "mkdir", lambda *args, **kwargs: os.listdir("/nowhere/at/all"))  # noqa: PTH208 - fails as a disk may
    with pytest.raises(OutputError, match="cannot be written"):
        create("c", {})


def test_pictures_that_will_go_are_kept(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").write_text(folder)
    job = create("a", {}, [tmp_path / "x" / "a.png", tmp_path / "y" / "a.png"])
    assert {path.name: path.read_text() for path in job.pictures.iterdir()} == {"a.png": "x", "a-2.png": "y"}


# Events


def test_what_was_done_again_counts_once() -> None:
    job = make("a")
    told = [
        {"kind": "begin"},
        {"kind": "validation", "step": 0},
        {"kind": "step", "step": 100},
        {"kind": "validation", "step": 100},
        {"kind": "step", "step": 150, "old": True},
        {"kind": "step", "step": 180, "old": True},
        {"kind": "begin"},
        {"kind": "step", "step": 150},
        {"kind": "step", "step": 200},
        {"kind": "validation", "step": 200},
    ]
    for event in told:
        job.tell(event)
    with (job.folder / "events.jsonl").open("a") as file:
        file.write('{"kind": "st')
    assert job.events() == [event for event in told if "old" not in event]
    assert [json.dumps(event["step"]) for event in job.events() if "step" in event] == ["0", "100", "100", "150", "200", "200"]
