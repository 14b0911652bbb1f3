"""Trainings as jobs: each a process of its own whose whole state is on disk, so that nothing is lost when a page is closed, the
application restarts, or the process is killed.

``SRGUI_HOME/jobs/<name>/`` holds ``order.json`` (what is asked for), ``events.jsonl`` (what happened), the checkpoint, samples,
``log.txt`` and, once it is over, ``end.json``. Whether a job runs is never written down: it does while its process
holds the lock on ``alive.lock``, which the system lets go of when the process ends, however it ends.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from srgui.errors import Cancelled, OutputError, SrguiError, TrainingError
from srgui.places import PLAIN_NAME, home, is_plain_name
from srgui.protocol import Run
from srgui.training.checkpoint import FILE as CHECKPOINT

State = Literal["queued", "running", "stopped", "interrupted", "done", "failed"]
_POLL = 0.5  # seconds
_STARTING = 30.0  # seconds at most between the start of a process and its lock
_LOOK = 5.0  # seconds within which whoever only looks for a lock lets go of it
_PROBE = threading.Lock()  # two that look for a lock at once would each take the other for its holder
_ENDS: tuple[State, ...] = ("done", "failed", "stopped")


def jobs_folder() -> Path:
    return home() / "jobs"


class Job:
    """One training, by its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, folder.name

    @property
    def order(self) -> dict[str, Any]:
        """What was asked for.

        Raises:
            TrainingError: it cannot be read.
        """
        try:
            return dict(json.loads((self.folder / "order.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise TrainingError(f"the training {self.name} has no readable order.json ({error}); remove {self.folder}") from error

    @property
    def alive(self) -> bool:
        """Whether its process is there, or has just been started."""
        if not (self.folder / "order.json").exists():  # to look at the lock of a removed job would bring its folder back
            return False
        if self._starting:
            return True
        try:
            with _PROBE, FileLock(self.folder / "alive.lock", timeout=0):
                return False
        except (Timeout, PermissionError):
            return True

    @property
    def state(self) -> State:
        if self.alive:
            return "running" if self._begun() else "queued"
        end = self.end.get("state")  # read after the lock, which is let go of when it is written
        return end if end in _ENDS else "interrupted"

    @property
    def _starting(self) -> bool:
        """Whether its process is on its way to the lock."""
        try:
            return time.time() - (self.folder / "starting").stat().st_mtime < _STARTING
        except OSError:
            return False

    @property
    def pictures(self) -> Path:
        """Where the files given to :func:`create` are."""
        return self.folder / "pictures"

    @property
    def end(self) -> dict[str, Any]:
        """How it ended: ``state`` and ``message``; empty while it has not."""
        try:
            return dict(json.loads((self.folder / "end.json").read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return {}

    @property
    def resumable(self) -> bool:
        """Whether it keeps what it has learned so far."""
        return (self.folder / CHECKPOINT).exists()

    @property
    def spent(self) -> bool:
        """Whether it is over and keeps nothing to go on from, so that another can have its name."""
        return bool(self.end) and not self.resumable and not self.alive

    @property
    def created(self) -> float:
        try:
            return (self.folder / "order.json").stat().st_mtime
        except OSError:
            return 0.0

    def events(self) -> list[dict[str, Any]]:
        """What happened, in the order of steps; what a resumed training did again counts once."""
        try:
            lines = (self.folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
        except OSError:
            return []
        found: list[dict[str, Any]] = []
        reached = -1
        for line in lines:
            with suppress(ValueError):  # the last line of a process that was killed
                event = json.loads(line)
                step = event.get("step")
                if step is not None:
                    if step <= reached:
                        found = [past for past in found if not _again(past, event)]
                    reached = step
                found.append(event)
        return found

    def tell(self, event: Mapping[str, Any]) -> None:
        """Append to the events.

        Raises:
            TrainingError: the disk is full or cannot be written.
        """
        try:
            with open(self.folder / "events.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(event) + "\n")
        except OSError as error:
            raise TrainingError(f"{self.folder} cannot be written: {error.strerror}; free some space and resume") from error

    def start(self) -> None:
        """Start or resume it as a process of its own, which outlives this one; returns at once."""
        if self.alive:
            return
        token = secrets.token_hex(8)
        (self.folder / "starting").write_text(token)
        self.renew()
        with open(self.folder / "log.txt", "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "srgui", "train-job", str(self.folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=Path(__file__).resolve().parents[2],
            )
        threading.Thread(target=self._see_off, args=(process, token), name=f"wait-{self.name}", daemon=True).start()

    def _see_off(self, process: subprocess.Popen[bytes], token: str) -> None:
        process.wait()  # else it stays a zombie
        starting = self.folder / "starting"
        with suppress(OSError):
            if starting.read_text() == token:  # and not that of a later start: a process may take a while to end
                starting.unlink()

    def renew(self) -> None:
        """Forget how it ended, before it is resumed."""
        for name in ("stop", "end.json"):
            (self.folder / name).unlink(missing_ok=True)

    def stop(self) -> None:
        """Ask it to keep a checkpoint and end; returns at once."""
        (self.folder / "stop").touch()

    def fail(self, message: str) -> None:
        """Write down why it did not even begin, if it has not ended otherwise."""
        (self.folder / "starting").unlink(missing_ok=True)
        if not self.end and not self.alive:
            self._end("failed", message)

    def finish(self) -> None:
        """Remove what only a resumed training needs."""
        for path in self.folder.glob("checkpoint.*"):
            path.unlink()

    def discard(self) -> None:
        """Remove all of it; what it trained is not touched.

        Raises:
            TrainingError: it runs.
            OutputError: it cannot be removed.
        """
        if self.alive:
            raise TrainingError(f"the training {self.name} runs; stop it first")
        doomed = self.folder.with_name(f".{secrets.token_hex(8)}")
        try:
            self.folder.rename(doomed)  # gone at once, even if deleting is interrupted
            shutil.rmtree(doomed)
        except FileNotFoundError:  # removed from another page
            return
        except OSError as error:
            raise OutputError(f"{self.folder} cannot be removed: {error.strerror}; check its permissions") from error

    @contextmanager
    def working(self, device: str, run: Run) -> Iterator[None]:
        """Be the process of this job: wait for the device, and write down how it ended.

        Raises:
            TrainingError: another process is at it already.
            Cancelled: while waiting.
        """
        try:
            lock = FileLock(self.folder / "alive.lock", timeout=_LOOK).acquire()
        except Timeout as error:
            raise TrainingError(f"the training {self.name} runs already, in another process; stop it there first") from error
        (self.folder / "starting").unlink(missing_ok=True)
        with lock, self.listening(run):
            try:
                with self._turn(device, run):
                    self.tell({"kind": "begin", "device": device, "pid": os.getpid()})
                    yield
            except Cancelled:
                self._end("stopped", "Stopped; it can be resumed.")
                raise
            except SrguiError as error:
                self._end("failed", str(error))
                raise
            except BaseException as error:
                self._end("failed", f"{type(error).__name__}: {error}")
                raise
            self._end("done", "")

    @contextmanager
    def listening(self, run: Run) -> Iterator[None]:
        """Cancel ``run`` when :meth:`stop` is called anywhere, or this process is asked to end."""
        over, stop = threading.Event(), self.folder / "stop"

        def watch() -> None:
            while not over.wait(_POLL):
                if stop.exists():
                    run.cancel()

        former = {}
        if threading.current_thread() is threading.main_thread():
            former = {which: signal.signal(which, lambda *_: run.cancel()) for which in (signal.SIGTERM, signal.SIGINT)}
        watcher = threading.Thread(target=watch, name="stop-watcher", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
            stop.unlink(missing_ok=True)
            for which, handler in former.items():
                signal.signal(which, handler)

    def _end(self, state: State, message: str) -> None:
        with suppress(OSError):  # of a full disk, which is what ended it
            (self.folder / "end.json").write_text(json.dumps({"state": state, "message": message}), encoding="utf-8")

    def _begun(self) -> bool:
        """Whether the process that is there now has had its turn."""
        return not (self._starting or (self.folder / "waiting").exists())

    @contextmanager
    def _turn(self, device: str, run: Run) -> Iterator[None]:
        """One job at a time on a device, the oldest first."""
        waiting = self.folder / "waiting"
        waiting.write_text(device)
        try:
            while True:
                run.check()
                if not any(job.created < self.created for job in _waiting(device) if job.name != self.name):
                    try:
                        lock = FileLock(jobs_folder() / f"{device.replace(':', '-')}.lock", timeout=0).acquire()
                        break
                    except Timeout:
                        pass
                time.sleep(_POLL)
        finally:
            waiting.unlink(missing_ok=True)
        with lock:
            yield


def _waiting(device: str) -> list[Job]:
    places = jobs_folder().glob("*/waiting")
    jobs = []
    for place in places:
        with suppress(OSError):
            if place.read_text() == device:
                jobs.append(Job(place.parent))
    return [job for job in jobs if job.alive]


def _again(past: Mapping[str, Any], event: Mapping[str, Any]) -> bool:
    """Whether a resumed training that is at ``event`` has done ``past`` again, or will."""
    step = past.get("step", -1)
    return bool(step > event["step"] or (step == event["step"] and past["kind"] == event["kind"]))


def create(name: str, order: Mapping[str, Any], files: Sequence[Path] = ()) -> Job:
    """A new job, not yet started, in the place of a :attr:`~Job.spent` one of its name.

    Args:
        files: pictures that will not stay where they are, such as uploads: they are linked or copied into the job's own folder.

    Raises:
        TrainingError: the name is not a plain one, or a training of this name is there.
        OutputError: the folder cannot be written.
    """
    job = Job(jobs_folder() / new_job_name(name))
    folder = job.folder
    try:
        if job.spent:
            job.discard()
        folder.mkdir(parents=True)
        _keep(files, job.pictures)
        part = folder / "order.part"
        part.write_text(json.dumps(dict(order), indent=2) + "\n", encoding="utf-8")
        part.replace(folder / "order.json")
    except FileExistsError as error:
        raise TrainingError(f"a training called {name} is there already; resume or remove it, or choose another name") from error
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise OutputError(f"{folder} cannot be written: {error.strerror}; free some space, or set SRGUI_HOME") from error
    return job


def new_job_name(name: str) -> str:
    """``name``, if a new training can be called so.

    Raises:
        TrainingError: it is not a plain one, or a training of this name is there and not :attr:`~Job.spent`.
    """
    if not is_plain_name(name):
        raise TrainingError(f"{name!r} cannot be the name of an adapter; {PLAIN_NAME}")
    job = Job(jobs_folder() / name)
    if os.path.lexists(job.folder) and not job.spent:
        raise TrainingError(
            f"a training called {name} is there already ({job.state}); resume it, remove {job.folder}, or choose another name"
        )
    return name


def _keep(files: Sequence[Path], folder: Path) -> None:
    """Link or copy files into ``folder``, under names of their own where several are called the same."""
    for path in files:
        folder.mkdir(exist_ok=True)
        names = (path.name, *(f"{path.stem}-{number}{path.suffix}" for number in range(2, len(files) + 1)))
        place = next(folder / name for name in names if not (folder / name).exists())
        try:
            os.link(path, place)
        except OSError:  # another disk, or one without links
            shutil.copyfile(path, place)


def find(name: str) -> Job:
    """The job of this name.

    Raises:
        TrainingError: there is none.
    """
    job = Job(jobs_folder() / name)
    if not is_plain_name(name) or not (job.folder / "order.json").exists():
        known = ", ".join(job.name for job in all_jobs()) or "none yet"
        raise TrainingError(f"there is no training called {name!r}; known: {known}")
    return job


def all_jobs() -> list[Job]:
    """All jobs, the newest first."""
    jobs = [Job(path.parent) for path in jobs_folder().glob("*/order.json") if is_plain_name(path.parent.name)]
    return sorted(jobs, key=lambda job: job.created, reverse=True)
