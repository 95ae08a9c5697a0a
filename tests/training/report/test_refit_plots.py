"""The pictures of a refit show the report's numbers, at any number of classes."""

import numpy as np
import pytest
from pictures import drawn, lines, ticks
from told import told

from breadcrumbs.models.refit_report import Certificate, Step
from breadcrumbs.training.report import refit_plots


def test_changes_are_bars_in_the_tails_order() -> None:
    """One bar a class, as high as its change."""
    report = told()

    figure = drawn(refit_plots.changes(report.classes, report.change))

    assert [bar.get_height() for bar in figure.axes[0].patches] == [c.value for c in report.change if c]
    assert ticks(figure)[1] == "$x_{1}$"
    assert refit_plots.changes(report.classes, [None] * 5) is None


def test_changes_of_many_classes_are_a_cloud() -> None:
    """Without names, and small."""
    report = told(300, 2)

    figure = drawn(refit_plots.changes(report.classes, report.change))

    assert not any(text.startswith("class") for text in ticks(figure))


def test_gains_are_marked_by_whether_the_bound_held() -> None:
    """Of few classes one by one, most training images first; of many against the bound."""
    few, many = told(), told(60, 2)

    one = drawn(refit_plots.gains(few.certificate, few.classes))
    all_of_them = drawn(refit_plots.gains(many.certificate, many.classes))

    assert lines(one)["gain, below its bound"] == [0.0, 0.1]
    assert lines(one)["gain, above its bound"] == pytest.approx([0.2, 0.3, 0.4])
    assert lines(one)["bound of Lemma 1"] == [0.2] * 5
    assert len(lines(all_of_them)["gain, above its bound"]) == 58
    assert refit_plots.gains(None, few.classes) is None
    empty = Certificate(epoch=2, older_epoch=1, bound_held_share=None, head="", classes=[])
    assert refit_plots.gains(empty, few.classes) is None


def test_losses_are_bars_with_both_recalls_in_words() -> None:
    """The worst at the top; none where no class lost."""
    report = told()

    figure = drawn(refit_plots.losses(report.regressions))

    assert sorted(bar.get_width() for bar in figure.axes[0].patches) == [r.change.value for r in report.regressions]
    words = [text.get_text() for text in figure.axes[0].texts]
    first = report.regressions[0]
    assert words[0] == f"{100 * first.live:.0f} → {100 * first.candidate:.0f} % of 8"
    assert refit_plots.losses([]) is None


def test_confusions_are_two_dots_each() -> None:
    """Live and candidate, and the difference in words."""
    report = told()

    figure = drawn(refit_plots.confusions(report.moves))

    dots = {str(line.get_label()): list(line.get_xdata()) for line in figure.axes[0].lines}
    assert dots["live"] == [m.live for m in report.moves]
    assert dots["candidate"] == [m.candidate for m in report.moves]
    first = report.moves[0].candidate - report.moves[0].live
    assert figure.axes[0].texts[0].get_text() == f"{first:+d}".replace("-", "−")
    assert refit_plots.confusions([]) is None


def test_a_trace_is_divided_into_its_problems() -> None:
    """A problem begins where the iterations begin again, whatever its λ."""
    steps = [Step(l2=1, iteration=i, gradient_norm=1, objective=1) for i in (0, 10, 20, 0, 10, 0)]

    figure = drawn(refit_plots.trace(steps))

    assert [len(part) for part in refit_plots.segments(steps)] == [3, 2, 1]
    assert [list(np.asarray(line.get_xdata())) for line in figure.axes[0].lines] == [[0, 10, 20], [20, 30], [30]]
    assert refit_plots.trace([]) is None
