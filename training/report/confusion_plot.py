"""The picture of what each class is taken for: all classes, or of many those that are confused most, side by side.

It knows nothing of heads or pages.

Letters: C classes, K classes that are drawn.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from breadcrumbs.models.arrays import Floats
from breadcrumbs.training.confused import Pair, clustered
from breadcrumbs.training.report import class_axis, style
from breadcrumbs.training.report.class_axis import NAMED, label
from breadcrumbs.training.report.style import FAINT, INK, Integers, styled

SHADES = LinearSegmentedColormap.from_list("shades", ["#ffffff", "#9cc4e4", "#0065a8", "#06304f"])
WIDTH = 8.4  # inches at most: the width of a page
CELL = 0.5  # inches of a cell at most


@styled
def confusion(
    counts: Integers, rows: Integers, confused: Sequence[Pair], classes: Sequence[str], drawn: int = NAMED
) -> Figure | None:
    """Draw the shares of each class's rows that are taken for each class; None without a row.

    Up to `drawn` classes are all drawn, most training images first; of more those that are confused most, each beside
    those that it is confused with, and a column for all other classes.

    Args:
        counts: training images of each class (C,).
        rows: test rows of each class (C,).
        confused: the pairs that are confused, most rows first.
        classes: C names.
        drawn: K at most.
    """
    if not rows.any():
        return None
    chosen = shown(counts, confused, drawn)
    if not chosen:
        return None
    cells = _shares(rows, confused, chosen)
    names = [label(classes[c], c) for c in chosen]
    across = [*names, "all others"][: cells.shape[1]]
    room = 0.1 * max(map(len, across))  # inches that the longest name may take
    side = min(CELL, (WIDTH - room - 0.6) / len(across))
    figure, (axis,) = style.panels(0.7 + room + side * len(names), width=max(4, 0.6 + room + side * len(across)))
    _draw(axis, cells, side)
    size = min(8.5, 66 * side)  # points; a cell is `side` inches, an inch 72 points
    axis.set_xticks(np.arange(len(across)) + 0.5, across, rotation=90, fontsize=size)
    axis.set_yticks(np.arange(len(names)) + 0.5, names, fontsize=size)
    axis.set(xlabel="predicted class, percent of the row", ylabel="true class")
    return figure


def shown(counts: Integers, confused: Sequence[Pair], drawn: int = NAMED) -> list[int]:
    """Return the classes that are drawn, in their order: see `confusion`."""
    if len(counts) <= drawn:
        return [int(c) for c in class_axis.long_tail(counts)]
    return clustered(confused, drawn)


def _shares(rows: Integers, confused: Sequence[Pair], chosen: Sequence[int]) -> Floats:
    """Of each chosen class's rows the share taken for each chosen class, and for all others (K, K or K + 1)."""
    place = {c: k for k, c in enumerate(chosen)}
    cells = np.zeros((len(chosen), len(chosen) + 1))
    for pair in confused:
        if pair.true in place:
            cells[place[pair.true], place.get(pair.predicted, len(chosen))] += pair.rows
    own = rows[list(chosen)]
    cells[np.arange(len(chosen)), np.arange(len(chosen))] = own - cells.sum(1)  # what is not taken for another is right
    cells = cells / np.maximum(own, 1)[:, None]
    return cells if len(chosen) < len(rows) else cells[:, :-1]


def _draw(axis: Axes, cells: Floats, side: float) -> None:
    axis.grid(visible=False)
    edge = 1.0 if side > 0.25 else 0.4
    axis.pcolormesh(
        cells, cmap=SHADES, vmin=0, vmax=1, edgecolors="white" if side > 0.25 else FAINT, linewidth=edge,
        rasterized=len(cells) > 20,
    )  # fmt: skip
    for i, j in zip(*np.nonzero(cells > 0.005), strict=True):
        ink = "white" if cells[i, j] > 0.45 else INK
        words = f"{100 * cells[i, j]:.0f}"
        axis.text(j + 0.5, i + 0.5, words, ha="center", va="center", fontsize=min(8, 34 * side), color=ink)
    for i in range(len(cells)):
        axis.add_patch(Rectangle((i, i), 1, 1, fill=False, edgecolor=INK, linewidth=edge))
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.invert_yaxis()
