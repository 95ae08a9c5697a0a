"""The picture of a head's calibration: how often it is right, by how probable it says that it is.

It knows nothing of how the curves came about.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from breadcrumbs.models.calibration import Bin, CalibratedGroup, Calibration
from breadcrumbs.training.report import style
from breadcrumbs.training.report.style import INK, NEW, OLD, styled


@styled
def reliability(calibration: Calibration | None) -> Figure | None:
    """Draw the reliability curve of all rows and of each group, before and after the temperature; None without any."""
    if calibration is None or not calibration.groups:
        return None
    figure = Figure(figsize=(6.4, 2.6 if len(calibration.groups) > 2 else 3.4))
    axes = figure.subplots(1, len(calibration.groups), sharex=True, sharey=True, squeeze=False)[0]
    for axis, (name, group) in zip(axes, calibration.groups.items(), strict=True):
        _panel(axis, name, group)
    style.share_axis(axes[0], "right")
    figure.supxlabel("probability of the top class", fontsize=10)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=3)
    return figure


def _panel(axis: Axes, name: str, group: CalibratedGroup) -> None:
    axis.plot([0, 1], [0, 1], color=INK, linewidth=0.9, linestyle=(0, (4, 3)), label="as it should be")
    for curve, colour, label in (
        (group.before.curve, OLD, "T = 1"),
        (group.after.curve, NEW, "with T"),
    ):
        _curve(axis, curve, colour, label)
    axis.set_title(f"answered {name}" if name != "all" else "all rows", fontsize=9.5)
    axis.set_xlim(0, 1.03)
    axis.set_xticks([0, 0.5, 1])
    axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.set_aspect("equal")


def _curve(axis: Axes, curve: list[Bin], colour: str, label: str) -> None:
    at, right = (np.array([getattr(own, name) for own in curve]) for name in ("probability", "right"))
    axis.plot(at, right, "o-", color=colour, markersize=3.2, linewidth=1.4, label=label)
