"""The horizontal axis that has the classes: their order, their names, and what stands for names of many classes.

It knows nothing of what is drawn above a class.

Letters: C classes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.groups import Group
from breadcrumbs.training.report.style import GROUP_COLOURS, Integers

NAMED = 40  # more classes than this have no names on the axis
LABEL = 20  # characters of a class name on an axis
TILTED = 40  # degrees
LISTED = 1000  # classes in a table at most, of more those of the lowest score


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


def long_tail(counts: Integers) -> NDArray[np.intp]:
    """Return the classes in the tail's order (C,), most training images first."""
    return np.argsort(-counts, kind="stable")


def listed(counts: Integers, score: Sequence[float | None]) -> list[int]:
    """Return the classes that a table lists: all, in the tail's order; of more than LISTED those of the lowest score.

    Args:
        counts: training images of each class (C,).
        score: of each class (C,); one of None is not listed then.
    """
    if len(counts) <= LISTED:
        return [int(c) for c in long_tail(counts)]
    known = {c: value for c, value in enumerate(score) if value is not None}
    return sorted(known, key=lambda c: (known[c], c))[:LISTED]


def over_the_tail(
    axis: Axes, counts: Integers, groups: Sequence[Group], classes: Sequence[str], values: Floats
) -> None:
    """Draw a value of each class (C,), in the tail's order: bars with names, or an area by group for many classes."""
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
    rank_axis(axis)


def name_axis(axis: Axes, names: Sequence[str]) -> None:
    """Write names below the axis at 0, 1, …, turned if they would overlap."""
    turn = _turn(names)
    looks: dict[str, Any] = {"ha": "right", "rotation_mode": "anchor"} if turn == TILTED else {}
    axis.set_xticks(range(len(names)), names, rotation=turn, fontsize=8.5, **looks)
    axis.tick_params(axis="x", length=0)


def _turn(names: Sequence[str]) -> int:
    """Degrees to turn the names by, so that they do not overlap."""
    if len(names) <= 6 and max(map(len, names)) <= 11:
        return 0
    return TILTED if len(names) <= 16 else 90


def room_below(classes: Sequence[str]) -> float:
    """Return the inches that the names of the classes take below the axis; of many classes none is named."""
    if len(classes) > NAMED:
        return 0.4
    names = [label(name, c) for c, name in enumerate(classes)]
    return 0.2 + 0.1 * max(map(len, names)) * {0: 0.0, TILTED: 0.7, 90: 1.0}[_turn(names)]


def rank_axis(axis: Axes, more: str = "") -> None:
    """Make the horizontal axis one of ranks in the tail, for classes that are too many to be named."""
    axis.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:,.0f}"))
    axis.set_xlabel(f"class, most training images first{more}")


def cloud(axis: Axes, ranks: Integers, values: Floats, colour: str, classes: int) -> None:
    """Draw a faint dot for a value of each class, of so many classes in all."""
    alpha = float(np.clip(60 / classes, 0.1, 0.6))
    (dots,) = axis.plot(
        ranks, values, "o", color=colour, alpha=alpha, markersize=3, markeredgewidth=0, rasterized=True, clip_on=False
    )
    dots.set_in_layout(False)


def tail_mean(values: Floats) -> NDArray[np.float64]:
    """Return the running mean (C,) along the tail: one class's recall is as coarse as its few test images."""
    return running_mean(values, max(9, len(values) // 25))


def running_mean(values: Floats, window: int) -> NDArray[np.float64]:
    """Return the mean over each value's neighbours (C,); NaN is left out, and both ends have fewer neighbours."""
    known = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    seen = np.concatenate([[0], np.cumsum(known)])
    at = np.arange(len(values))
    low, high = np.maximum(at - window // 2, 0), np.minimum(at + window // 2 + 1, len(values))
    rows = seen[high] - seen[low]
    return np.where(rows > 0, (sums[high] - sums[low]) / np.maximum(rows, 1), np.nan)
