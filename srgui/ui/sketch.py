"""Small pictures that follow a slider where a move costs more than a blend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from srgui.errors import SrguiError
from srgui.images import encode_png, to_samples
from srgui.inference.picture import PreparedPicture, to_grey
from srgui.protocol import RestorerInfo, Run
from srgui.ui.guide import fitting, read_setting


class Sketch:
    """Shows a result of ``info``'s model at settings that are not rendered yet."""

    def __init__(self, prepared: PreparedPicture, info: RestorerInfo) -> None:
        self._prepared, self._info = prepared, info

    def png(self, request: Mapping[str, Any], run: Run, *, patient: bool) -> bytes | None:
        """A PNG of the setting that a viewer sends, as :func:`srgui.ui.guide.read_setting` reads it; None where there is none.

        ``patient``: as :meth:`PreparedPicture.preview` takes it.
        """
        try:
            picture = self._prepared.preview(fitting(read_setting(request), self._info), run, patient=patient)
        except SrguiError:  # no setting of this model, or a picture that has just left: nothing to show
            return None
        if picture is None:
            return None
        picture = to_grey(picture).expand(-1, 3, -1, -1) if self._prepared.picture.grey else picture
        return encode_png(to_samples(picture, 8), None)
