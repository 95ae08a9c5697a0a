"""The pictures of a report: numbers in, a matplotlib figure out, and its bytes as SVG and PNG.

They say the same at 2 classes and at 8,000: up to 40 classes are drawn and named one by one, more become a curve. It
knows nothing of runs, files or pages, and never touches pyplot.

Letters: N rows, C classes, E epochs.
"""

import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import matplotlib.style
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter
from numpy.typing import NDArray

from models.groups import GROUPS, Group

NAMED = 40  # more classes than this have no names on the axis
SINGLE = 12  # more classes than this share one line a group
LABEL = 20  # characters of a class name on an axis
WORST = 12  # rows of the confusion
COLUMNS = 18  # of the confusion, before "others"
TILTED = 40  # degrees
BARS = ("many", "medium", "few", "balanced", "all")

# Colour-blind safe, and apart in lightness too; groups differ in their markers as well.
INK, FAINT = "#2b2f36", "#c9cdd3"
HEADS = {"joint": "#858d98", "balanced": "#0065a8"}
OTHERS = ("#b0457b", "#4d7c0f", "#9a5b00")
GROUP_COLOURS: dict[str, str] = {"many": "#3f1f6b", "medium": "#1f8f87", "few": "#dd6b00"}
GROUP_MARKERS: dict[str, str] = {"many": "o", "medium": "s", "few": "^"}
SHADES = LinearSegmentedColormap.from_list("shades", ["#ffffff", "#9cc4e4", "#0065a8", "#06304f"])

STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": INK,
    "axes.labelsize": 10,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 10,
    "grid.color": "#e4e7eb",
    "grid.linewidth": 0.7,
    "legend.borderaxespad": 0.2,
    "legend.columnspacing": 1.4,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "lines.linewidth": 1.8,
    "lines.markersize": 4,
    "svg.hashsalt": "breadcrumbs",  # ids inside an SVG are the same every time
    "text.color": INK,
    "text.parse_math": False,  # a class may be called $x_{1}$
    "xtick.color": INK,
    "xtick.labelsize": 9,
    "ytick.color": INK,
    "ytick.labelsize": 9,
}

# Artists take their looks when they are made, so whatever draws runs in the style; the user's own is put back after.
styled = matplotlib.style.context(STYLE, after_reset=True)

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]
History = Sequence[Mapping[str, Any]]


class Interval(Protocol):
    """A measured value and the two ends of its 95 % interval."""

    @property
    def value(self) -> float: ...  # noqa: D102

    @property
    def low(self) -> float: ...  # noqa: D102

    @property
    def high(self) -> float: ...  # noqa: D102


@styled
def counts_and_recall(
    counts: Integers, groups: Sequence[Group], classes: Sequence[str], recall: Mapping[str, Sequence[float | None]]
) -> Figure:
    """Draw training images of each class (C,), most first, and above them the recall of each head (C,)."""
    order = _long_tail(counts)
    room = _room(classes) if len(order) <= NAMED else 0.4
    figure, (above, below) = _figure(4.6 + room, rows=2, ratios=(3, 2))
    above.tick_params(axis="x", length=0)
    for head, values in recall.items():
        _recall_of_head(above, np.array(values, np.float64)[order], head, _head_colour(head, recall))
    if len(recall) > 1 and len(order) <= NAMED:
        both = np.array([np.array(values, np.float64)[order] for values in recall.values()])  # (heads, C)
        above.vlines(range(len(order)), both.min(0), both.max(0), color=FAINT, linewidth=1, zorder=1)
    _share_axis(above, "recall")
    if any(value is not None for values in recall.values() for value in values):
        _legend(above, lines=1)
    _over_the_tail(below, counts, groups, classes, counts[order].astype(np.float64))
    below.set_yscale("log", nonpositive="clip")
    below.set_ylim(0.5, 2 * max(int(counts.max()), 5))
    below.yaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:,.0f}" if n >= 1 else ""))
    below.yaxis.set_minor_formatter(NullFormatter())
    below.tick_params(axis="y", which="minor", length=0)
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
    figure, axes = _figure(2.5 * len(panels), rows=len(panels))
    heads = dict.fromkeys(head for found, _ in panels for head in found)
    for axis, (found, label) in zip(axes, panels, strict=True):
        for head, points in found.items():
            _line(axis, list(points), list(points.values()), label=head, color=_head_colour(head, heads))
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
    for head in heads:  # one may have no loss, and is in the legend all the same
        if head not in panels[0][0]:
            _line(axes[0], [], [], label=head, color=_head_colour(head, heads))
    if any(accuracy.values()):
        _share_axis(axes[-1], "balanced accuracy", full=False)
    _legend(axes[0])
    epochs = [epoch for found, _ in panels for points in found.values() for epoch in points]
    _epochs(axes[-1], min(epochs), max(epochs))
    return figure


