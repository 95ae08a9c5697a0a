"""How good a head is, group by group, and whether another is better: on logits and labels, in numpy.

It knows nothing of models, files or torch; the groups are `models.groups`'.

Letters: N rows, C classes.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.groups import GROUPS, Group

BINS = 15  # of the expected calibration error
DRAWS = 1000  # of the bootstrap

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]


@dataclass(frozen=True)
class Metrics:
    """How good one head is on one set. Shares are 0 … 1; a group without rows is None.

    Attributes:
        all: share of rows whose top class is right.
        balanced: mean over the classes of their recall.
        many, medium, few: the same over the classes of a group.
        harmonic: harmonic mean of the classes' recalls.
        worst: the lowest recall of a class.
        ece: expected calibration error of the top class, 15 bins.
        nll: mean negative log-likelihood.
        recall: of each class, None where the set has no row of it.
    """

    all: float
    balanced: float
    many: float | None
    medium: float | None
    few: float | None
    harmonic: float
    worst: float
    ece: float
    nll: float
    recall: tuple[float | None, ...]

    def as_dict(self) -> dict[str, Any]:
        """The metrics as JSON's own types."""
        return asdict(self)


def evaluate(logits: Floats, labels: Integers, class_groups: Sequence[Group]) -> Metrics:
    """Measure logits (N, C) against labels (N,), with each class's group (C,)."""
    right = (logits.argmax(1) == labels).astype(np.float64)
    probabilities = softmax(logits)
    recall = _recall(right, labels, logits.shape[1])
    seen = recall[~np.isnan(recall)]
    by_group = {g: _group_recall(recall, class_groups, g) for g in GROUPS}
    return Metrics(
        all=float(right.mean()),
        balanced=float(seen.mean()),
        many=by_group["many"],
        medium=by_group["medium"],
        few=by_group["few"],
        harmonic=float(len(seen) / (1 / seen).sum()) if seen.all() else 0.0,
        worst=float(seen.min()),
        ece=_calibration_error(probabilities.max(1), right),
        nll=float(-np.log(probabilities[np.arange(len(labels)), labels].clip(1e-30)).mean()),
        recall=tuple(None if np.isnan(r) else float(r) for r in recall),
    )


def softmax(logits: Floats) -> NDArray[np.float64]:
    """Return the probabilities (N, C) of logits (N, C), in float64; NaN for a row whose logits are not finite."""
    with np.errstate(invalid="ignore"):
        shifted = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
        return np.asarray(shifted / shifted.sum(1, keepdims=True))


def _recall(right: Floats, labels: Integers, classes: int) -> NDArray[np.float64]:
    rows = np.bincount(labels, minlength=classes).astype(np.float64)
    rows[rows == 0] = np.nan
    return np.bincount(labels, weights=right, minlength=classes) / rows


def _group_recall(recall: NDArray[np.float64], class_groups: Sequence[Group], group: Group) -> float | None:
    own = np.array([r for r, g in zip(recall, class_groups, strict=True) if g == group and not np.isnan(r)])
    return float(own.mean()) if len(own) else None


def _calibration_error(confidence: Floats, right: Floats) -> float:
    if not np.isfinite(confidence).all():
        return float("nan")
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gap = np.bincount(bins, weights=confidence - right, minlength=BINS)
    return float(np.abs(gap).sum() / len(right))


@dataclass(frozen=True)
class Difference:
    """Candidate minus live, on the same rows, with a 95 % interval of the paired, stratified bootstrap."""

    value: float
    low: float
    high: float


def compare(
    live: Floats, candidate: Floats, labels: Integers, class_groups: Sequence[Group], seed: int = 0
) -> dict[str, Difference]:
    """Compare two heads' logits (N, C) on the same labels (N,).

    Returns:
        `balanced` and each group that has rows: the difference of mean recall. Rows are drawn within their class, so
        the interval speaks of other images of the same classes.
    """
    classes = candidate.shape[1]
    change = (candidate.argmax(1) == labels).astype(np.float64) - (live.argmax(1) == labels)
    value = _recall(change, labels, classes)
    draws = _bootstrap(change, labels, classes, seed)
    found: dict[str, Difference] = {}
    for name in ("balanced", *GROUPS):
        member = np.array([name in ("balanced", g) for g in class_groups]) & ~np.isnan(value)
        if member.any():
            low, high = np.quantile(draws[:, member].mean(1), [0.025, 0.975])
            found[name] = Difference(float(value[member].mean()), float(low), float(high))
    return found


def _bootstrap(change: NDArray[np.float64], labels: Integers, classes: int, seed: int) -> NDArray[np.float64]:
    """Mean change of each class in DRAWS resamples (DRAWS, C): a change is −1, 0 or 1, so its counts are enough."""
    rng = np.random.default_rng(seed)
    means = np.full((DRAWS, classes), np.nan)
    for c in np.unique(labels):
        own = change[labels == c]
        share = np.array([(own == v).mean() for v in (-1, 0, 1)])
        drawn = rng.multinomial(len(own), share / share.sum(), DRAWS)
        means[:, c] = (drawn[:, 2] - drawn[:, 0]) / len(own)
    return means
