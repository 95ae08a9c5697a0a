"""Two heads on the same rows: intervals, sign tests and lost classes, against loops, exact sums and draws."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from breadcrumbs.models.groups import Group
from breadcrumbs.training.metrics import evaluate
from breadcrumbs.training.pairs import CHANCE, LOST, Pairs, pairs

GROUPS: tuple[Group, ...] = ("many", "medium", "few", "few")
SEEDS = st.integers(0, 10_000)


def sample(seed: int, rows: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits of two heads that are right more often than not, and the labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, rows)
    live, candidate = (rng.normal(size=(rows, 4)) + 1.5 * np.eye(4)[labels] for _ in range(2))
    return live, candidate, labels


def drawn(seed: int, classes: int) -> Pairs:
    """Random counts of so many classes."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 40, classes)
    live = rng.binomial(rows, 0.7)
    return Pairs(rows, live, rng.binomial(rows - live, 0.5), rng.binomial(live, rng.choice([0.2, 0.9])))


@settings(max_examples=40)
@given(seed=SEEDS, rows=st.integers(1, 60))
def test_a_difference_is_that_of_the_recalls_within_its_interval(seed: int, rows: int) -> None:
    """Of the whole, each group and each class that has rows; no interval is without width."""
    live, candidate, labels = sample(seed, rows)
    before, after = (evaluate(logits, labels, GROUPS) for logits in (live, candidate))

    found = pairs(live, candidate, labels).difference(GROUPS)
    changes = pairs(live, candidate, labels).changes()

    assert set(found) == {"balanced", *(g for c, g in enumerate(GROUPS) if c in labels)}
    for name, one in found.items():
        assert one.value == pytest.approx(getattr(after, name) - getattr(before, name))
        assert -1 <= one.low <= one.value <= one.high <= 1
        assert one.low < one.high
    for one, old, new in zip(changes, before.recall, after.recall, strict=True):
        assert (one is None) == (old is None)
        if one is not None and old is not None and new is not None:
            assert one.value == pytest.approx(new - old)
            assert -1 <= one.low <= one.value <= one.high <= 1


@given(seed=SEEDS, rows=st.integers(2, 60), at=st.integers(1, 59))
def test_counts_of_two_parts_add_up(seed: int, rows: int, at: int) -> None:
    """Logits may be counted a part of the rows at a time."""
    live, candidate, labels = sample(seed, rows)
    candidate[0, 0] = np.nan
    first, second = slice(None, min(at, rows)), slice(min(at, rows), None)

    whole = pairs(live, candidate, labels)
    parts = pairs(live[first], candidate[first], labels[first]) + pairs(live[second], candidate[second], labels[second])

    for name in ("rows", "live", "gained", "lost", "candidate", "broken"):
        assert np.array_equal(getattr(parts, name), getattr(whole, name))
    assert whole.broken == 1


@pytest.mark.parametrize("gained", [-1, 0, 1])
def test_one_row_is_certain_of_nothing(gained: int) -> None:
    """Whatever became of it, the change of its class may be anything."""
    counts = Pairs(np.array([1]), np.array([int(gained < 0)]), np.array([int(gained > 0)]), np.array([int(gained < 0)]))

    (one,) = counts.changes()

    assert one is not None
    assert one.low <= min(0, gained)
    assert one.high >= max(0, gained)
    assert one.high - one.low >= 1


def test_few_heavy_rows_do_not_make_a_difference() -> None:
    """Three classes of one row that were gained outweigh a thousand classes of fifty, and yet are three rows."""
    rows = np.array([1] * 3 + [50] * 1000)
    none = np.zeros_like(rows)

    assert Pairs(rows, none, np.where(rows == 1, 1, 0), none).difference(["few"] * len(rows))["few"].low < 0


@pytest.mark.parametrize(("right", "rows"), [((0.6, 0.7), 25), ((0.6, 0.6), 5), ((0.85, 0.9), 50)])
def test_the_interval_covers_the_truth_as_often_as_it_says(right: tuple[float, float], rows: int) -> None:
    """Over many samples of known heads the 95 % interval holds the true difference in at least about 95 % of them."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        live, candidate = (rng.random((4, rows)) < p for p in right)
        counts = Pairs(np.full(4, rows), live.sum(1), (candidate & ~live).sum(1), (live & ~candidate).sum(1))
        difference = counts.difference(GROUPS)["balanced"]
        covered += difference.low <= right[1] - right[0] <= difference.high

    assert 0.925 <= covered / 400 <= 0.99


@settings(max_examples=40)
@given(seed=SEEDS, classes=st.integers(1, 30))
def test_a_sign_test_is_an_exact_sum(seed: int, classes: int) -> None:
    """Each class's chance is the share of all 2^m outcomes that lose as many rows or more."""
    counts = drawn(seed, classes)

    for chance, gained, lost in zip(counts.chances(), counts.gained, counts.lost, strict=True):
        m = int(gained + lost)
        assert chance == pytest.approx(sum(math.comb(m, k) for k in range(int(lost), m + 1)) / 2**m)


@settings(max_examples=60)
@given(seed=SEEDS, classes=st.integers(1, 30))
def test_lost_classes_are_those_of_a_loop(seed: int, classes: int) -> None:
    """Tarone's k is found by trying every one; a lost class has half its right rows less, and too many for chance."""
    counts = drawn(seed, classes)
    each = [tuple(int(v[c]) for v in (counts.live, counts.gained, counts.lost)) for c in range(classes)]

    def testable(k: int) -> int:
        return sum(
            gained + lost >= live - lost and 2.0 ** -(gained + lost) <= CHANCE / k for live, gained, lost in each
        )

    k = next(k for k in range(1, classes + 1) if testable(k) <= k)
    chance = counts.chances()
    fell = [lost > gained and lost - gained >= LOST * live for live, gained, lost in each]

    assert counts.lost_classes().tolist() == [c for c in range(classes) if fell[c] and chance[c] <= CHANCE / k]


@pytest.mark.parametrize(("live", "gained", "lost"), [(1, 0, 1), (4, 0, 4), (200, 10, 60)])
def test_what_chance_explains_or_is_less_than_half_is_not_lost(live: int, gained: int, lost: int) -> None:
    """One of one or four of four that became none, and 200 that became 150 for certain."""
    counts = Pairs(*(np.array([n]) for n in (2 * live, live, gained, lost)))

    assert counts.lost_classes().tolist() == []