@styled
def group_bars(
    metrics: Mapping[str, Mapping[str, Any]], intervals: Mapping[str, Mapping[str, Interval]]
) -> Figure | None:
    """Draw each head's recall of many, medium, few and all classes with its 95 % intervals; None without a number."""
    names = [name for name in BARS if any(_number(found.get(name)) is not None for found in metrics.values())]
    if not names:
        return None
    figure, (axis,) = _figure(3.4)
    width = min(0.8 / len(metrics), 0.5)
    for i, (head, found) in enumerate(metrics.items()):
        at = {name: n + width * (i - (len(metrics) - 1) / 2) for n, name in enumerate(names)}
        values = {name: v for name in names if (v := _number(found.get(name))) is not None}
        colour = _head_colour(head, metrics)
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
    _share_axis(axis, "recall")
    axis.set_ylim(0, 1.08)
    _legend(axis)
    return figure


@styled
def confusion(logits: Floats, labels: Integers, classes: Sequence[str], worst: int = WORST) -> Figure | None:
    """Draw where the images of the classes with the lowest recall go, rows in percent; None without a row.

    Columns are those classes, then what each is most taken for, then all others.
    """
    predicted = logits.argmax(1) if len(labels) else np.zeros(0, np.int64)
    rows = worst_classes(predicted, labels, len(classes))[: min(worst, WORST)]
    if not rows:
        return None
    shares = np.array([_destinations(predicted[labels == c], len(classes)) for c in rows])  # (rows, C)
    columns = _columns(shares, rows)
    others = 1 - shares[:, columns].sum(1)
    cells, names = shares[:, columns], [label(classes[c], c) for c in columns]
    if len(columns) < len(classes):
        cells, names = np.column_stack([cells, others.clip(0)]), [*names, "all others"]
    room = 0.1 * max(map(len, names))  # inches that the longest name may take
    figure, (axis,) = _figure(1.2 + room + 0.3 * len(rows), width=max(4, min(6.4, 1.2 + room + 0.5 * len(names))))
    axis.grid(visible=False)
    axis.pcolormesh(cells, cmap=SHADES, vmin=0, vmax=1, edgecolors="white", linewidth=1)
    for i, j in zip(*np.nonzero(cells > 0.005), strict=True):
        ink = "white" if cells[i, j] > 0.45 else INK
        axis.text(j + 0.5, i + 0.5, f"{100 * cells[i, j]:.0f}", ha="center", va="center", fontsize=8, color=ink)
    for i in range(len(rows)):
        axis.add_patch(Rectangle((i, i), 1, 1, fill=False, edgecolor=INK, linewidth=1.2))
    axis.set_xticks(np.arange(len(names)) + 0.5, names, rotation=90, fontsize=8.5)
    axis.set_yticks(np.arange(len(rows)) + 0.5, [label(classes[c], c) for c in rows], fontsize=8.5)
    axis.set(xlabel="predicted class, percent of the row", ylabel="true class")
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.invert_yaxis()
    return figure


