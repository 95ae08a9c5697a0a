"""The pictures of a run's report: numbers in, a matplotlib figure out.

They work for 2 classes and for 8,000: up to 40 classes are drawn and named one by one, more become a curve. It knows
nothing of runs, files or pages. `trail_plots` has the pictures of the trail; the look is in `style` and `class_axis`.

Letters: C classes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.groups import Group
from breadcrumbs.training.report import class_axis, style
from breadcrumbs.training.report.class_axis import NAMED
from breadcrumbs.training.report.html import Interval
from breadcrumbs.training.report.style import FAINT, GROUP_COLOURS, INK, Integers, styled

BARS = ("many", "medium", "few", "balanced", "all")

History = Sequence[Mapping[str, Any]]


@styled
def counts_and_recall(
    counts: Integers, groups: Sequence[Group], classes: Sequence[str], recall: Mapping[str, Sequence[float | None]]
) -> Figure:
    """Draw training images of each class (C,), most first, and above them the recall of each head (C,)."""
    order = class_axis.long_tail(counts)
    figure, (above, below) = style.panels(4.6 + class_axis.room_below(classes), rows=2, ratios=(3, 2))
    above.tick_params(axis="x", length=0)
    for head, values in recall.items():
        _recall_of_head(above, np.array(values, np.float64)[order], head, style.head_colour(head, recall))
    if len(recall) > 1 and len(order) <= NAMED:
        both = np.array([np.array(values, np.float64)[order] for values in recall.values()])  # (heads, C)
        above.vlines(range(len(order)), both.min(0), both.max(0), color=FAINT, linewidth=1, zorder=1)
    style.share_axis(above, "recall")
    if any(value is not None for values in recall.values() for value in values):
        style.legend(above, lines=1)
    class_axis.over_the_tail(below, counts, groups, classes, counts[order].astype(np.float64))
    style.log_axis(below)
    below.set_ylim(0.5, 2 * max(int(counts.max()), 5))
    below.yaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:,.0f}" if n >= 1 else ""))
    below.set_ylabel("training images")
    _group_names(above, [groups[c] for c in order])
    return figure


@styled
def curves(history: History) -> Figure | None:
    """Draw each head's loss and balanced accuracy per epoch; None without an epoch."""
    losses = _scalars(history, lambda line: {key[:-5]: v for key, v in line.items() if key.endswith("_loss")})
    # The balanced head's loss is 0 while there are no crumbs: it has not been trained, so it has no loss.
    losses = {head: trained for head, found in losses.items() if (trained := {e: v for e, v in found.items() if v})}
    accuracy = _scalars(history, _balanced_accuracies)
    panels = [
        panel for panel in ((losses, "mean loss, nats"), (accuracy, "balanced accuracy")) if any(panel[0].values())
    ]
    if not panels:
        return None
    figure, axes = style.panels(2.5 * len(panels), rows=len(panels))
    heads = dict.fromkeys(head for found, _ in panels for head in found)
    for axis, (found, text) in zip(axes, panels, strict=True):
        for head, points in found.items():
            style.line(axis, list(points), list(points.values()), label=head, color=style.head_colour(head, heads))
        axis.set_ylabel(text)
        axis.set_ylim(bottom=0)
    for head in heads:  # one may have no loss, and is in the legend all the same
        if head not in panels[0][0]:
            style.line(axes[0], [], [], label=head, color=style.head_colour(head, heads))
    if any(accuracy.values()):
        style.share_axis(axes[-1], "balanced accuracy", full=False)
    style.legend(axes[0])
    epochs = [epoch for found, _ in panels for points in found.values() for epoch in points]
    style.epoch_axis(axes[-1], min(epochs), max(epochs))
    return figure


@styled
def group_bars(
    metrics: Mapping[str, Mapping[str, Any]], intervals: Mapping[str, Mapping[str, Interval]]
) -> Figure | None:
    """Draw each head's recall of many, medium, few and all classes with its 95 % intervals; None without a number."""
    names = [name for name in BARS if any(style.number(found.get(name)) is not None for found in metrics.values())]
    if not names:
        return None
    figure, (axis,) = style.panels(3.4)
    width = min(0.8 / len(metrics), 0.5)
    for i, (head, found) in enumerate(metrics.items()):
        at = {name: n + width * (i - (len(metrics) - 1) / 2) for n, name in enumerate(names)}
        values = {name: v for name in names if (v := style.number(found.get(name))) is not None}
        colour = style.head_colour(head, metrics)
        axis.bar([at[n] for n in values], list(values.values()), 0.92 * width, color=colour, label=head)
        whiskers = {name: intervals.get(head, {}).get(name) for name in values}
        for name, value in values.items():
            own, top = whiskers[name], value
            if own is not None and np.isfinite([own.low, own.high]).all():
                axis.vlines(at[name], own.low, own.high, color=INK, linewidth=1.3)
                top = max(value, own.high)
            axis.annotate(
                f"{100 * value:.1f}", (at[name], top), (0, 3), textcoords="offset points", ha="center", fontsize=8.5
            )
    axis.set_xlim(-0.6, max(len(names), 3) - 0.4)
    axis.set_xticks(range(len(names)), names)
    axis.tick_params(axis="x", length=0, labelsize=10)
    style.share_axis(axis, "recall")
    axis.set_ylim(0, 1.08)
    style.legend(axis)
    return figure


def _recall_of_head(axis: Axes, recall: Floats, head: str, colour: str) -> None:
    rank = np.arange(len(recall))
    if len(recall) <= NAMED:
        (dots,) = axis.plot(rank, recall, "o", color=colour, label=head, markersize=5.5, clip_on=False)
        dots.set_in_layout(False)
        return
    class_axis.cloud(axis, rank, recall, colour, len(recall))
    axis.plot(rank, class_axis.tail_mean(recall), color=colour, label=head, linewidth=2.2)


def _group_names(axis: Axes, ordered: Sequence[Group]) -> None:
    """Name the groups over the tail, and draw a line where one ends, if each is in one piece."""
    starts = [i for i, group in enumerate(ordered) if i == 0 or ordered[i - 1] != group]
    if len(starts) != len(set(ordered)):
        return
    for start, end in zip(starts, [*starts[1:], len(ordered)], strict=True):
        if start:
            axis.axvline(start - 0.5, color=FAINT, linewidth=0.9, zorder=0.5)
        if end - start >= 0.09 * len(ordered):
            axis.annotate(
                ordered[start], ((start + end - 1) / 2, 1), (0, 5), xycoords=axis.get_xaxis_transform(),
                textcoords="offset points", ha="center", fontsize=9, color=GROUP_COLOURS[ordered[start]], weight="bold",
            )  # fmt: skip


def _scalars(history: History, find: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> dict[str, dict[int, float]]:
    """What an epoch's line says of each head: head → epoch → number, where there is one."""
    found: dict[str, dict[int, float]] = {}
    for line in history:
        for head, value in find(line).items():
            number = style.number(value)
            if number is not None:
                found.setdefault(head, {})[int(line["epoch"])] = number
    return found


def _balanced_accuracies(line: Mapping[str, Any]) -> dict[str, Any]:
    return {head: own.get("balanced") for head, own in line.items() if isinstance(own, Mapping)}
