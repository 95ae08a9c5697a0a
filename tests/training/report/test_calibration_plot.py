"""The picture of a head's calibration shows the report's curves."""

from pictures import drawn
from told import told

from breadcrumbs.training.report.calibration_plot import before_and_after, reliability


def test_each_group_has_its_curves_before_and_after() -> None:
    """A panel for all rows and for each group that is answered; nothing where nothing was measured."""
    calibration = told().calibration
    assert calibration is not None

    figure = drawn(reliability(before_and_after(calibration)))

    assert len(figure.axes) == len(calibration.groups)
    for axis, group in zip(figure.axes, calibration.groups.values(), strict=True):
        _, before, after = axis.lines
        for line, head in ((before, group.before), (after, group.after)):
            assert list(line.get_xdata()) == [one.probability for one in head.curve]
            assert list(line.get_ydata()) == [one.right for one in head.curve]
    assert reliability(before_and_after(None)) is None
