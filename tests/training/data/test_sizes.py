"""The warning about images that training makes much smaller."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from breadcrumbs.training.data.sizes import TIMES, reduced
from breadcrumbs.training.data.split import Split


def on_disk(folder: Path, sizes: list[tuple[int, int]]) -> Split:
    paths = []
    for number, size in enumerate(sizes):
        paths.append(folder / f"{number}.png")
        Image.new("1", size).save(paths[-1])
    return Split(np.zeros(len(sizes), np.int64), np.arange(len(sizes)), paths=tuple(paths))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 900), st.integers(1, 900), st.integers(8, 300))
def test_a_warning_comes_from_four_times_on(rows: int, columns: int, size: int) -> None:
    """Images are reduced a lot where their shorter side is more than four times the input; the text has both sizes."""
    split = Split(np.zeros(2, np.int64), np.arange(2), pixels=np.zeros((2, rows, columns), np.uint8))

    found = reduced(split, size)

    assert (found is not None) == (min(rows, columns) > TIMES * size)
    if found is not None:
        assert f"{columns} × {rows} pixels at the median, to {size} × {size}" in found


def test_the_median_of_files_counts(tmp_path: Path) -> None:
    """One large image among small ones is no reason; files that cannot be opened are passed over."""
    split = on_disk(tmp_path, [(1200, 900), (1300, 900), (40, 30)])
    (tmp_path / "2.png").write_bytes(b"nothing")

    found = reduced(split, 28)

    assert found is not None
    assert "1250 × 900 pixels at the median, to 28 × 28" in found
    assert reduced(split, 224) is not None
    assert reduced(split, 225) is None


@pytest.mark.parametrize("count", [1, 2, 500])
def test_a_few_of_many_are_looked_at(tmp_path: Path, count: int) -> None:
    """However many images there are, some are enough."""
    split = on_disk(tmp_path, [(200, 100)] * min(count, 3))
    many = Split(np.zeros(count, np.int64), np.arange(count), paths=((split.paths or ()) * count)[:count])

    assert reduced(many, 8) is not None
