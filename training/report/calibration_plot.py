"""The picture of how far a head's probabilities hold: how often it is right, by how probable it says that it is.

It knows nothing of how the curves came about.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from breadcrumbs.models.calibration import Bin, Calibration
from breadcrumbs.training.report import style
from breadcrumbs.training.report.style import HEADS, INK, NEW, OLD, OTHERS, styled

Curves = Mapping[str, Sequence[Bin]]
"""The curve of all rows (`all`), and of each group that is answered."""


def before_and_after(calibration: Calibration | None) -> dict[str, Curves]:
    """Return the curves of a head without its temperature and with it; none where none was measured."""
    if calibration is None or not calibration.groups:
        return {}
    return {
        "T = 1": {name: own.before.curve for name, own in calibration.groups.items()},
        "with T": {name: own.after.curve for name, own in calibration.groups.items()},
    }


@styled
def reliability(heads: Mapping[str, Curves]) -> Figure | None:
    """Draw the reliability curves of each head, a panel for all rows and for each group; None without any."""
    groups = list(dict.fromkeys(group for curves in heads.values() for group in curves))
    if not groups:
        return None
    figure = Figure(figsize=(6.4, 2.6 if len(groups) > 2 else 3.4))
    axes = figure.subplots(1, len(groups), sharex=True, sharey=True, squeeze=False)[0]
    for axis, group in zip(axes, groups, strict=True):
        _panel(axis, group)
        for place, (head, curves) in enumerate(heads.items()):
            colour = HEADS.get(head) or (OLD, NEW, *OTHERS)[place % (2 + len(OTHERS))]
            _curve(axis, curves.get(group, ()), colour, head)
    style.share_axis(axes[0], "right")
    figure.supxlabel("probability of the top class", fontsize=10)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=4)
    return figure


def _panel(axis: Axes, name: str) -> None:
    axis.plot([0, 1], [0, 1], color=INK, linewidth=0.9, linestyle=(0, (4, 3)), label="as it should be")
    axis.set_title(f"answered {name}" if name != "all" else "all rows", fontsize=9.5)
    axis.set_xlim(0, 1.03)
    axis.set_xticks([0, 0.5, 1])
    axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.set_aspect("equal")


def _curve(axis: Axes, curve: Sequence[Bin], colour: str, label: str) -> None:
    at, right = (np.array([getattr(own, name) for own in curve]) for name in ("probability", "right"))
    axis.plot(at, right, "o-", color=colour, markersize=3.2, linewidth=1.4, label=label)
