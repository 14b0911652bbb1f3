"""Work in a thread, watched from a generator."""

from __future__ import annotations

import threading
import time

import pytest

from srgui.errors import Cancelled
from srgui.protocol import Run
from srgui.ui.stream import stream


def test_the_last_thing_told_always_arrives():
    for count in (0, 1, 2, 50):
        told = list(stream(lambda tell, count=count: [tell(i) for i in range(count)], Run()))
        assert told == sorted(told)
        assert told[-1:] == ([count - 1] if count else [])


def test_a_slow_reader_sees_the_newest_only():
    gate = threading.Event()

    def work(tell):
        tell("first")
        gate.wait(10)
        for i in range(100):
            tell(i)

    reader = stream(work, Run())
    assert next(reader) == "first"
    gate.set()
    time.sleep(0.2)
    assert list(reader) == [99]


def test_an_error_arrives_after_what_was_told_before_it():
    def work(tell):
        tell("halfway")
        raise ValueError("broken")

    reader = stream(work, Run())
    assert next(reader) == "halfway"
    with pytest.raises(ValueError, match="broken"):
        next(reader)


def test_closing_the_reader_cancels_and_waits_for_the_work():
    run, ended = Run(), threading.Event()

    def work(tell):
        tell("started")
        try:
            while True:
                run.check()
                time.sleep(0.005)
        except Cancelled:
            ended.set()

    reader = stream(work, run)
    assert next(reader) == "started"
    reader.close()
    assert ended.is_set()
