"""Metrics of a head by group and their confidence intervals: logits and labels, in numpy.

It knows nothing of models, files or torch; the groups are `models.groups`', two heads on the same rows
are `training.pairs`'.

Letters: N rows, C classes, K resamples of the rows.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.groups import GROUPS, Group
from breadcrumbs.models.head import softmax

BINS = 15  # of the expected calibration error
DRAWS = 1000  # of the bootstrap
Z = 1.959964  # a normal distribution has 95 % within ± Z
AT_ONCE = 1_000_000  # numbers in memory at the same time while rows are resampled or turned into probabilities

Integers = NDArray[np.integer]


@dataclass(frozen=True)
class Metrics:
    """The metrics of one head on one set. Shares are 0 … 1; None means that a group has no rows.

    Attributes:
        all: share of rows whose top class is right.
        balanced: mean over the classes of their recall.
        many, medium, few: the same over the classes of a group.
        harmonic: harmonic mean of the classes' recalls.
        worst: the lowest recall of a class.
        macro_f1: mean over the classes that have rows of 2·hits / (rows of the class + rows given the class).
        ece: expected calibration error of the top class, 15 bins.
        nll: mean negative log-likelihood.
        recall: of each class; None means that the set has no row of it.
        precision: of each class, the share of the rows predicted as it that are of it; None means that there are none.
    """

    all: float
    balanced: float
    many: float | None
    medium: float | None
    few: float | None
    harmonic: float
    worst: float
    macro_f1: float
    ece: float
    nll: float
    recall: tuple[float | None, ...]
    precision: tuple[float | None, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the metrics as types of JSON."""
        return asdict(self)


def evaluate(logits: Floats, labels: Integers, class_groups: Sequence[Group]) -> Metrics:
    """Measure logits (N, C) against labels (N,), with each class's group (C,)."""
    outcome = _outcome(logits, labels)
    counts = _counts(outcome)
    found: dict[str, Any] = {name: float(values[0]) for name, values in _summary(counts, class_groups).items()}
    found |= {group: None for group in GROUPS if group not in found}
    recall, precision = (_of_classes(counts.hits[0], rows) for rows in (counts.rows, counts.given[0]))
    return Metrics(
        **found, nll=float(-np.log(outcome.likelihood).mean()), recall=recall, precision=precision,
    )  # fmt: skip


def _of_classes(hits: Floats, rows: Integers) -> tuple[float | None, ...]:
    """Which share of each class's rows (C,) is right (C,)."""
    return tuple(float(right) / int(n) if n else None for right, n in zip(hits, rows, strict=True))


@dataclass(frozen=True)
class Interval:
    """A value, and the two ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class _Counts:
    """Sums of K resamples: rows of each class (C,), right ones (K, C), predicted as it (K, C), gap by bin (K, BINS)."""

    rows: Integers
    hits: Integers
    given: Integers
    gap: Floats


@dataclass(frozen=True, eq=False)
class Resamples:
    """The sums that the metrics need, of the rows themselves (K = 1) and of DRAWS resamples of them."""

    counts: _Counts
    draws: _Counts

    def intervals(self, class_groups: Sequence[Group]) -> dict[str, Interval]:
        """Return the interval of each metric, with each class's group (C,); a group without rows is left out."""
        values, draws = _summary(self.counts, class_groups), _summary(self.draws, class_groups)
        shares = _shares(self.counts.rows, class_groups)
        return {
            name: wilson(float(value[0]), shares[name]) if name in shares else _interval(float(value[0]), draws[name])
            for name, value in values.items()
        }


def intervals(logits: Floats, labels: Integers, class_groups: Sequence[Group], seed: int = 0) -> dict[str, Interval]:
    """Measure logits (N, C) against labels (N,), and return every metric except the likelihood with its interval.

    An interval is about other test images of the same classes, for the same head. That of a share or a mean recall is
    Wilson's, so one row is not certain of anything. The others are percentiles of a bootstrap that draws rows within
    their class; a class whose rows are all right, or all wrong, adds no width to them. Two of them are biased: in
    resamples the recall of the worst class is more often lower than higher, and calibration is worse. Their intervals
    extend further to the bad side and may not contain the value.

    Returns:
        all, balanced, many, medium, few, harmonic, worst, macro_f1, ece; a group without rows is left out.
    """
    return resample(logits, labels, seed).intervals(class_groups)


def resample(logits: Floats, labels: Integers, seed: int = 0) -> Resamples:
    """Draw DRAWS resamples of the rows within their classes, to be used for any grouping of the classes."""
    outcome = _outcome(logits, labels)
    parts = [_counts(outcome, places) for places in row_draws(labels, seed)]
    hits, given, gap = (np.concatenate([getattr(p, name) for p in parts]) for name in ("hits", "given", "gap"))
    return Resamples(_counts(outcome), _Counts(parts[0].rows, hits, given, gap))


