"""The pictures of a refit's report: a report's parts in, a matplotlib figure out.

Up to 40 classes are drawn one by one; more become a cloud with a running mean. The look is in `style` and `class_axis`.

Letters: C classes.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.groups import GROUPS
from breadcrumbs.models.refit_report import Certificate, Classes, Move, Regression, Step
from breadcrumbs.models.report_part import Interval
from breadcrumbs.training.report import class_axis, style
from breadcrumbs.training.report.class_axis import NAMED, label
from breadcrumbs.training.report.style import FAINT, GROUP_COLOURS, INK, NEW, OLD, styled

FAILED = "#b3261e"  # a bound that did not hold
LAMBDAS = ("#9cc4e4", "#5b9bc9", "#0065a8", "#06304f")  # from the first λ of the path to the last


@styled
def changes(classes: Classes, change: Sequence[Interval | None]) -> Figure | None:
    """Draw each class's change of recall in the tail's order, with its interval; None without a class that has rows."""
    if not any(change):
        return None
    counts = np.array(classes.train_images)
    order = [int(c) for c in class_axis.long_tail(counts)]
    values = np.array([np.nan if (own := change[c]) is None else own.value for c in order])
    figure, (axis,) = style.panels(3.2 + class_axis.room_below(classes.names))
    axis.axhline(0, color=INK, linewidth=0.9, zorder=1.5)
    if len(order) <= NAMED:
        class_axis.over_the_tail(axis, counts, classes.groups, classes.names, values)
        whiskers = [(i, own.low, own.high) for i, c in enumerate(order) if (own := change[c]) is not None]
        axis.vlines(*zip(*whiskers, strict=True), color=INK, linewidth=1.2)
    else:
        _cloud(axis, [classes.groups[c] for c in order], values)
    axis.yaxis.set_major_formatter(FuncFormatter(_points))
    axis.set_ylabel("change of recall, points")
    style.group_legend(axis, classes.groups)
    return figure


def _cloud(axis: Axes, groups: Sequence[str], values: Floats) -> None:
    """Draw a dot for each class, and the running mean along the tail."""
    for group in dict.fromkeys(groups):
        own = np.flatnonzero(np.array(groups) == group)
        class_axis.cloud(axis, own, values[own], GROUP_COLOURS[group], len(values))
    axis.plot(class_axis.tail_mean(values), color=INK, linewidth=1.8)
    axis.set_xlim(-0.5, len(values) - 0.5)
    class_axis.rank_axis(axis, "; the line is a running mean")


def _points(value: float, _: int) -> str:
    return f"{100 * value:+.0f}".replace("-", "−") if value else "0"


@styled
def gains(certificate: Certificate | None, classes: Classes) -> Figure | None:
    """Draw each class's adversarial gain and the bound that Lemma 1 sets to it; None where none was measured."""
    if certificate is None or not certificate.classes:
        return None
    rank = {classes.names[c]: i for i, c in enumerate(class_axis.long_tail(np.array(classes.train_images)))}
    evidence = sorted(certificate.classes, key=lambda one: rank.get(one.name, len(rank)))
    gain, bound = (np.array([getattr(one, name) for one in evidence]) for name in ("gain", "bound"))
    held = np.array([one.held for one in evidence])
    kinds = ((held, NEW, "o", "gain, above its bound"), (~held, FAILED, "X", "gain, below its bound"))
    if len(evidence) > NAMED:
        return _against(gain, bound, kinds)
    names = [one.name for one in evidence]
    figure, (axis,) = style.panels(3.2 + class_axis.room_below(names))
    at = np.arange(len(names))
    axis.axhline(0, color=INK, linewidth=0.9, zorder=1.5)
    axis.vlines(at, bound, gain, color=FAINT, linewidth=1.4, zorder=1.8)
    axis.plot(at, bound, "_", color=INK, markersize=13, markeredgewidth=1.6, label="bound of Lemma 1")
    for mask, colour, marker, words in kinds:
        if mask.any():
            axis.plot(at[mask], gain[mask], marker, color=colour, markersize=6.5, label=words)
    class_axis.name_axis(axis, [label(name, i) for i, name in enumerate(names)])
    axis.set_xlim(min(-0.6, len(names) / 2 - 3.6), max(len(names) - 0.4, len(names) / 2 + 2.6))
    axis.set_ylabel("change of the class's loss, nats")
    style.legend(axis)
    return figure


def _against(gain: Floats, bound: Floats, kinds: Sequence[tuple[Floats, str, str, str]]) -> Figure:
    """Draw gain over bound, a dot a class: above the diagonal the bound held."""
    figure, (axis,) = style.panels(4.6)
    ends = float(min(gain.min(), bound.min())), float(max(gain.max(), bound.max()))
    axis.plot(ends, ends, color=INK, linewidth=1.0, linestyle=(0, (4, 3)), label="gain = bound")
    for mask, colour, marker, words in kinds:
        if mask.any():
            axis.plot(
                bound[mask], gain[mask], marker, color=colour, markersize=3.5, alpha=0.5, markeredgewidth=0,
                rasterized=True, label=words,
            )  # fmt: skip
    axis.set(xlabel="bound of Lemma 1, nats", ylabel="adversarial gain, nats")
    style.legend(axis)
    return figure


