"""What a class is taken for is drawn in percent: all classes, or of many those that are confused most."""

import numpy as np
import pytest
from pictures import CLASSES, COUNTS, drawn, ticks

from breadcrumbs.training.confused import Pair, pairs
from breadcrumbs.training.report import class_axis, style
from breadcrumbs.training.report.confusion_plot import confusion, shown

LABELS = np.repeat([0, 1, 2], 4)


def test_every_row_is_percentages_in_the_tails_order() -> None:
    """Most training images first; the diagonal is what is right; a class without a row has an empty one."""
    predicted = np.array([0, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 0])  # recall ¼, 1, ¾
    rows, counts = np.array([4, 4, 4, 0]), np.append(COUNTS, 1)

    figure = drawn(confusion(counts, rows, pairs(predicted, LABELS, 4), (*CLASSES, "absent")))

    axis = figure.axes[0]
    assert [text.get_text() for text in axis.get_yticklabels()] == ticks(figure) == [*names_in_order(), "absent"]
    cells = {text.get_position(): text.get_text() for text in axis.texts}
    place = {name: k + 0.5 for k, name in enumerate(names_in_order())}
    zero, one, two = (place[name] for name in CLASSES)
    assert cells == {(zero, zero): "25", (one, zero): "75", (one, one): "100", (two, two): "75", (zero, two): "25"}
    assert confusion(counts, np.zeros(4, np.int64), [], (*CLASSES, "absent")) is None


def names_in_order() -> list[str]:
    """The classes of `pictures`, most training images first."""
    return [class_axis.label(CLASSES[c], c) for c in np.argsort(-COUNTS, kind="stable")]


@pytest.mark.parametrize("classes", [41, 1000])
def test_of_many_classes_the_most_confused_are_drawn(classes: int) -> None:
    """Forty at most, and one column for all others; never a row of a class that is always right."""
    labels = np.repeat(np.arange(classes), 2)
    predicted = np.where(labels < classes - 5, labels ^ 1, labels)  # neighbours are confused, five never
    confused = pairs(predicted, labels, classes)

    figure = drawn(
        confusion(np.arange(classes, 0, -1), np.full(classes, 2), confused, [f"c{i}" for i in range(classes)])
    )

    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert len(names) == min(40, classes - 5)
    assert ticks(figure) == [*names, "all others"]
    assert {names[k + 1] for k in range(0, len(names) - 1, 2)} == {f"c{int(n[1:]) ^ 1}" for n in names[:-1:2]}
    assert len(style.svg(figure)) < 400_000
    assert confusion(np.arange(classes), np.full(classes, 2), [], [""] * classes) is None


@pytest.mark.parametrize("classes", [1, 2, 17, 40])
def test_no_class_name_stops_the_picture(classes: int) -> None:
    """Widest letters, letters that no font has, half a formula: the cells keep their room, and the page its width."""
    names = (["W" * 60, "日本語", "", "a\nb\x00", "\udcff", "$x_{1}$", "\\frac{"] * classes)[:classes]

    figure = drawn(confusion(np.arange(classes, 0, -1), np.ones(classes, np.int64), [], names))

    box = figure.axes[0].get_window_extent().transformed(figure.dpi_scale_trans.inverted())  # inches
    assert min(box.width, box.height) > 0.3
    assert figure.get_figwidth() < 9
    assert all(len(text) <= class_axis.LABEL for text in ticks(figure))


def test_which_classes_are_shown() -> None:
    """All, in the tail's order; or those of the most frequent confusions."""
    confused = [Pair(3, 0, 5), Pair(1, 2, 4)]

    assert shown(np.array([1, 3, 2, 9]), confused, 4) == [3, 1, 2, 0]
    assert set(shown(np.array([1, 3, 2, 9]), confused, 2)) == {0, 3}
