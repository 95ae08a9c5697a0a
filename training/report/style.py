"""How every picture of a report is drawn: its style, its axes, the names on them, and its bytes as SVG and PNG.

It knows nothing of what a picture shows, and never touches pyplot.

Letters: C classes.
"""

import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.groups import Group

NAMED = 40  # more classes than this have no names on the axis
LABEL = 20  # characters of a class name on an axis
TILTED = 40  # degrees

# Colour-blind safe, and apart in lightness too; groups differ in their markers as well.
INK, FAINT = "#2b2f36", "#c9cdd3"
OLD, NEW = "#858d98", "#0065a8"
HEADS = {"joint": OLD, "live": OLD, "balanced": NEW, "candidate": NEW}
OTHERS = ("#b0457b", "#4d7c0f", "#9a5b00")
GROUP_COLOURS: dict[str, str] = {"many": "#3f1f6b", "medium": "#1f8f87", "few": "#dd6b00"}
GROUP_MARKERS: dict[str, str] = {"many": "o", "medium": "s", "few": "^"}

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

Integers = NDArray[np.integer]


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


def panels(
    height: float, *, rows: int = 1, width: float = 6.4, ratios: Sequence[float] | None = None, share: bool = True
) -> tuple[Figure, list[Axes]]:
    """Make a figure, in inches, with its axes from top to bottom."""
    figure = Figure(figsize=(width, height))
    axes = figure.subplots(rows, 1, sharex=share, squeeze=False, gridspec_kw={"height_ratios": ratios})
    return figure, list(axes[:, 0])


def head_colour(head: str, heads: Iterable[str]) -> str:
    """The colour of a head: its own, or one after the other for those without."""
    unknown = [name for name in heads if name not in HEADS]
    return HEADS.get(head) or OTHERS[unknown.index(head) % len(OTHERS)]


def long_tail(counts: Integers) -> NDArray[np.intp]:
    """Return the classes in the tail's order (C,), most training images first."""
    return np.argsort(-counts, kind="stable")


def over_the_tail(
    axis: Axes, counts: Integers, groups: Sequence[Group], classes: Sequence[str], values: Floats
) -> None:
    """Draw a value of each class, in the tail's order (C,): bars with names, or, of many classes, an area by group."""
    order = long_tail(counts)
    own = np.array([groups[c] for c in order])
    slots = max(len(order), 6)
    axis.set_xlim((len(order) - slots) / 2 - 0.6, (len(order) + slots) / 2 - 0.4)
    if len(order) <= NAMED:
        axis.bar(range(len(order)), values, 0.72, color=[GROUP_COLOURS[g] for g in own])
        name_axis(axis, [label(classes[c], int(c)) for c in order])
        return
    for group in dict.fromkeys(own):
        axis.fill_between(
            range(len(order)), np.where(own == group, np.nan_to_num(values), 0), step="mid",
            color=GROUP_COLOURS[group], linewidth=0, rasterized=True,
        )  # fmt: skip
    axis.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:,.0f}"))
    axis.set_xlabel("class, most training images first")


def name_axis(axis: Axes, names: Sequence[str]) -> None:
    """Write names below the axis at 0, 1, …, turned where they would meet."""
    turn = _turn(names)
    looks: dict[str, Any] = {"ha": "right", "rotation_mode": "anchor"} if turn == TILTED else {}
    axis.set_xticks(range(len(names)), names, rotation=turn, fontsize=8.5, **looks)
    axis.tick_params(axis="x", length=0)


def _turn(names: Sequence[str]) -> int:
    """Degrees that names on the horizontal axis are turned by, so that they do not meet."""
    if len(names) <= 6 and max(map(len, names)) <= 11:
        return 0
    return TILTED if len(names) <= 16 else 90


def room_below(classes: Sequence[str]) -> float:
    """Inches below the axis that the names of the classes take."""
    names = [label(name, c) for c, name in enumerate(classes)]
    return 0.2 + 0.1 * max(map(len, names)) * {0: 0.0, TILTED: 0.7, 90: 1.0}[_turn(names)]


def line(axis: Axes, epochs: Sequence[int], values: Sequence[float] | Floats, **looks: Any) -> None:
    """Draw a line over the epochs, with markers where they do not run into each other."""
    marker = looks.pop("marker", "o")
    (line,) = axis.plot(epochs, values, marker=marker if len(epochs) <= 20 else "", clip_on=False, **looks)
    line.set_in_layout(False)  # it is inside its axes; one without a point would count as being at the figure's corner


def epoch_axis(axis: Axes, first: int, last: int) -> None:
    """Make the horizontal axis one of epochs."""
    axis.set_xlim(first - 0.5, last + 0.5)
    axis.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axis.set_xlabel("epoch")


def share_axis(axis: Axes, text: str, *, full: bool = True) -> None:
    """Make the vertical axis one of shares in percent; `full`: from 0 to 1."""
    axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.set_ylabel(text)
    if full:
        axis.set_ylim(0, 1.03)
        axis.set_yticks([0, 0.25, 0.5, 0.75, 1])


def legend(axis: Axes, lines: int = 0, handles: Sequence[Patch] | None = None) -> None:
    """Put the legend above the axes, over so many lines of text."""
    axis.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=5, borderaxespad=0.2 + 1.6 * lines)


def number(value: Any) -> float | None:
    """Return a value that can be drawn, none of any other."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)
    return float(value) if usable else None