@dataclass(frozen=True, eq=False)
class _Outcome:
    """The result for each row (N,): predicted class, bin of its confidence, confidence − right, likelihood."""

    labels: Integers
    given: Integers
    bins: Integers
    gap: Floats
    likelihood: Floats
    classes: int


def _outcome(logits: Floats, labels: Integers) -> _Outcome:
    given = logits.argmax(1)
    confidence, likelihood = np.empty(len(labels)), np.empty(len(labels))
    step = max(1, AT_ONCE // logits.shape[1])
    for rows in (slice(start, start + step) for start in range(0, len(labels), step)):
        probabilities = softmax(logits[rows])
        confidence[rows] = probabilities.max(1)
        likelihood[rows] = np.take_along_axis(probabilities, labels[rows, None], 1)[:, 0].clip(1e-30)
    bins = np.minimum(np.nan_to_num(confidence) * BINS, BINS - 1).astype(np.int64)
    return _Outcome(labels, given, bins, confidence - (given == labels), likelihood, logits.shape[1])


def row_draws(labels: Integers, seed: int) -> Iterator[Integers]:
    """Yield row numbers (k, N), k resamples at a time, DRAWS in all: each row is replaced by one of its class."""
    rng = np.random.default_rng(seed)
    order = labels.argsort(kind="stable")
    counts = np.bincount(labels)
    size, first = counts[labels], (counts.cumsum() - counts)[labels]
    step = max(1, AT_ONCE // len(labels))
    for done in range(0, DRAWS, step):
        shape = (min(step, DRAWS - done), len(labels))
        yield order[first + (rng.random(shape) * size).astype(np.int64)]


def _counts(outcome: _Outcome, places: Integers | None = None) -> _Counts:
    """Sum up the rows at places (K, N); None means all rows as they are, K = 1."""
    at = np.arange(len(outcome.labels))[None] if places is None else places
    resamples, classes = len(at), outcome.classes
    given = outcome.given[at]
    right = given == outcome.labels  # a resampled row has the label of the row that it replaces

    def sums(index: Integers, size: int, weights: Floats | None = None) -> NDArray[Any]:
        flat = (index + size * np.arange(resamples)[:, None]).ravel()
        return np.bincount(flat, weights, minlength=resamples * size).reshape(resamples, size)

    labels = np.broadcast_to(outcome.labels, at.shape)
    hits = sums(labels, classes, right.ravel().astype(np.float64))
    gap = sums(outcome.bins[at], BINS, outcome.gap[at].ravel())
    return _Counts(np.bincount(outcome.labels, minlength=classes), hits, sums(given, classes), gap)


def _summary(counts: _Counts, class_groups: Sequence[Group]) -> dict[str, NDArray[np.float64]]:
    """Each metric of K resamples (K,)."""
    seen, rows = counts.rows > 0, counts.rows.sum()
    recall = counts.hits[:, seen] / counts.rows[seen]
    found = {
        "all": counts.hits.sum(1) / rows,
        "balanced": recall.mean(1),
        "worst": recall.min(1),
        "macro_f1": (2 * counts.hits / np.maximum(counts.rows + counts.given, 1))[:, seen].mean(1),
        "ece": np.abs(counts.gap).sum(1) / rows,
    }
    with np.errstate(divide="ignore"):  # a recall of 0 makes the harmonic mean 0
        found["harmonic"] = recall.shape[1] / (1 / recall).sum(1)
    for group in GROUPS:
        own = np.array([g == group for g in class_groups])[seen]
        if own.any():
            found[group] = recall[:, own].mean(1)
    return found


def _shares(rows: Integers, class_groups: Sequence[Group]) -> dict[str, float]:
    """The rows behind each share, from those of each class (C,).

    A mean of K recalls varies as one recall of K² / Σ_y (1/n_y) rows would, and less if the classes' recalls differ.
    """
    group, seen = np.array(class_groups), rows > 0
    members = {"balanced": seen} | {str(name): seen & (group == name) for name in GROUPS}
    means = {name: float(own.sum() ** 2 / (1 / rows[own]).sum()) for name, own in members.items() if own.any()}
    return {"all": float(rows.sum()), **means}


def as_json(found: dict[str, Interval]) -> dict[str, dict[str, float]]:
    """Return intervals as JSON's own types."""
    return {name: asdict(interval) for name, interval in found.items()}


def wilson(share: float, rows: float) -> Interval:
    """Return a share 0 … 1 of so many rows, more than 0, with its score interval (Wilson 1927)."""
    centre = (share + Z**2 / (2 * rows)) / (1 + Z**2 / rows)
    width = Z * math.sqrt(share * (1 - share) / rows + Z**2 / (4 * rows**2)) / (1 + Z**2 / rows)
    return Interval(share, min(share, max(0.0, centre - width)), max(share, min(1.0, centre + width)))


def _interval(value: float, draws: NDArray[np.float64]) -> Interval:
    low, high = np.quantile(draws, [0.025, 0.975])
    return Interval(value, float(low), float(high))
