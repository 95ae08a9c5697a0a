"""The map from one backbone's space to another's: chosen on pairs, measured on pairs that it was not fitted to.

The families are those of a refit (`training.refit.transfer`): orthogonal Procrustes with a scale, where both spaces
have one width, and ridge regression. Family and penalty are those that explain most of the pairs' variance out of fold,

    R² = 1 − Σ ‖y − ŷ‖² / Σ ‖y − ȳ‖²,  ŷ and ȳ from the other folds.

It knows nothing of labels or of heads.

Letters: P pairs, D' and D dimensions of the two spaces, K folds.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from breadcrumbs.training.refit.rows import RefitError
from breadcrumbs.training.refit.transfer import PAIRS, Line, procrustes, ridges

FOLDS = 5
SHARES = (0.25, 0.5, 0.75, 1.0)  # of the pairs outside a fold: the points of the curve
FURTHER = 100  # pairs that the forecast is about
FEWEST = 50  # with fewer pairs, a forecast would be about more than three times as many as were measured
SURE = 0.9995  # explained share above which nothing is left to gain

PENALTIES = (1e-6, 1e-4, 1e-2, 0.1, 0.3, 1.0, 3.0, 10.0)  # λ of ridge, of the mean squared singular value

Family = Callable[[Tensor, Tensor], list[Line]]
"""Returns the maps that a family has for some pairs, one for each penalty."""


@dataclass(frozen=True)
class Point:
    """A number of pairs, and the share that a map fitted to so many explains, out of fold."""

    pairs: int
    explained: float


@dataclass(frozen=True, eq=False)
class Map:
    """A map that was chosen.

    Attributes:
        line: A (D', D) and c (D,): z ↦ z A + c, fitted to all pairs.
        pairs: P.
        family: its name.
        families: the explained share of every family that was tried.
        curve: that of the chosen one by number of pairs, the fewest first.
        further: what FURTHER more pairs would add to the explained share, about; None where it cannot be known.
        forecast: the same in a sentence.
    """

    line: Line
    pairs: int
    family: str
    families: dict[str, float]
    curve: tuple[Point, ...]
    further: float | None
    forecast: str

    @property
    def explained(self) -> float:
        """The explained share of the chosen family, out of fold."""
        return self.families[self.family]

    def __call__(self, z: Tensor) -> Tensor:
        """Map features f32 (N, D') to f32 (N, D)."""
        a, c = self.line
        return z @ a + c


def chosen_map(x: Tensor, y: Tensor) -> Map:
    """Fit y ≈ x A + c by the family that explains most of the pairs left out.

    Args:
        x: features of the old backbone f32 (P, D'), in a drawn order.
        y: the same images by the new one f32 (P, D).

    Raises:
        RefitError: there are fewer than PAIRS pairs, or the new features are all equal.
    """
    if len(x) < PAIRS:
        raise RefitError(
            f"{len(x)} pairs are left to fit a map to, expected {PAIRS} different images or more that are not set "
            "aside to judge on; add images to the pairs, they need no label"
        )
    if not float((y - y.mean(0)).square().sum()) > 0:
        raise RefitError(
            f"the new backbone makes the same features of all {len(x)} pairs, so no map can be learned; give pairs of "
            "different images, or another backbone"
        )
    tried: dict[str, Family] = {"procrustes": rotation} if x.shape[1] == y.shape[1] else {}
    tried["ridge"] = penalised
    found = {name: explained(x, y, family) for name, family in tried.items()}
    families = {name: max(shares) for name, shares in found.items()}
    name = max(families, key=lambda one: families[one])  # of equals the first, which has fewer parameters
    curve = _curve(x, y, tried[name], families[name])
    further, words = forecast(curve, len(x))
    line = tried[name](x, y)[found[name].index(families[name])]
    return Map(line, len(x), name, families, curve, further, words)


def rotation(x: Tensor, y: Tensor) -> list[Line]:
    """The one map of orthogonal Procrustes with a scale."""
    return [procrustes(x, y)]


def penalised(x: Tensor, y: Tensor) -> list[Line]:
    """The maps of ridge regression, for each of PENALTIES."""
    return ridges(x, y, PENALTIES)


def explained(x: Tensor, y: Tensor, family: Family, share: float = 1.0) -> list[float]:
    """Return R² out of fold of each map of a family, where a share of the pairs outside each fold is fitted."""
    error, total = np.zeros(1), 0.0  # of each map
    for fold in range(FOLDS):
        inside = torch.arange(len(x)) % FOLDS == fold
        own = _fitted(~inside, share)
        lines = family(x[own], y[own])
        error = error + [float((x[inside] @ a + c - y[inside]).square().sum()) for a, c in lines]
        total += float((y[inside] - y[own].mean(0)).square().sum())
    return [float(share) for share in 1 - error / max(total, 1e-30)]


def _fitted(outside: Tensor, share: float) -> Tensor:
    """The numbers of the first so many pairs outside a fold; they are in a drawn order."""
    rows = outside.nonzero().squeeze(1)
    return rows[: max(2, round(share * len(rows)))]


def _curve(x: Tensor, y: Tensor, family: Family, whole: float) -> tuple[Point, ...]:
    """The explained share by the number of fitted pairs; that of all pairs is known already."""
    outside = len(x) - math.ceil(len(x) / FOLDS)
    found = {max(2, round(share * outside)): share for share in SHARES}
    return tuple(
        Point(pairs, whole if share == 1 else max(explained(x, y, family, share)))
        for pairs, share in sorted(found.items())
    )


def forecast(curve: Sequence[Point], pairs: int) -> tuple[float | None, str]:
    """Return what FURTHER more pairs would add to the explained share, and a sentence about it.

    What is not explained falls about as k · n^(−s) with the number of pairs n, a straight line in logarithms, which is
    fitted to the curve. No number is given where the curve cannot carry one.

    Args:
        curve: the explained share by number of pairs, the fewest first.
        pairs: how many there are.
    """
    left = 1 - np.array([point.explained for point in curve])  # what is not explained
    if left[-1] < 1 - SURE:
        return 0.0, f"The map explains nearly all: {FURTHER} further pairs would give about nothing."
    why = _unknown(left, pairs)
    if why:
        return None, f"What {FURTHER} further pairs would give cannot be known: {why}."
    slope, start = np.polyfit(np.log([point.pairs for point in curve]), np.log(left), 1)
    before, after = (math.exp(start + slope * math.log(n)) for n in (pairs, pairs + FURTHER))
    gain = before - after
    return gain, f"{FURTHER} further pairs would give about {100 * gain:+.1f} points of explained variance."


def _unknown(left: np.ndarray[tuple[int], np.dtype[np.float64]], pairs: int) -> str | None:
    """Why the curve tells nothing of further pairs; None if it does."""
    if pairs < FEWEST:
        return f"{pairs} pairs are too few to see how the map gets better with their number; {FEWEST} would do"
    if not (np.diff(left) < 0).all():
        return "the map did not get steadily better as the pairs grew in number"
    return None
