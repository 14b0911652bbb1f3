"""What follows a viewer's sliders: closed forms, exact scores while nothing else is to be done, and previews."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from srgui.errors import SrguiError
from srgui.protocol import Box, Run, Setting
from srgui.survey import Survey, as_lists
from srgui.ui.shelf import Shelf
from srgui.ui.work import MEASURED, lpips

BUSY = {"busy": True}
_WRONG = (KeyError, TypeError, ValueError, AttributeError)  # what reading a request that is not ours raises


class Gauge:
    """Answers what a viewer asks of the results on a shelf: what is not there, or cannot be measured, is None.

    Args:
        busy: whether somebody's pictures are being made; measuring waits until they are.
        running: a run of a visitor's, which others then wait for.
    """

    def __init__(self, shelf: Shelf, busy: Callable[[], bool], running: Callable[[str], AbstractContextManager[Run]]) -> None:
        self._shelf, self._busy, self._running = shelf, busy, running
        self._turn = threading.Lock()

    def forms(self, request: Mapping[str, Any]) -> Mapping[str, object] | None:
        """The forms (:class:`srgui.survey.Forms`) of the result ``id``, or of its part ``box``: left, top, width, height."""
        return self._ask(request, lambda survey, part: as_lists(survey.forms(Run(), part)))

    def scores(self, request: Mapping[str, Any]) -> Mapping[str, object] | None:
        """The scores of the result ``id``, or of a part, at ``values`` and, in its mask, ``masked``; or that others come first."""

        try:
            values, masked = _numbers(request["values"]), _numbers(request.get("masked") or {})
        except _WRONG:
            return None

        def measure(survey: Survey, part: Box | None) -> Mapping[str, object]:
            found, mask = lpips(), survey.mask if masked else None
            setting = Setting(values, masked if mask is not None else None, mask)
            return survey.scores(setting, None if isinstance(found, str) else found, Run(), part)

        if self._busy() or not self._turn.acquire(blocking=False):
            return BUSY
        try:
            return self._ask(request, measure)
        finally:
            self._turn.release()

    def sketch(self, request: Mapping[str, Any]) -> bytes | None:
        """A PNG of a small picture of the result ``id`` at the setting that a viewer sends.

        What it needs that is not there yet is computed if nobody waits: letting go of the slider will need it too.
        """
        entry = self._shelf.get(str(request.get("id")))
        if entry is None or entry.sketch is None:
            return None
        found = entry.sketch.png(request, Run(), patient=False)
        if found is not None or self._busy():
            return found
        with self._running(entry.owner) as run:
            return entry.sketch.png(request, run, patient=True)

    def _ask(
        self, request: Mapping[str, Any], answer: Callable[[Survey, Box | None], Mapping[str, object]]
    ) -> Mapping[str, object] | None:
        entry = self._shelf.get(str(request.get("id")))
        if entry is None or entry.survey is None:
            return None
        try:
            part = _part(request.get("box"), entry.survey.prepared.size)
        except _WRONG:
            return None
        try:
            return answer(entry.survey, part)
        except SrguiError:  # too small a part, or a picture that has just left: nothing to say
            return None


def _part(box: Any, size: tuple[int, int]) -> Box | None:
    if box is None:
        if size[0] * size[1] > MEASURED:
            raise ValueError("too large to be measured whole")
        return None
    left, top, width, height = (int(number) for number in box)
    part = Box(top, left, height, width)
    if min(left, top) < 0 or min(width, height) < 1 or part.bottom > size[0] or part.right > size[1] or width * height > MEASURED:
        raise ValueError("outside of the picture")
    return part


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {str(name): float(value) for name, value in values.items()}
