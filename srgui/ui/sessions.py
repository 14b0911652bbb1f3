"""Who is looking at the page: each visitor's runs and pictures, kept apart by Gradio's session hash."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from srgui.protocol import Run
from srgui.ui.shelf import Entry, Shelf
from srgui.ui.work import Done, Order

if TYPE_CHECKING:
    from srgui.ui.experiment import Experiment


class Sessions:
    """What belongs to the visitors of one server.

    Args:
        folder: for results that are to be downloaded.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shelf = Shelf()
        self._runs: dict[str, set[Run]] = {}
        self._waiting: dict[str, Run] = {}
        self._results: dict[str, tuple[Order, list[Done]]] = {}
        self._experiments: dict[str, tuple[Sequence[Experiment], Entry]] = {}
        self._lock = threading.Lock()

    def queue(self, session: str) -> bool:
        """Announce a run, so that it can be cancelled before its turn comes; returns whether another one is running."""
        with self._lock:
            self._waiting[session] = Run()
            return bool(self._runs)

    def busy(self) -> bool:
        """Whether anything runs, for anyone."""
        with self._lock:
            return bool(self._runs)

    @contextmanager
    def running(self, session: str) -> Iterator[Run]:
        """A run that :meth:`cancel` and :meth:`leave` of the same session can cancel: the one announced, or a new one."""
        with self._lock:
            run = self._waiting.pop(session, None) or Run()
            self._runs.setdefault(session, set()).add(run)
        try:
            yield run
        finally:
            with self._lock:
                self._runs[session].discard(run)
                if not self._runs[session]:
                    del self._runs[session]

    def keep(self, session: str, order: Order, done: list[Done]) -> None:
        """Remember a visitor's latest results, in the place of those before."""
        with self._lock:
            self._results[session] = order, done

    def results(self, session: str) -> tuple[Order, list[Done]] | None:
        with self._lock:
            return self._results.get(session)

    def keep_experiments(self, session: str, found: Sequence[Experiment], entry: Entry) -> None:
        """Remember a visitor's latest experiment, by one network or several, and how it lies on the shelf."""
        with self._lock:
            self._experiments[session] = found, entry

    def experiments(self, session: str) -> tuple[Sequence[Experiment], Entry] | None:
        with self._lock:
            return self._experiments.get(session)

    def cancel(self, session: str) -> bool:
        """Cancel what a visitor has running or announced; returns whether there was anything."""
        with self._lock:
            runs = [*self._runs.get(session, ()), *([self._waiting[session]] if session in self._waiting else [])]
        for run in runs:
            run.cancel()
        return bool(runs)

    def leave(self, request: gr.Request) -> None:
        """Forget a visitor who closed the page."""
        session = request.session_hash or ""
        for runs in (session, lab_of(session)):
            self.cancel(runs)
        with self._lock:
            for runs in (session, lab_of(session)):
                self._waiting.pop(runs, None)
            self._results.pop(session, None)
            self._experiments.pop(session, None)
        self.shelf.drop(session)
        self.shelf.drop(samples_of(session))
        self.shelf.drop(lab_of(session))

    def bind_event(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """As :meth:`bind`, of ``function(sessions, session, event, *inputs)`` for an event that carries a value."""
        bound = self.bind(function)
        if inspect.isgeneratorfunction(bound):

            def stream(request: gr.Request, event: gr.EventData, *inputs: Any) -> Iterator[Any]:
                yield from bound(request, event, *inputs)

            return stream

        def call(request: gr.Request, event: gr.EventData, *inputs: Any) -> Any:
            return bound(request, event, *inputs)

        return call

    def bind(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Make an event handler of ``function(sessions, session, *inputs)``."""
        if inspect.isgeneratorfunction(function):

            def stream(request: gr.Request, *inputs: Any) -> Iterator[Any]:
                yield from function(self, request.session_hash or "", *inputs)

            return stream

        def call(request: gr.Request, *inputs: Any) -> Any:
            return function(self, request.session_hash or "", *inputs)

        return call


def samples_of(session: str) -> str:
    """Under whose name the shelf keeps the samples of trainings that a visitor looks at."""
    return f"{session}/samples"


def lab_of(session: str) -> str:
    """Under whose name a visitor's experiments run, and the shelf keeps the latest."""
    return f"{session}/lab"
