"""The sequential test of a trial: evidence that counts whenever one looks, and however often.

The mathematics. Of each label let d be 1 where only the head on trial is right, −1 where only the other is, else 0. The
hypothesis is that the mean of d, given all labels before, is at most m. A gambler bets on the contrary: from a wealth
of 1, each label multiplies it by

    1 + s (d − m)      with 0 ≤ s < 1 / (1 + m), so that it stays positive

Under the hypothesis no such factor has a mean over 1, so the wealth is a nonnegative supermartingale, and by Ville's
inequality it ever reaches 1/α with a probability of at most α. The best stake s is not known, so the wealth is divided
evenly among `STAKES`, and their mean is a supermartingale too. The order of labels does not matter: every server that
counts the same labels comes to the same wealth. (Waudby-Smith and Ramdas, Estimating means of bounded random variables
by betting, 2024.)

It knows nothing of heads, labels or stores.
"""

import math
from dataclasses import dataclass

import numpy as np

STAKES = (np.arange(64) + 0.5) / 64
"""Shares of the largest stake, 1 / (1 + m)."""
MOST = 10**9
"""Labels that are looked at for how many a decision takes at least."""
STEPS = 40
"""Halvings of an interval's bound: to within 2e-12."""


@dataclass(frozen=True)
class Tally:
    """What paired labels came to.

    Attributes:
        gained: labels that only the head on trial has right.
        even: those that both have right, or none.
        lost: those that only the other head has right.
    """

    gained: int = 0
    even: int = 0
    lost: int = 0

    @property
    def count(self) -> int:
        """All labels."""
        return self.gained + self.even + self.lost

    @property
    def difference(self) -> float | None:
        """Mean of d: share of right answers gained. None means that there is no label."""
        return (self.gained - self.lost) / self.count if self.count else None

    @property
    def mirrored(self) -> "Tally":
        """The same labels with the heads exchanged."""
        return Tally(self.lost, self.even, self.gained)

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.gained + other.gained, self.even + other.even, self.lost + other.lost)


def log_wealth(tally: Tally, mean: float) -> float:
    """Return the logarithm of the wealth of a gambler who bets that the mean of d is over `mean`, −1 < `mean` < 1."""
    stakes = STAKES / (1 + mean)
    # log Π (1 + s (d − m)): labels of one d have one factor
    logs = (
        tally.gained * np.log1p(stakes * (1 - mean))
        + tally.even * np.log1p(-stakes * mean)
        + tally.lost * np.log1p(-STAKES)  # s (1 + m) is the share itself
    )
    largest = logs.max()
    return float(largest + np.log(np.exp(logs - largest).mean()))


def shows_more(tally: Tally, mean: float, alpha: float) -> bool:
    """Whether it is shown, at level `alpha`, that the mean of d is over `mean`."""
    return log_wealth(tally, mean) >= -math.log(alpha)


def shows_less(tally: Tally, mean: float, alpha: float) -> bool:
    """Whether it is shown, at level `alpha`, that the mean of d is below `mean`."""
    return shows_more(tally.mirrored, -mean, alpha)


def interval(tally: Tally, alpha: float) -> tuple[float, float]:
    """Return bounds of the mean of d: with probability 1 − `alpha` all intervals of a trial contain it."""
    return _lower(tally, alpha / 2), -_lower(tally.mirrored, alpha / 2)


def _lower(tally: Tally, alpha: float) -> float:
    """The largest mean that is shown to be too low; every factor falls with m, so one can halve."""
    low, high = -1.0, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        if shows_more(tally, middle, alpha):
            low = middle
        else:
            high = middle
    return low


def fewest(one: Tally, mean: float, alpha: float) -> int:
    """Return how often `one` must come until it shows a mean over `mean`; `MOST` if it takes more, or never does."""
    low, high = 0, 1
    while high < MOST and not shows_more(_times(one, high), mean, alpha):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        if shows_more(_times(one, middle), mean, alpha):
            high = middle
        else:
            low = middle
    return min(high, MOST)


def _times(one: Tally, count: int) -> Tally:
    return Tally(one.gained * count, one.even * count, one.lost * count)
