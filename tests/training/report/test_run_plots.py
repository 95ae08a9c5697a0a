"""The pictures show the numbers they were given, and nothing in a class name or a gap in a log stops them."""

from collections.abc import Callable

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from pictures import CLASSES, COUNTS, GROUPS, drawn, lines, ticks

from breadcrumbs.models.groups import Group
from breadcrumbs.training.metrics import Interval
from breadcrumbs.training.report import class_axis, run_plots, style


def test_counts_are_bars_and_recall_is_dots_in_the_tails_order() -> None:
    """Most training images first, for the bars, the names and the recall alike."""
    recall = {"joint": (0.25, 1.0, None), "balanced": (0.75, 0.5, None)}

    figure = drawn(run_plots.counts_and_recall(COUNTS, GROUPS, CLASSES, recall))

    assert [bar.get_height() for bar in figure.axes[1].patches] == [300, 40, 5]
    assert ticks(figure) == ["a_b^c", "plain", "$x_{1}$"]
    assert lines(figure)["joint"] == pytest.approx([1.0, np.nan, 0.25], nan_ok=True)
    assert lines(figure)["balanced"] == pytest.approx([0.5, np.nan, 0.75], nan_ok=True)
    assert figure.axes[1].get_yscale() == "log"


def test_many_classes_become_a_curve_without_names() -> None:
    """Above 40 classes a running mean replaces the eye, and no class is named."""
    counts = np.arange(8000, 0, -1)
    recall = {"joint": [1.0] * 4000 + [0.0] * 4000}
    groups: list[Group] = ["many"] * 7901 + ["medium"] * 79 + ["few"] * 20

    figure = drawn(run_plots.counts_and_recall(counts, groups, [f"c{i}" for i in range(8000)], recall))

    assert lines(figure)["joint"][0] == 1
    assert lines(figure)["joint"][-1] == 0
    assert lines(figure)["joint"][4000] == pytest.approx(0.5, abs=0.01)
    assert not any(text.startswith("c") for text in ticks(figure))
    assert len(style.svg(figure)) < 500_000


def test_a_running_mean_leaves_out_what_is_not_known() -> None:
    """Fewer neighbours at the ends, NaN only where none is known."""
    found = class_axis.running_mean(np.array([1.0, np.nan, 3.0, np.nan, np.nan, np.nan]), 3)

    assert found == pytest.approx([1, 2, 3, 3, np.nan, np.nan], nan_ok=True)


def test_curves_show_each_heads_loss_and_balanced_accuracy() -> None:
    """A loss of 0 is of a head that was not trained yet, so its line begins later."""
    history = [
        {
            "epoch": 1,
            "joint_loss": 2.0,
            "balanced_loss": 0.0,
            "joint": {"balanced": 0.1},
            "balanced": {"balanced": 0.2},
        },
        {
            "epoch": 2,
            "joint_loss": 1.0,
            "balanced_loss": 1.5,
            "joint": {"balanced": 0.3},
            "balanced": {"balanced": 0.4},
        },
    ]

    figure = drawn(run_plots.curves(history))

    assert lines(figure, 0) == {"joint": [2.0, 1.0], "balanced": [1.5]}
    assert lines(figure, 1) == {"joint": [0.1, 0.3], "balanced": [0.2, 0.4]}


def test_curves_need_neither_accuracy_nor_a_second_epoch() -> None:
    """One epoch is a dot; a log without a number is no picture; a number that is not finite is a gap."""
    figure = drawn(run_plots.curves([{"epoch": 7, "joint_loss": 2.0, "balanced_loss": float("nan")}]))

    assert lines(figure) == {"joint": [2.0]}
    assert run_plots.curves([]) is None
    assert run_plots.curves([{"epoch": 1, "seconds": 3.0}]) is None


def test_bars_are_as_high_as_the_numbers_and_whiskers_as_long_as_the_intervals() -> None:
    """Groups that a head has no number for have no bar; a number without an interval has no whisker."""
    metrics = {
        "joint": {"many": 0.8, "medium": None, "few": 0.1, "all": 0.7},
        "balanced": {"many": 0.75, "medium": None, "few": 0.4, "all": 0.65},
    }
    intervals = {"balanced": {"few": Interval(0.4, 0.3, 0.55)}}

    figure = drawn(run_plots.group_bars(metrics, intervals))

    assert [bar.get_height() for bar in figure.axes[0].patches] == [0.8, 0.1, 0.7, 0.75, 0.4, 0.65]
    assert ticks(figure) == ["many", "few", "all"]
    (whisker,) = figure.axes[0].collections
    ends = whisker.get_paths()[0].vertices[:, 1]
    assert list(ends) == [0.3, 0.55]
    assert {text.get_text() for text in figure.axes[0].texts} == {"80.0", "10.0", "70.0", "75.0", "40.0", "65.0"}
    assert run_plots.group_bars({}, {}) is None


@pytest.mark.parametrize("classes", [1, 2, 6, 17, 41])
def test_no_class_name_stops_a_picture(classes: int) -> None:
    """Widest letters, letters that no font has, half a formula: at any number of classes."""
    counts, groups = np.arange(classes, 0, -1), ("few",) * classes
    names = (["W" * 30, "日本語", "", "a\nb\x00", "\udcff", "$", "$x_{1}$", "\\frac{"] * classes)[:classes]

    figure = drawn(run_plots.counts_and_recall(counts, groups, names, {"joint": (1.0,) * classes}))

    assert all(len(text) <= class_axis.LABEL for text in ticks(figure))


@pytest.mark.parametrize("classes", [2, 17])
def test_the_widest_names_leave_room_for_the_picture(classes: int) -> None:
    """The axes keep their size where every name is as wide as can be."""
    names, counts = ["W" * 30] * classes, np.arange(classes, 0, -1)

    figure = drawn(run_plots.counts_and_recall(counts, ("few",) * classes, names, {}))

    for axis in figure.axes:
        box = axis.get_window_extent().transformed(axis.figure.dpi_scale_trans.inverted())  # inches
        assert box.height > 0.55
        assert box.width > 0.55


def test_a_label_keeps_both_ends_of_a_long_name() -> None:
    """Names of one taxonomy differ at their end; a name that cannot be written becomes its number."""
    assert class_axis.label("Plantae_Tracheophyta_Rosa_canina", 3) == "Plantae_T…osa_canina"
    assert class_axis.label("two\nlines", 3) == "two lines"
    assert class_axis.label("日本語", 3) == "class 3"


def test_drawing_leaves_matplotlib_as_it_was() -> None:
    """The house style ends with the picture."""
    before = dict(mpl.rcParams)

    drawn(run_plots.counts_and_recall(COUNTS, GROUPS, CLASSES, {}))

    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("first", [style.svg, style.png])
@pytest.mark.parametrize("second", [style.svg, style.png])
def test_the_axes_stay_where_they_were_placed(
    first: Callable[[Figure], bytes], second: Callable[[Figure], bytes]
) -> None:
    """SVG and PNG show one layout, whichever is made first; the names below the axis have their room in it."""
    recall = {"joint": (0.25, 1.0, None)}
    figure = run_plots.counts_and_recall(COUNTS, GROUPS, tuple("a name of some length" for _ in CLASSES), recall)
    unplaced = [axis.get_position().bounds for axis in figure.axes]

    first(figure)
    placed = [axis.get_position().bounds for axis in figure.axes]
    second(figure)

    assert placed != unplaced
    assert [axis.get_position().bounds for axis in figure.axes] == placed
