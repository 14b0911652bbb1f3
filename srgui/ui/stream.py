"""Work in a thread of its own, watched from a generator: how long computations tell a page how far they are."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import TypeVar

from srgui.protocol import Run

T = TypeVar("T")


def stream(work: Callable[[Callable[[T], None]], None], run: Run) -> Iterator[T]:
    """Yield what ``work`` tells: only the newest where the reader is slower, and always the last.

    ``work`` is called with a function to tell with. What it raises is raised here. Closing the generator cancels ``run`` and
    waits for the thread.
    """
    latest: deque[T] = deque(maxlen=1)
    changed = threading.Event()
    outcome: list[BaseException | None] = []

    def tell(item: T) -> None:
        latest.append(item)
        changed.set()

    def body() -> None:
        error: BaseException | None = None
        try:
            work(tell)
        except BaseException as raised:  # noqa: BLE001 - raised again in the reader
            error = raised
        outcome.append(error)
        changed.set()

    thread = threading.Thread(target=body, name="work", daemon=True)
    thread.start()
    try:
        ended = False
        while not ended:
            changed.wait()
            changed.clear()
            ended = bool(outcome)  # read before `latest`, so that nothing told before the end is missed
            if latest:
                yield latest.pop()
        if outcome[0] is not None:
            raise outcome[0]
    finally:
        run.cancel()
        thread.join()
