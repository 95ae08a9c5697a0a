"""The look of every picture of a report: colours, panels, axes and legend, and its bytes as SVG and PNG.

It knows nothing of what a picture shows, and never touches pyplot. The axis that has the classes is `class_axis`.
"""

import io
import re
from collections.abc import Container, Iterable, Sequence
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter
from numpy.typing import NDArray

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.groups import GROUPS

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

# Artists take their look when they are made, so all that draws runs in this style; the caller's style comes back after.
styled = matplotlib.style.context(STYLE, after_reset=True)

Integers = NDArray[np.integer]


@styled
def svg(figure: Figure) -> bytes:
    """Return a figure as SVG: the same bytes every time, letters drawn as paths, no reference to anywhere."""
    _lay_out(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", dpi=200, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return re.sub(rb"<!DOCTYPE[^>]*>\s*", b"", buffer.getvalue(), count=1)


@styled
def png(figure: Figure) -> bytes:
    """Return a figure as PNG: the same bytes every time, 200 pixels an inch."""
    _lay_out(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=200, metadata={"Software": None})
    return buffer.getvalue()


def _lay_out(figure: Figure) -> None:
    """Place the axes once; matplotlib would do it again, and draw the figure twice, each time it is saved."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)


def panels(
    height: float, *, rows: int = 1, width: float = 6.4, ratios: Sequence[float] | None = None, share: bool = True
) -> tuple[Figure, list[Axes]]:
    """Make a figure, in inches, with its axes from top to bottom."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, 1, sharex=share, squeeze=False, gridspec_kw={"height_ratios": ratios})
    return figure, list(axes[:, 0])


def head_colour(head: str, heads: Iterable[str]) -> str:
    """Return the colour of a head: its own, or the next of OTHERS if it has none."""
    unknown = [name for name in heads if name not in HEADS]
    return HEADS.get(head) or OTHERS[unknown.index(head) % len(OTHERS)]


def line(axis: Axes, epochs: Sequence[int], values: Sequence[float] | Floats, **looks: Any) -> None:
    """Draw a line over the epochs, with markers if there are few enough of them."""
    marker = looks.pop("marker", "o")
    (line,) = axis.plot(epochs, values, marker=marker if len(epochs) <= 20 else "", clip_on=False, **looks)
    line.set_in_layout(False)  # the layout would take a line without points to be at the figure's corner


def epoch_axis(axis: Axes, first: int, last: int) -> None:
    """Make the horizontal axis one of epochs."""
    axis.set_xlim(first - 0.5, last + 0.5)
    axis.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axis.set_xlabel("epoch")


def share_axis(axis: Axes, text: str, *, full: bool = True) -> None:
    """Make the vertical axis one of shares in percent, from 0 to 1 if `full`."""
    axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.set_ylabel(text)
    if full:
        axis.set_ylim(0, 1.03)
        axis.set_yticks([0, 0.25, 0.5, 0.75, 1])


def log_axis(axis: Axes, digits: Sequence[int] = (1,), ticks: int | None = None) -> None:
    """Make the vertical axis logarithmic, with a tick at these multiples of each power of ten."""
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=digits, numticks=ticks))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.tick_params(axis="y", which="minor", length=0)


def legend(axis: Axes, lines: int = 0, handles: Sequence[Patch] | None = None) -> None:
    """Put the legend above the axes, and above `lines` lines of text there."""
    axis.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=5, borderaxespad=0.2 + 1.6 * lines)


def group_legend(axis: Axes, groups: Container[str]) -> None:
    """Put a legend above the axes that names the colours of those groups."""
    legend(axis, handles=[Patch(color=GROUP_COLOURS[group], label=group) for group in GROUPS if group in groups])


def number(value: Any) -> float | None:
    """Return a value that can be drawn; None for any other."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)
    return float(value) if usable else None
