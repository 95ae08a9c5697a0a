"""The trail's pictures show the numbers of the log, and a gap in it is a gap in the line."""

from typing import Any

import numpy as np
import pytest
from pictures import CLASSES, COUNTS, GROUPS, drawn, lines

from breadcrumbs.models.groups import Group
from breadcrumbs.training.report import trail_plots


def test_drift_is_a_line_a_class_where_they_are_few_with_the_sampling_error_of_each_group() -> None:
    """The dashed lines stand at 1/√n of the groups; an epoch or a class without a value is a gap."""
    history: list[dict[str, Any]] = [
        {"epoch": 1},
        {"epoch": 2, "drift": [None, 0.5, 0.25]},
        {"epoch": 3, "drift": [0.9, 0.4, 0.2]},
    ]

    figure = drawn(trail_plots.drift(history, COUNTS, GROUPS))

    found = lines(figure)
    assert found["few"] == pytest.approx([np.nan, 0.9], nan_ok=True)
    assert found["many"] == [0.5, 0.4]
    flat = sorted(line.get_ydata()[0] for line in figure.axes[0].lines if list(line.get_xdata()) == [0, 1])
    assert flat == pytest.approx([300**-0.5, 40**-0.5, 5**-0.5])
    assert trail_plots.drift([{"epoch": 1}, {"epoch": 2, "drift": [None, None, None]}], COUNTS, GROUPS) is None


def test_drift_of_many_classes_is_the_median_of_each_group() -> None:
    """One line a group, and a band."""
    values = [float(i) for i in range(1, 102)]
    groups: list[Group] = ["few"] * 101

    figure = drawn(trail_plots.drift([{"epoch": 2, "drift": values}], np.full(101, 4), groups))

    assert lines(figure)["few"] == [51.0]


def test_a_backbone_that_does_not_move_has_a_drift_of_zero() -> None:
    """Zero has no place on a logarithmic axis, so the axis is not one."""
    figure = drawn(trail_plots.drift([{"epoch": 2, "drift": [0.0, 0.0, 0.0]}], COUNTS, GROUPS))

    assert figure.axes[0].get_yscale() == "linear"


def test_crumbs_are_lines_over_the_epochs_and_bars_of_the_last() -> None:
    """Bars in the tail's order; with one epoch only the bars."""
    history = [{"epoch": 1, "crumbs": [0.0, 0.0, 0.0]}, {"epoch": 2, "crumbs": [0.9, 0.0, 0.5]}]

    both = drawn(trail_plots.crumb_shares(history, COUNTS, GROUPS, CLASSES))
    one = drawn(trail_plots.crumb_shares(history[1:], COUNTS, GROUPS, CLASSES))

    assert lines(both) == {"many": [0.0, 0.0], "medium": [0.0, 0.5], "few": [0.0, 0.9]}
    assert [bar.get_height() for bar in both.axes[1].patches] == [0.0, 0.5, 0.9]
    assert len(one.axes) == 1
    assert trail_plots.crumb_shares([{"epoch": 1}], COUNTS, GROUPS, CLASSES) is None