@styled
def drift(history: History, counts: Integers, groups: Sequence[Group]) -> Figure | None:
    """Draw how far each class's mean moved in each epoch beside its sampling error; None if never measured."""
    epochs, moved = _per_class(history, "drift", len(counts))
    if not np.isfinite(moved).any():
        return None
    figure, (axis,) = _figure(3.6)
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
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.tick_params(axis="y", which="minor", length=0)
    axis.set_ylabel("movement of the class mean\nper epoch, in class spreads")
    _epochs(axis, epochs[0], epochs[-1])
    _legend(axis)
    return figure


@styled
def crumb_shares(history: History, counts: Integers, groups: Sequence[Group], classes: Sequence[str]) -> Figure | None:
    """Draw each class's share of crumbs in the balanced set, per epoch and at the last; None if never measured."""
    epochs, shares = _per_class(history, "crumbs", len(counts))
    if not np.isfinite(shares).any():
        return None
    over_epochs = len(epochs) > 1
    room = _room(classes) if len(counts) <= NAMED else 0.4
    figure, axes = _figure(2.8 + room + 2.4 * over_epochs, rows=1 + over_epochs, share=False)
    if over_epochs:
        for group in GROUPS:
            own = np.array([g == group for g in groups])
            if own.any() and np.isfinite(shares[:, own]).any():
                _group_lines(axes[0], epochs, shares[:, own], group, single=False)
        _epochs(axes[0], epochs[0], epochs[-1])
        _share_axis(axes[0], "share of crumbs")
        _legend(axes[0])
    last = axes[-1]
    _over_the_tail(last, counts, groups, classes, shares[-1][_long_tail(counts)])
    _share_axis(last, f"share in epoch {epochs[-1]}")
    if not over_epochs:
        patches = [Patch(color=GROUP_COLOURS[group], label=group) for group in GROUPS if group in groups]
        _legend(last, handles=patches)
    return figure


def worst_classes(predicted: Integers, labels: Integers, classes: int) -> list[int]:
    """Return the classes that have rows, lowest recall first, from predictions (N,) and labels (N,)."""
    rows = np.bincount(labels, minlength=classes)
    right = np.bincount(labels[predicted == labels], minlength=classes)
    seen = np.flatnonzero(rows)
    return [int(c) for c in seen[np.argsort(right[seen] / rows[seen], kind="stable")]]


def label(name: str, index: int, longest: int = LABEL) -> str:
    """Return a class name as an axis can show it: short, on one line, in letters that the font has.

    A long name loses its middle, since a taxonomy's names differ at the end; one that the font cannot write becomes
    its number.
    """
    name = " ".join(name.split())
    font = font_manager.get_font(font_manager.findfont("DejaVu Sans"))
    if not name or not all(c.isprintable() and font.get_char_index(ord(c)) for c in name):
        return f"class {index}"
    half = (longest - 1) // 2
    return name if len(name) <= longest else f"{name[:half]}…{name[half + 1 - longest :]}"


@styled
def svg(figure: Figure) -> bytes:
    """Return a figure as SVG: the same bytes every time, letters drawn as paths, no reference to anywhere."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", dpi=200, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return re.sub(rb"<!DOCTYPE[^>]*>\s*", b"", buffer.getvalue(), count=1)


@styled
def png(figure: Figure) -> bytes:
    """Return a figure as PNG: the same bytes every time, 200 pixels an inch."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=200, metadata={"Software": None})
    return buffer.getvalue()


def _figure(
    height: float, *, rows: int = 1, width: float = 6.4, ratios: Sequence[float] | None = None, share: bool = True
) -> tuple[Figure, list[Axes]]:
    """Make a figure, in inches, with its axes from top to bottom."""
    figure = Figure(figsize=(width, height))
    axes = figure.subplots(rows, 1, sharex=share, squeeze=False, gridspec_kw={"height_ratios": ratios})
    return figure, list(axes[:, 0])


