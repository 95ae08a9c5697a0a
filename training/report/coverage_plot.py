"""The picture of accuracy against coverage, a line for each rank.

It knows nothing of how the curves came about.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from breadcrumbs.training.coverage import Curve
from breadcrumbs.training.report import style
from breadcrumbs.training.report.style import NEW, OTHERS, styled

LINES = ((0, ()), (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
"""Dashes, so that lines are apart without colour; used in turn."""


@styled
def coverage(curves: Sequence[Curve]) -> Figure:
    """Draw the accuracy of the surest answers, by the share of images that are answered."""
    figure, (axis,) = style.panels(3.6)
    colours = (NEW, *OTHERS)
    for place, curve in enumerate(curves):
        axis.plot(
            np.append(0.0, curve.coverage), np.append(curve.accuracy[0], curve.accuracy),
            color=colours[place % len(colours)], linestyle=LINES[place % len(LINES)], label=curve.rank[:24],
        )  # fmt: skip
    axis.set_xlim(0, 1)
    axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.set_xlabel("images that are answered, the surest first")
    low = min(float(curve.accuracy.min()) for curve in curves)
    style.share_axis(axis, "answered rightly", full=low < 0.5)
    if low >= 0.5:
        axis.set_ylim(low - 0.02, 1.005)
        axis.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))  # whole percents
    style.legend(axis)
    return figure
