"""How far the probabilities of a head hold: reliability curve, calibration error and log loss, by group.

Rows are weighted so that their classes are as frequent as the prior that is meant says. A group's rows are those that
are *answered* with one of its classes. Of the rows that *are* of its classes not even the true posterior would be
right: whoever picks rows by their truth knows more than the image shows.

The calibration error is Σ_b ω_b |p_b − r_b|, with p_b the mean probability of the top class in bin b, r_b the share
that is right, and ω_b the bin's weight. All bins have the same weight: of bins of equal width, some are nearly
empty.

Intervals are percentiles of a bootstrap that draws rows within their class, the same rows for both heads. In resamples
the error is larger, as noise adds to every bin, so its interval extends further to the bad side.

It knows nothing of how a head is fitted or a temperature chosen.

Letters: N rows, C classes, B bins, K resamples, S statistics.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.calibration import Bin
from breadcrumbs.models.groups import GROUPS, Group
from breadcrumbs.models.head import softmax
from breadcrumbs.training.metrics import row_draws

BINS, BIN_ROWS = 15, 20  # bins at most, and rows in each at least, if there are so many
LEAST = 1e-30  # of a likelihood, so that its logarithm is finite

Doubles = NDArray[np.float64]
Integers = NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Surety:
    """What one head says of each row (N,): the probability of its top class, and the likelihood of the true one."""

    top: Doubles
    likelihood: Doubles


@dataclass(frozen=True, eq=False)
class Shown:
    """Some rows under one head: the bin of each (n,), its weighted gap p − right and log loss (n,), and the curve."""

    bins: Integers
    gap: Doubles
    loss: Doubles
    curve: list[dict[str, float]]


def row_weights(labels: Integers, prior: Doubles) -> Doubles:
    """Return ω (N,) of sum 1 by which the classes of the rows (N,) are as frequent as a prior π (C,) says."""
    counts = np.bincount(labels, minlength=len(prior))
    weights = prior[labels] / counts[labels]
    return np.asarray(weights / weights.sum())


def compared(
    before: Floats, after: Floats, labels: Integers, class_groups: Sequence[Group], prior: Doubles, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Measure the probabilities of two heads that give the same answers.

    Args:
        before, after: logits (N, C) of the two.
        labels: (N,), N at least 1.
        class_groups: of each class (C,).
        prior: π (C,), how frequent the classes are meant to be.
        seed: of the bootstrap.

    Returns:
        Of `all` and each group that is answered: `rows`, `before`, `after` and `change`, as
        `models.calibration.CalibratedGroup` has them.
    """
    answered = np.array(class_groups)[after.argmax(1)]
    right = after.argmax(1) == labels
    weights = row_weights(labels, prior)
    heads = [_surety(logits, labels) for logits in (before, after)]
    masks = {"all": np.ones(len(labels), bool), **{str(name): answered == name for name in GROUPS}}
    masks = {name: mask for name, mask in masks.items() if mask.any()}
    shown = {name: [_shown(head, right, weights, mask) for head in heads] for name, mask in masks.items()}
    drawn = _resampled(shown, masks, weights, labels, seed)
    return {name: _told(shown[name], weights[mask], drawn[name]) for name, mask in masks.items()}


def curves(logits: Floats, labels: Integers, class_groups: Sequence[Group]) -> dict[str, list[Bin]]:
    """Return the reliability curve of logits (N, C) on rows as they are (N,): of all, and of each group answered."""
    answered = np.array(class_groups)[logits.argmax(1)]
    right, weights = logits.argmax(1) == labels, np.full(len(labels), 1 / max(len(labels), 1))
    head = _surety(logits, labels)
    masks = {"all": np.ones(len(labels), bool), **{str(name): answered == name for name in GROUPS}}
    shown = {name: _shown(head, right, weights, mask).curve for name, mask in masks.items() if mask.any()}
    return {name: [Bin(**one) for one in curve] for name, curve in shown.items()}