def _head_colour(head: str, heads: Iterable[str]) -> str:
    unknown = [name for name in heads if name not in HEADS]
    return HEADS.get(head) or OTHERS[unknown.index(head) % len(OTHERS)]


def _long_tail(counts: Integers) -> NDArray[np.intp]:
    return np.argsort(-counts, kind="stable")


def _recall_of_head(axis: Axes, recall: Floats, head: str, colour: str) -> None:
    rank = np.arange(len(recall))
    if len(recall) <= NAMED:
        (dots,) = axis.plot(rank, recall, "o", color=colour, label=head, markersize=5.5, clip_on=False)
        dots.set_in_layout(False)
        return
    # A class's recall is as coarse as its few test images: the eye needs the mean over its neighbours in the tail.
    (dots,) = axis.plot(
        rank, recall, "o", color=colour, alpha=float(np.clip(60 / len(recall), 0.1, 0.6)), markersize=3,
        markeredgewidth=0, rasterized=True, clip_on=False,
    )  # fmt: skip
    dots.set_in_layout(False)
    axis.plot(rank, running_mean(recall, max(9, len(recall) // 25)), color=colour, label=head, linewidth=2.2)


def running_mean(values: Floats, window: int) -> NDArray[np.float64]:
    """Return the mean over each value's neighbours (C,), NaN left out, fewer neighbours at both ends."""
    known = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    seen = np.concatenate([[0], np.cumsum(known)])
    at = np.arange(len(values))
    low, high = np.maximum(at - window // 2, 0), np.minimum(at + window // 2 + 1, len(values))
    rows = seen[high] - seen[low]
    return np.where(rows > 0, (sums[high] - sums[low]) / np.maximum(rows, 1), np.nan)


def _over_the_tail(
    axis: Axes, counts: Integers, groups: Sequence[Group], classes: Sequence[str], values: Floats
) -> None:
    """Draw a value of each class, in the tail's order (C,): bars with names, or, of many classes, an area by group."""
    order = _long_tail(counts)
    own = np.array([groups[c] for c in order])
    slots = max(len(order), 6)
    axis.set_xlim((len(order) - slots) / 2 - 0.6, (len(order) + slots) / 2 - 0.4)
    if len(order) <= NAMED:
        axis.bar(range(len(order)), values, 0.72, color=[GROUP_COLOURS[g] for g in own])
        names = [label(classes[c], int(c)) for c in order]
        turn = _turn(names)
        looks: dict[str, Any] = {"ha": "right", "rotation_mode": "anchor"} if turn == TILTED else {}
        axis.set_xticks(range(len(order)), names, rotation=turn, fontsize=8.5, **looks)
        axis.tick_params(axis="x", length=0)
        return
    for group in dict.fromkeys(own):
        axis.fill_between(
            range(len(order)), np.where(own == group, np.nan_to_num(values), 0), step="mid",
            color=GROUP_COLOURS[group], linewidth=0, rasterized=True,
        )  # fmt: skip
    axis.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:,.0f}"))
    axis.set_xlabel("class, most training images first")


def _turn(names: Sequence[str]) -> int:
    """Degrees that names on the horizontal axis are turned by, so that they do not meet."""
    if len(names) <= 6 and max(map(len, names)) <= 11:
        return 0
    return TILTED if len(names) <= 16 else 90


def _room(classes: Sequence[str]) -> float:
    """Inches below the axis that the names of the classes take."""
    names = [label(name, c) for c, name in enumerate(classes)]
    return 0.2 + 0.1 * max(map(len, names)) * {0: 0.0, TILTED: 0.7, 90: 1.0}[_turn(names)]


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


def _group_lines(axis: Axes, epochs: Sequence[int], values: Floats, group: Group, *, single: bool) -> None:
    """Draw the classes of a group (E, M): each its line, or the median and the middle 80 % of them."""
    colour, marker = GROUP_COLOURS[group], GROUP_MARKERS[group]
    if single:
        for c in range(values.shape[1]):
            _line(axis, epochs, values[:, c], color=colour, marker=marker, linewidth=1.2, label="" if c else group)
        return
    low, middle, high = _quantiles(values, (0.1, 0.5, 0.9))
    if values.shape[1] > 1:
        axis.fill_between(epochs, low, high, color=colour, alpha=0.15, linewidth=0)
    _line(axis, epochs, middle, color=colour, marker=marker, label=group)


def _quantiles(values: Floats, shares: Sequence[float]) -> NDArray[np.float64]:
    """Quantiles over the finite values of each row of (E, M), as (quantiles, E); NaN where a row has none."""
    found = np.full((len(shares), len(values)), np.nan)
    for e, row in enumerate(values):
        if np.isfinite(row).any():
            found[:, e] = np.quantile(row[np.isfinite(row)], shares)
    return found


def _line(axis: Axes, epochs: Sequence[int], values: Sequence[float] | Floats, **looks: Any) -> None:
    """A line over the epochs, with markers where they do not run into each other."""
    marker = looks.pop("marker", "o")
    (line,) = axis.plot(epochs, values, marker=marker if len(epochs) <= 20 else "", clip_on=False, **looks)
    line.set_in_layout(False)  # it is inside its axes; one without a point would count as being at the figure's corner


def _epochs(axis: Axes, first: int, last: int) -> None:
    axis.set_xlim(first - 0.5, last + 0.5)
    axis.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axis.set_xlabel("epoch")


def _share_axis(axis: Axes, text: str, *, full: bool = True) -> None:
    axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.set_ylabel(text)
    if full:
        axis.set_ylim(0, 1.03)
        axis.set_yticks([0, 0.25, 0.5, 0.75, 1])


def _legend(axis: Axes, lines: int = 0, handles: Sequence[Patch] | None = None) -> None:
    """Put the legend above the axes, over so many lines of text."""
    axis.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=5, borderaxespad=0.2 + 1.6 * lines)


def _destinations(predicted: Integers, classes: int) -> NDArray[np.float64]:
    return np.asarray(np.bincount(predicted, minlength=classes) / len(predicted))


def _columns(shares: Floats, rows: Sequence[int]) -> list[int]:
    """The rows' own classes, then the class that each is most taken for, as long as there is room."""
    columns = list(rows)
    for own, row in zip(rows, shares, strict=True):
        wrong = [int(c) for c in np.argsort(-row, kind="stable")[:2] if c != own and row[c] > 0]
        columns += [c for c in wrong[:1] if c not in columns and len(columns) < COLUMNS]
    return columns


def _scalars(history: History, find: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> dict[str, dict[int, float]]:
    """What an epoch's line says of each head: head → epoch → number, where there is one."""
    found: dict[str, dict[int, float]] = {}
    for line in history:
        for head, value in find(line).items():
            number = _number(value)
            if number is not None:
                found.setdefault(head, {})[int(line["epoch"])] = number
    return found


def _balanced_accuracies(line: Mapping[str, Any]) -> dict[str, Any]:
    return {head: own.get("balanced") for head, own in line.items() if isinstance(own, Mapping)}


def _per_class(history: History, key: str, classes: int) -> tuple[list[int], NDArray[np.float64]]:
    """The epochs that have a value of each class, and the values (E, C); NaN where one is null or not finite."""
    lines = [line for line in history if len(line.get(key) or ()) == classes]
    values = np.array([line[key] for line in lines], np.float64).reshape(len(lines), classes)
    return [int(line["epoch"]) for line in lines], np.where(np.isfinite(values), values, np.nan)


def _number(value: Any) -> float | None:
    usable = isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)
    return float(value) if usable else None
