"""The sequential test: its errors over many trials, its intervals, and how soon it decides."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from breadcrumbs.serving.trials.evidence import (
    MOST,
    STAKES,
    Tally,
    fewest,
    interval,
    log_wealth,
    shows_less,
    shows_more,
)

COUNTS = st.integers(0, 500)


@given(st.lists(st.sampled_from((-1, 0, 1)), max_size=30), st.floats(-0.9, 0.9))
def test_the_wealth_is_that_of_a_gambler(labels: list[int], mean: float) -> None:
    """A slow version, one label after the other with each stake, comes to the same."""
    wealth = 0.0
    for share in STAKES:
        one = 1.0
        for label in labels:
            one *= 1 + share / (1 + mean) * (label - mean)
        wealth += one / len(STAKES)
    tally = Tally(labels.count(1), labels.count(0), labels.count(-1))

    assert log_wealth(tally, mean) == pytest.approx(math.log(wealth), abs=1e-6)


@pytest.mark.parametrize("alpha", [0.05, 0.2])
@pytest.mark.parametrize("shares", [(0.1, 0.8, 0.1), (0.5, 0.0, 0.5), (0.02, 0.96, 0.02), (0.3, 0.5, 0.2)])
def test_a_head_that_is_no_worse_is_stopped_no_more_often_than_said(
    alpha: float, shares: tuple[float, float, float]
) -> None:
    """Of 1,000 trials with a look after each of 300 labels at most α, within four standard errors."""
    random = np.random.default_rng(1)
    drawn = random.choice((1, 0, -1), size=(1000, 300), p=shares)
    gained, lost = (drawn == 1).cumsum(1), (drawn == -1).cumsum(1)
    stopped = 0
    for trial in range(1000):
        behind = np.maximum.accumulate(lost[trial] - gained[trial])
        looks = np.flatnonzero(lost[trial] - gained[trial] == behind)  # elsewhere the wealth is no new highest
        known = ((int(gained[trial, n]), int(n + 1), int(lost[trial, n])) for n in looks)
        stopped += any(shows_less(Tally(a, n - a - b, b), 0, alpha) for a, n, b in known)

    assert stopped <= 1000 * alpha + 4 * math.sqrt(1000 * alpha * (1 - alpha))


@given(COUNTS, COUNTS, COUNTS)
def test_an_interval_has_the_mean_in_it_and_grows_with_certainty(gained: int, even: int, lost: int) -> None:
    """The lower bound is below the observed mean, the upper one above; a smaller α gives a wider interval."""
    tally = Tally(gained, even, lost)
    low, high = interval(tally, 0.05)
    wide_low, wide_high = interval(tally, 0.001)

    assert -1 <= wide_low <= low <= high <= wide_high <= 1
    if tally.difference is not None:
        assert low <= tally.difference <= high


@given(COUNTS, COUNTS, COUNTS, st.floats(-0.9, 0.9))
def test_exchanged_heads_exchange_what_is_shown(gained: int, even: int, lost: int, mean: float) -> None:
    """What is shown of one head is shown of the other, mirrored; and never both."""
    tally = Tally(gained, even, lost)

    assert shows_more(tally, mean, 0.05) == shows_less(tally.mirrored, -mean, 0.05)
    assert not (shows_more(tally, mean, 0.05) and shows_less(tally, mean, 0.05))


@given(st.floats(-0.5, 0.5), st.sampled_from((0.5, 0.05, 0.001)))
def test_the_fewest_labels_are_the_first_that_decide(mean: float, alpha: float) -> None:
    """One fewer does not."""
    least = fewest(Tally(gained=1), mean, alpha)

    assert shows_more(Tally(gained=least), mean, alpha)
    assert not shows_more(Tally(gained=least - 1), mean, alpha)


def test_what_never_decides_takes_the_most() -> None:
    """Labels that change nothing show nothing."""
    assert fewest(Tally(even=1), 0, 0.05) == MOST
    assert log_wealth(Tally(), 0.3) == pytest.approx(0)
    assert not shows_more(Tally(even=10**6), 0, 0.05)