def _surety(logits: Floats, labels: Integers) -> Surety:
    top, likelihood = np.empty(len(labels)), np.empty(len(labels))
    for rows in np.array_split(np.arange(len(labels)), 1 + logits.size // 1_000_000):
        probabilities = softmax(logits[rows])
        top[rows] = probabilities.max(1)
        likelihood[rows] = np.take_along_axis(probabilities, labels[rows, None], 1)[:, 0].clip(LEAST)
    return Surety(top, likelihood)


def _shown(head: Surety, right: NDArray[np.bool_], weights: Doubles, mask: NDArray[np.bool_]) -> Shown:
    """One head on some rows, which are sorted by its probabilities into bins of equal weight."""
    top, hit, own = head.top[mask], right[mask].astype(np.float64), weights[mask]
    count = min(BINS, max(1, len(top) // BIN_ROWS))
    order = top.argsort(kind="stable")
    middle = own[order].cumsum() - own[order] / 2  # of each row, on the way from 0 to the weight of all
    bins = np.empty(len(top), np.int64)
    bins[order] = np.minimum(count * middle / own.sum(), count - 1).astype(np.int64)
    mass, probability, share = (np.bincount(bins, own * value, count) for value in (np.ones_like(top), top, hit))
    curve = [
        {"probability": float(p / m), "right": float(r / m)}
        for m, p, r in zip(mass, probability, share, strict=True)
        if m > 0
    ]
    return Shown(bins, own * (top - hit), -own * np.log(head.likelihood[mask]), curve)


def _errors(gaps: Doubles, mass: Doubles | float) -> Doubles:
    """The calibration errors (K,) from weighted gaps by bin (K, B)."""
    return np.asarray(np.abs(gaps).sum(-1) / mass)


def _by_bin(own: Shown) -> Doubles:
    """The weighted gaps by bin (B,)."""
    return np.asarray(np.bincount(own.bins, own.gap), np.float64)


def _resampled(
    shown: dict[str, list[Shown]], masks: dict[str, NDArray[np.bool_]], weights: Doubles, labels: Integers, seed: int
) -> dict[str, list[Doubles]]:
    """Calibration error and log loss (K,) of both heads in K resamples, by group.

    Each is a sum over rows, so all sums of all resamples are one product: how often each resample has each row (K, N),
    times what each row adds to each sum (N, S).
    """
    width = BINS + 2  # the gaps of the bins, the log loss, the weight
    adds = np.zeros((len(labels), 2 * len(shown) * width), np.float32)
    places = [(name, head) for name in shown for head in range(2)]
    for first, (name, head) in zip(range(0, adds.shape[1], width), places, strict=True):
        rows, own = np.flatnonzero(masks[name]), shown[name][head]
        adds[rows, first + own.bins] = own.gap
        adds[rows, first + BINS] = own.loss
        adds[rows, first + BINS + 1] = weights[rows]
    sums = np.concatenate([_times(chosen, len(labels)) @ adds for chosen in row_draws(labels, seed)])
    found: dict[str, list[Doubles]] = {name: [] for name in shown}
    for first, (name, _) in zip(range(0, adds.shape[1], width), places, strict=True):
        own_sums = sums[:, first : first + width].astype(np.float64)
        mass = np.maximum(own_sums[:, BINS + 1], LEAST)  # a resample may have no row of a group
        found[name] += [_errors(own_sums[:, :BINS], mass), own_sums[:, BINS] / mass]
    return found


def _times(chosen: Integers, rows: int) -> NDArray[np.float32]:
    """How often each resample has each row (K, N), from the rows that they have (K, N)."""
    flat = (chosen + rows * np.arange(len(chosen))[:, None]).ravel()
    return np.bincount(flat, minlength=len(chosen) * rows).reshape(len(chosen), rows).astype(np.float32)


def _told(heads: Sequence[Shown], weights: Doubles, drawn: Sequence[Doubles]) -> dict[str, Any]:
    """A group as the report tells it."""
    mass = float(weights.sum())
    values = []
    for own in heads:
        values += [float(_errors(_by_bin(own), mass)), float(own.loss.sum() / mass)]
    both = [_interval(value, draws) for value, draws in zip(values, drawn, strict=True)]
    change = [_interval(values[k + 2] - values[k], drawn[k + 2] - drawn[k]) for k in range(2)]
    told = [{"ece": both[2 * k], "nll": both[2 * k + 1], "curve": own.curve} for k, own in enumerate(heads)]
    return {
        "rows": len(weights),
        "before": told[0],
        "after": told[1],
        "change": {"ece": change[0], "nll": change[1]},
    }


def _interval(value: float, draws: Doubles) -> dict[str, float]:
    low, high = np.quantile(draws, [0.025, 0.975])
    return {"value": value, "low": float(low), "high": float(high)}
