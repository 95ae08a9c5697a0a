"""Accuracy against coverage, by rank: against counts by hand, as a table, a CSV file and a picture."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from breadcrumbs.models.head import softmax
from breadcrumbs.models.lineages import Lineages
from breadcrumbs.models.taxonomy import parse
from breadcrumbs.training.coverage import DIGITS, POINTS, TOLD, curves, told
from breadcrumbs.training.inspect import csv_files
from breadcrumbs.training.report import coverage_plot, style


def lineages_of(classes: int) -> Lineages:
    """Two classes a genus, four a family."""
    names = [f"class {place}" for place in range(classes)]
    rows = "".join(f"{name},genus {place // 2},family {place // 4}\n" for place, name in enumerate(names))
    return Lineages(parse(f"class,genus,family\n{rows}".encode()), names)


def drawn(rows: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, rows)
    logits = random.normal(size=(rows, classes)).astype(np.float32)
    logits[np.arange(rows), labels] += 1
    return logits, labels


@given(st.integers(1, 40), st.integers(2, 12), st.integers(0, 999))
def test_every_point_is_what_counting_gives(rows: int, classes: int, seed: int) -> None:
    """Of the answers that reach its probability: how many there are, and how many are right, at each rank."""
    logits, labels = drawn(rows, classes, seed)
    probabilities = softmax(logits)

    for curve, size in zip(curves(logits, labels, lineages_of(classes)), (1, 2, 4), strict=True):
        group = [place // size for place in range(classes)]
        best = [group[place] for place in logits.argmax(1)]
        sure = [sum(p for p, g in zip(row, group, strict=True) if g == own)
                for row, own in zip(probabilities, best, strict=True)]  # fmt: skip
        assert curve.groups == len(set(group))
        assert curve.coverage[-1] == 1
        for share, accuracy, least in zip(curve.coverage, curve.accuracy, curve.probability, strict=True):
            kept = [row for row in range(rows) if round(sure[row], DIGITS) >= least]
            assert share == pytest.approx(len(kept) / rows)
            assert accuracy == pytest.approx(sum(best[row] == group[labels[row]] for row in kept) / len(kept))


@pytest.mark.parametrize(("rows", "classes"), [(1, 2), (5000, 2), (300, 1000)])
def test_numbers_are_told_written_and_drawn(rows: int, classes: int, tmp_path: Path) -> None:
    """Of one row, of more rows than a curve has points, and of many classes."""
    found = curves(*drawn(rows, classes, 1), lineages_of(classes))

    csv_files.write_coverage(tmp_path / "coverage.csv", found)

    lines = list(csv.DictReader((tmp_path / "coverage.csv").read_text().splitlines()))
    assert len(lines) == sum(len(curve.coverage) for curve in found) <= 3 * POINTS
    assert list(lines[0]) == list(csv_files.COVERAGE)
    for one in told(found):
        assert [point["coverage"] >= share - 1e-9 for point, share in zip(one["points"], TOLD, strict=True)]
        assert one["points"][-1]["coverage"] == 1
    picture = coverage_plot.coverage(found)
    assert [line.get_label() for line in picture.axes[0].lines] == ["class", "genus", "family"]
    assert style.svg(picture) == style.svg(picture)


def test_a_rank_above_is_answered_at_least_as_often_rightly() -> None:
    """Whoever has the class right has its genus and its family right."""
    ends = [curve.accuracy[-1] for curve in curves(*drawn(500, 12, 3), lineages_of(12))]

    assert ends == sorted(ends)


def test_no_rows_have_no_curve() -> None:
    """Nothing to draw."""
    assert curves(np.zeros((0, 2), np.float32), np.zeros(0, np.int64), lineages_of(2)) == []
