from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from srgui.errors import InputError
from srgui.reports.request import DataSet, data_sets


def test_a_data_set_is_a_folder_of_pictures_or_has_train_and_val(pages: Path) -> None:
    assert data_sets([pages, pages / "val"]) == (
        DataSet("pages", pages / "train", pages / "val"),
        DataSet("val", pages / "val", None),
    )


def test_val_may_be_missing(tmp_path: Path, save_png: Callable[..., Path]) -> None:
    save_png(tmp_path / "scans" / "train" / "a.png", (20, 20))
    assert data_sets([tmp_path / "scans"]) == (DataSet("scans", tmp_path / "scans" / "train", None),)


def test_what_cannot_be_used_is_refused(pages: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 data sets are called pages"):
        data_sets([pages, pages])
    with pytest.raises(InputError, match="nowhere"):
        data_sets([tmp_path / "nowhere"])
    (tmp_path / "empty" / "train").mkdir(parents=True)
    with pytest.raises(InputError, match="train"):
        data_sets([tmp_path / "empty"])
