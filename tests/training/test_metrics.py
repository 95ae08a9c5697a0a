"""Metrics and comparisons against loops that anybody can follow."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from breadcrumbs.models.groups import Group
from breadcrumbs.training.metrics import Z, evaluate, intervals, resample, wilson

GROUPS: tuple[Group, ...] = ("many", "medium", "few", "few")


def sample(seed: int, rows: int = 60, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are right more often than not, and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    return rng.normal(size=(rows, classes)) + 1.5 * np.eye(classes)[labels], labels


def logits_for(predicted: list[int], classes: int, strength: float = 5) -> np.ndarray:
    """Logits whose top classes are the ones named."""
    return strength * np.eye(classes)[predicted]


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), rows=st.integers(1, 40))
def test_metrics_are_those_of_loops(seed: int, rows: int) -> None:
    """Every metric equals its definition, written as a loop over rows and classes."""
    logits, labels = sample(seed, rows)
    found = evaluate(logits, labels, GROUPS)

    right: dict[int, list[bool]] = {}
    losses, bins = [], [[0.0, 0.0, 0] for _ in range(15)]
    for row, label in zip(logits, labels, strict=True):
        top = max(range(4), key=lambda c: row[c])
        right.setdefault(int(label), []).append(top == label)
        total = sum(math.exp(v) for v in row)
        losses.append(-math.log(math.exp(row[label]) / total))
        confidence = math.exp(row[top]) / total
        own = bins[min(int(confidence * 15), 14)]
        own[0] += confidence
        own[1] += top == label
        own[2] += 1
    recall = {c: sum(r) / len(r) for c, r in right.items()}
    few = [recall[c] for c in (2, 3) if c in recall]
    given = [max(range(4), key=lambda c: row[c]) for row in logits]
    f1 = [2 * sum(right[c]) / (len(right[c]) + given.count(c)) for c in right]

    assert found.all == pytest.approx(sum(sum(r) for r in right.values()) / rows)
    assert found.balanced == pytest.approx(sum(recall.values()) / len(recall))
    assert found.recall == tuple(pytest.approx(recall[c]) if c in recall else None for c in range(4))
    assert found.many == (pytest.approx(recall[0]) if 0 in recall else None)
    assert found.medium == (pytest.approx(recall[1]) if 1 in recall else None)
    assert found.few == (pytest.approx(sum(few) / len(few)) if few else None)
    assert found.worst == pytest.approx(min(recall.values()))
    harmonic = 0 if 0 in recall.values() else len(recall) / sum(1 / r for r in recall.values())
    assert found.harmonic == pytest.approx(harmonic)
    assert found.macro_f1 == pytest.approx(sum(f1) / len(f1))
    assert found.nll == pytest.approx(sum(losses) / rows)
    assert found.ece == pytest.approx(sum(n / rows * abs(c / n - r / n) for c, r, n in bins if n))


def test_calibration_error_by_hand() -> None:
    """Four rows of confidence 0.9, three right, and two of 0.6, both right: (4·0.15 + 2·0.4) / 6."""
    sure, unsure = [math.log(0.9), math.log(0.1)], [math.log(0.6), math.log(0.4)]
    logits = np.array([sure, sure, sure, sure, unsure, unsure])

    found = evaluate(logits, np.array([0, 0, 0, 1, 0, 0]), ("many", "few"))

    assert found.ece == pytest.approx((4 * 0.15 + 2 * 0.4) / 6)


def test_a_confidence_of_one_has_a_bin() -> None:
    """Full confidence falls into the last bin: always right is no error, always wrong is all of it."""
    logits = logits_for([0, 0], 2, strength=1e4)

    assert evaluate(logits, np.array([0, 0]), ("many", "few")).ece == pytest.approx(0)
    assert evaluate(logits, np.array([1, 1]), ("many", "few")).ece == pytest.approx(1)


def test_a_group_without_rows_is_none() -> None:
    """A group that no row is of has no recall, as JSON too; nor has a class without rows."""
    found = evaluate(logits_for([0, 0], 4), np.array([0, 0]), GROUPS)

    assert (found.many, found.medium, found.few) == (1, None, None)
    assert found.recall == (1, None, None, None)
    assert found.as_dict()["few"] is None
    assert found.balanced == found.harmonic == found.worst == 1


def test_groups_weigh_classes_alike() -> None:
    """A group's recall is the mean over its classes, not over their rows."""
    labels = np.array([2] * 9 + [3])

    assert evaluate(logits_for([2] * 10, 4), labels, GROUPS).few == 0.5


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_measured_as_such(bad: float) -> None:
    """Likelihood and calibration of NaN or infinity are NaN, and nothing is raised."""
    logits = logits_for([0, 1, 2, 3], 4)
    logits[1, 2] = bad

    found = evaluate(logits, np.arange(4), GROUPS)

    assert math.isnan(found.nll)
    assert math.isnan(found.ece)


def test_a_likelihood_of_zero_is_bounded() -> None:
    """A class given no probability at all counts as 1e-30, so that one row does not make the mean infinite."""
    assert evaluate(logits_for([0], 2, 1e9), np.array([1]), ("many", "few")).nll == pytest.approx(30 * math.log(10))


def test_macro_f1_is_scikit_learns() -> None:
    """Over the classes that have rows, the mean F1 is what scikit-learn says."""
    logits, labels = sample(3)
    labels[labels == 2] = 1

    expected = f1_score(labels, logits.argmax(1), labels=[0, 1, 3], average="macro")

    assert evaluate(logits, labels, GROUPS).macro_f1 == pytest.approx(expected)


