"""The pictures of a run's trail: how far its class means moved, and where its balanced set came from.

It knows nothing of trails or runs: the lines of `log.jsonl` in, a matplotlib figure out.

Letters: C classes, E epochs, M classes of one group.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.groups import GROUPS, Group
from breadcrumbs.training.report import class_axis, style
from breadcrumbs.training.report.style import GROUP_COLOURS, GROUP_MARKERS, INK, Integers, styled

SINGLE = 12  # more classes than this share one line a group

History = Sequence[Mapping[str, Any]]


@styled
def drift(history: History, counts: Integers, groups: Sequence[Group]) -> Figure | None:
    """Draw how far each class's mean moved in each epoch beside its sampling error; None if never measured."""
    epochs, moved = _per_class(history, "drift", len(counts))
    if not np.isfinite(moved).any():
        return None
    figure, (axis,) = style.panels(3.6)
    log_scale = bool((moved[np.isfinite(moved)] > 0).any())
    if log_scale:
        moved = np.where(moved > 0, moved, np.nan)
    for group in GROUPS:
        own = np.array([g == group for g in groups])
        if own.any() and np.isfinite(moved[:, own]).any():
            colour = GROUP_COLOURS[group]
            _group_lines(axis, epochs, moved[:, own], group, single=len(counts) <= SINGLE)
            error = float(np.median(1 / np.sqrt(counts[own].clip(1))))
            axis.axhline(error, color=colour, linewidth=1.1, linestyle=(0, (4, 3)), zorder=1.5)
    axis.plot([], [], color=INK, linewidth=1.1, linestyle=(0, (4, 3)), label="sampling error 1/√n")
    if log_scale:
        style.log_axis(axis, (1, 2, 5), ticks=12)
    axis.set_ylabel("movement of the class mean\nper epoch, in class spreads")
    style.epoch_axis(axis, epochs[0], epochs[-1])
    style.legend(axis)
    return figure


@styled
def crumb_shares(history: History, counts: Integers, groups: Sequence[Group], classes: Sequence[str]) -> Figure | None:
    """Draw each class's share of crumbs in the balanced set, per epoch and at the last; None if never measured."""
    epochs, shares = _per_class(history, "crumbs", len(counts))
    if not np.isfinite(shares).any():
        return None
    over_epochs = len(epochs) > 1
    figure, axes = style.panels(
        2.8 + class_axis.room_below(classes) + 2.4 * over_epochs, rows=1 + over_epochs, share=False
    )
    if over_epochs:
        for group in GROUPS:
            own = np.array([g == group for g in groups])
            if own.any() and np.isfinite(shares[:, own]).any():
                _group_lines(axes[0], epochs, shares[:, own], group, single=False)
        style.epoch_axis(axes[0], epochs[0], epochs[-1])
        style.share_axis(axes[0], "share of crumbs")
        style.legend(axes[0])
    last = axes[-1]
    class_axis.over_the_tail(last, counts, groups, classes, shares[-1][class_axis.long_tail(counts)])
    style.share_axis(last, f"share in epoch {epochs[-1]}")
    if not over_epochs:
        style.group_legend(last, groups)
    return figure


def _group_lines(axis: Axes, epochs: Sequence[int], values: Floats, group: Group, *, single: bool) -> None:
    """Draw the classes of a group (E, M): each its line, or the median and the middle 80 % of them."""
    colour, marker = GROUP_COLOURS[group], GROUP_MARKERS[group]
    if single:
        for c in range(values.shape[1]):
            style.line(axis, epochs, values[:, c], color=colour, marker=marker, linewidth=1.2, label="" if c else group)
        return
    low, middle, high = _quantiles(values, (0.1, 0.5, 0.9))
    if values.shape[1] > 1:
        axis.fill_between(epochs, low, high, color=colour, alpha=0.15, linewidth=0)
    style.line(axis, epochs, middle, color=colour, marker=marker, label=group)


def _quantiles(values: Floats, shares: Sequence[float]) -> NDArray[np.float64]:
    """Quantiles over the finite values of each row of (E, M), as (quantiles, E); NaN where a row has none."""
    found = np.full((len(shares), len(values)), np.nan)
    for e, row in enumerate(values):
        if np.isfinite(row).any():
            found[:, e] = np.quantile(row[np.isfinite(row)], shares)
    return found


def _per_class(history: History, key: str, classes: int) -> tuple[list[int], NDArray[np.float64]]:
    """The epochs that have a value of each class, and the values (E, C); NaN where one is null or not finite."""
    lines = [line for line in history if len(line.get(key) or ()) == classes]
    values = np.array([line[key] for line in lines], np.float64).reshape(len(lines), classes)
    return [int(line["epoch"]) for line in lines], np.where(np.isfinite(values), values, np.nan)