def _rows(names: Sequence[str], inches: float) -> tuple[Figure, Axes]:
    """Make axes with one named row of that height after the other, from the top."""
    figure, (axis,) = style.panels(1.0 + inches * len(names))
    axis.grid(visible=False)
    axis.set_yticks(range(len(names)), names, fontsize=8.5)
    axis.tick_params(axis="y", length=0)
    axis.invert_yaxis()
    return figure, axis


@styled
def losses(regressions: Sequence[Regression]) -> Figure | None:
    """Draw what the classes that lost most had and have, and the interval of the change; None if no class lost."""
    if not regressions:
        return None
    figure, axis = _rows([label(one.name, i) for i, one in enumerate(regressions)], 0.34)
    at = np.arange(len(regressions))
    low, high = ([max(-1.0, getattr(one.change, end)) for one in regressions] for end in ("low", "high"))
    axis.axvline(0, color=INK, linewidth=0.9)
    for group in GROUPS:
        own = np.array([one.group == group for one in regressions])
        if own.any():
            values = np.array([one.change.value for one in regressions])[own]
            axis.barh(at[own], values, 0.62, color=GROUP_COLOURS[group], label=group)
    axis.hlines(at, low, high, color=INK, linewidth=1.3)
    edge = max(0.0, *high) + 0.02 * (max(0.0, *high) - min(low))
    for i, one in enumerate(regressions):
        words = f"{100 * one.live:.0f} → {100 * one.candidate:.0f} % of {one.rows}"
        axis.text(edge, i, words, va="center", fontsize=8.5)
    span = edge - min(low)
    axis.set_xlim(min(low) - 0.03 * span, edge + 0.45 * span)
    axis.xaxis.set_major_formatter(FuncFormatter(_points))
    axis.set_xticks([tick for tick in axis.get_xticks() if min(low) - 0.03 * span <= tick <= max(0.0, *high)])
    axis.set_xlabel("change of recall, points")
    style.legend(axis)
    return figure


@styled
def confusions(moves: Sequence[Move]) -> Figure | None:
    """Draw the confusions whose rows changed most in number, live beside candidate; None if none did."""
    if not moves:
        return None
    names = [f"{label(one.true, i, 18)} classified as {label(one.predicted, i, 18)}" for i, one in enumerate(moves)]
    figure, axis = _rows(names, 0.3)
    at = np.arange(len(moves))
    live, candidate = (np.array([getattr(one, head) for one in moves]) for head in ("live", "candidate"))
    axis.grid(visible=True, axis="x")
    axis.hlines(at, live, candidate, color=[OLD if a > b else FAILED for a, b in zip(live, candidate, strict=True)])
    axis.plot(live, at, "o", color=OLD, markersize=6, label="live", clip_on=False)
    axis.plot(candidate, at, "o", color=NEW, markersize=6, label="candidate", clip_on=False)
    for i, (a, b) in enumerate(zip(live, candidate, strict=True)):
        words = f"{b - a:+d}".replace("-", "−")
        axis.annotate(words, (max(a, b), i), (7, 0), textcoords="offset points", va="center", fontsize=8.5)
    axis.set_xlim(left=0, right=1.1 * max(1, live.max(), candidate.max()))
    axis.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axis.set_xlabel("held-out rows")
    style.legend(axis)
    return figure


@styled
def trace(steps: Sequence[Step]) -> Figure | None:
    """Draw the gradient's norm and the objective over the iterations, one λ after the other; None without a step."""
    parts = segments(steps)
    if not parts:
        return None
    figure, (above, below) = style.panels(4.6, rows=2, ratios=(3, 2))
    done = 0
    for i, part in enumerate(parts):
        at = [done + step.iteration for step in part]
        last = i == len(parts) - 1
        colour = INK if last and len(parts) > 1 else LAMBDAS[i % len(LAMBDAS)]
        name = f"λ {part[0].l2:g}" + (" again" if last and len(parts) > 1 else "")
        for axis, key in ((above, "gradient_norm"), (below, "objective")):
            axis.plot(at, [getattr(step, key) for step in part], "o-", color=colour, markersize=3, label=name)
        done = at[-1]
    style.log_axis(above, ticks=8)
    style.log_axis(below, (1, 2, 5), ticks=8)
    above.set_ylabel("gradient norm")
    below.set_ylabel("objective")
    below.set_xlabel("iteration, one problem after the other")
    style.legend(above)
    return figure


def segments(steps: Sequence[Step]) -> list[list[Step]]:
    """Divide a trace into its problems: with each the iterations begin again."""
    parts: list[list[Step]] = []
    for step in steps:
        if not parts or step.iteration <= parts[-1][-1].iteration:
            parts.append([])
        parts[-1].append(step)
    return parts