METRICS = {"all", "balanced", "many", "medium", "few", "harmonic", "worst", "macro_f1", "ece"}


def test_every_metric_of_an_interval_is_the_one_measured() -> None:
    """The values are those of `evaluate`, each interval has width, and most hold their value."""
    logits, labels = sample(0, rows=400)
    measured = evaluate(logits, labels, GROUPS)

    found = intervals(logits, labels, GROUPS)

    assert set(found) == METRICS
    for name, interval in found.items():
        assert interval.value == getattr(measured, name)
        assert interval.low < interval.high
        assert interval.low <= interval.value <= interval.high or name in {"worst", "ece"}


def test_intervals_are_those_of_a_loop_that_draws_rows() -> None:
    """Drawing whole rows again within each class and measuring each draw by `evaluate` gives nearly the same limits.

    Those of shares and mean recalls are Wilson's, which are no draws.
    """
    logits, labels = sample(5, rows=120)
    rng = np.random.default_rng(0)
    own = [np.flatnonzero(labels == c) for c in range(4)]
    draws = []
    for _ in range(1000):
        rows = np.concatenate([rng.choice(places, len(places)) for places in own])
        draws.append(evaluate(logits[rows], labels[rows], GROUPS).as_dict())

    found = intervals(logits, labels, GROUPS, seed=1)

    for name in METRICS - {"all", "balanced", "many", "medium", "few"}:
        low, high = np.quantile([draw[name] for draw in draws], [0.025, 0.975])
        assert found[name].low == pytest.approx(low, abs=0.035)  # a row of a class is 1/30
        assert found[name].high == pytest.approx(high, abs=0.035)


def test_rows_of_an_interval_are_drawn_within_their_class() -> None:
    """A class that is all right and one that is all wrong give the harmonic mean an interval of no width."""
    found = intervals(logits_for([0, 0, 0, 2], 4), np.array([0, 0, 1, 2]), GROUPS)

    assert found["medium"].value == found["harmonic"].value == found["harmonic"].high == found["worst"].high == 0


@given(rows=st.integers(1, 200), hits=st.integers(0, 200))
def test_a_shares_interval_is_wilsons(rows: int, hits: int) -> None:
    """Its two ends are the shares q at which the share seen is Z standard errors of q away; of one row it is wide."""
    share = min(hits, rows) / rows

    found = wilson(share, rows)

    for end in (found.low, found.high):
        assert abs(share - end) == pytest.approx(Z * math.sqrt(end * (1 - end) / rows), abs=1e-6)
    assert 0 <= found.low <= share <= found.high <= 1
    assert wilson(1, 1).low < 0.25


def test_a_group_of_one_class_has_that_classs_interval() -> None:
    """One of two classes has that of 4 / (1/n + 1/n′) rows."""
    logits, labels = sample(0, 200)
    labels[:20] = 1
    rows = np.bincount(labels, minlength=4)

    found = intervals(logits, labels, GROUPS)

    assert found["many"].low == pytest.approx(wilson(found["many"].value, rows[0]).low)
    assert found["few"].low == pytest.approx(wilson(found["few"].value, 4 / (1 / rows[2] + 1 / rows[3])).low)


def test_a_group_or_class_without_rows_has_no_interval() -> None:
    """A group that no row is of is left out; a class without rows changes nothing."""
    found = intervals(logits_for([0, 1], 4), np.array([0, 0]), GROUPS)

    assert set(found) == METRICS - {"medium", "few"}
    assert found["balanced"].value == 0.5


def test_one_drawing_serves_both_groupings() -> None:
    """Grouping the same resamples otherwise gives what drawing again for the other groups gives."""
    logits, labels = sample(7)
    other: tuple[Group, ...] = ("few", "few", "many", "medium")

    found = resample(logits, labels, 3)

    assert found.intervals(GROUPS) == intervals(logits, labels, GROUPS, 3)
    assert found.intervals(other) == intervals(logits, labels, other, 3)


def test_large_sets_are_drawn_in_parts() -> None:
    """Where not all resamples fit at once there are still a thousand, each whole and of the same rows a class."""
    logits, labels = sample(2, rows=3001)

    draws = resample(logits, labels).draws

    assert draws.hits.shape == draws.given.shape == (1000, 4)
    assert (draws.given.sum(1) == 3001).all()
    assert (draws.hits <= np.bincount(labels)).all()
    assert len(np.unique(draws.given, axis=0)) > 900


def test_calibration_that_is_not_finite_has_no_interval() -> None:
    """One row of NaN makes the calibration error and its limits NaN, and nothing else."""
    logits, labels = sample(1)
    logits[0, 0] = np.nan

    found = intervals(logits, labels, GROUPS)

    assert all(math.isnan(v) for v in (found["ece"].value, found["ece"].low, found["ece"].high))
    assert math.isfinite(found["macro_f1"].low)


def test_an_accuracys_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Over many samples of a head whose accuracy is known the interval holds it in about 95 % of them."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 40)
    covered = 0
    for _ in range(150):
        given = np.where(rng.random(len(labels)) < 0.7, labels, (labels + 1) % 4)
        interval = intervals(logits_for(given.tolist(), 4), labels, GROUPS)["balanced"]
        covered += interval.low <= 0.7 <= interval.high

    assert 0.9 <= covered / 150 <= 0.99
