"""Images of classes that nobody taught: how well scores tell them apart, and whom a threshold rejects instead.

    python benchmarks/unknown.py --features photos.npz fashion.npz digits.npz --seeds 5
    python benchmarks/unknown.py --cost                 µs of one answer at 1,000 and 10,000 classes, without files

A fifth of a file's classes, three at least, are left out: no head, mean or point has seen a row of them. Where the
backbone was trained on other pictures altogether, as ImageNet's is for drawings and digits, it saw none of them either.

    AUROC            the chance that a row of a known class has a higher score than one of a class that was left out
    unknown          share of the left-out rows that are rejected where 5 in 100 test rows of known classes are
    many … few       share of the known rows that are rejected then, by their class's group
    below 0.05       the same where `known` is below 0.05: a threshold that is set without any test row

It knows nothing of pictures or servers.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from features import Features, Integers, read
from numpy.typing import NDArray
from spread import spread

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.groups import GROUPS, groups
from breadcrumbs.models.known import DIRECTIONS, POINTS, STEPS, Known, to_bytes, unit
from breadcrumbs.training.inspect.suspects import GAP, PENALTY
from breadcrumbs.training.known import known
from breadcrumbs.training.solver.solver import solve

REJECTED = 0.05
SHRINK = 10  # rows of the group's mean that a class's own mean is averaged with
COLUMNS = ("AUROC", "unknown", *GROUPS)

Scores = NDArray[np.float64]
Score = Callable[[Floats], Scores]


@dataclass(frozen=True, eq=False)
class Trial:
    """Rows of the known classes to fit (N, D) and to test on, with labels 0 … C − 1, and rows of the others."""

    rows: Floats
    labels: Integers
    test: Floats
    tested: Integers
    unknown: Floats

    @property
    def counts(self) -> Integers:
        """Rows of each class (C,)."""
        return np.bincount(self.labels)

    @property
    def group(self) -> Integers:
        """Of each class (C,): 0 many, 1 medium, 2 few."""
        return np.array([GROUPS.index(one) for one in groups(self.counts.tolist(), "A")])


def drawn(data: Features, seed: int) -> Trial:
    """Leave classes out, and draw the rows to fit and to test on."""
    count = len(data.names)
    left = np.random.default_rng(1000 + seed).permutation(count)[: max(3, round(0.2 * count))]
    place = np.full(count, -1)
    kept = np.setdiff1d(np.arange(count), left)
    place[kept] = np.arange(len(kept))
    fitted, test = data.split(seed)
    own, seen = place[fitted.labels], place[test.labels]
    unknown = np.concatenate([fitted.features[own < 0], test.features[seen < 0]])
    return Trial(
        fitted.features[own >= 0], own[own >= 0], test.features[seen >= 0], seen[seen >= 0], unknown
    )  # fmt: skip


def of_the_head(trial: Trial) -> dict[str, Score]:
    """Scores that a plain head's logits give."""
    z = torch.from_numpy(trial.rows)
    penalty = PENALTY * float(z.var(0, correction=0).mean())
    weights = torch.full((len(z),), 1 / len(z))
    found = solve(z, torch.from_numpy(trial.labels), weights, len(trial.counts), penalty, gap=GAP, rough=True)
    weight, bias = found.weight.double().numpy(), found.bias.double().numpy()

    def logits(rows: Floats) -> Scores:
        return np.asarray(rows @ weight.T + bias)

    def log_probabilities(rows: Floats) -> Scores:
        return np.asarray(logits(rows) - np.logaddexp.reduce(logits(rows), 1)[:, None])

    return {
        "largest probability": lambda rows: log_probabilities(rows).max(1),
        "largest logit": lambda rows: logits(rows).max(1),
        "energy": lambda rows: np.logaddexp.reduce(logits(rows), 1),
        "entropy": lambda rows: (np.exp(log_probabilities(rows)) * log_probabilities(rows)).sum(1),
    }


def of_class_means(trial: Trial) -> dict[str, Score]:
    """Scores by the distance to the nearest class mean: plain, and under a covariance that all classes share."""
    rows, labels, counts = trial.rows.astype(np.float64), trial.labels, trial.counts
    means = np.zeros((len(counts), rows.shape[1]))
    np.add.at(means, labels, rows)
    means /= counts[:, None]
    several = counts[labels] > 1
    grow = np.sqrt(counts[labels] / np.maximum(counts[labels] - 1, 1))[:, None]
    within = inverse(((rows - means[labels]) * grow)[several])
    centre = rows.mean(0, keepdims=True)
    around = inverse(rows - centre)
    return {
        "class means": lambda z: -distances(z, means, np.eye(len(within))).min(1),
        "class means, shared covariance": lambda z: -distances(z, means, within).min(1),
        "the same, relative": lambda z: distances(z, centre, around)[:, 0] - distances(z, means, within).min(1),
    }


def inverse(residuals: Scores) -> Scores:
    """The inverse of the covariance of residuals (N, D), shrunk to a multiple of 1 (Ledoit and Wolf, 2004)."""
    count, dim = residuals.shape
    plain = residuals.T @ residuals / count
    scale = np.trace(plain) / dim
    noise = (((residuals**2).sum(1) ** 2).sum() / count - (plain**2).sum()) / count
    share = float(np.clip(noise / ((plain**2).sum() - dim * scale**2), 0, 1))
    return np.asarray(np.linalg.inv((1 - share) * plain + share * scale * np.eye(dim)))


def distances(z: Floats, means: Scores, precision: Scores) -> Scores:
    """Squared distances (N, C) under a precision (D, D)."""
    turned, own = z @ precision, means @ precision
    return np.asarray((turned * z).sum(1)[:, None] - 2 * turned @ means.T + (own * means).sum(1))


def of_nearest_rows(trial: Trial) -> dict[str, Score]:
    """Scores by the nearest rows in all D dimensions, and that of `models/known.py`."""
    stored = unit(trial.rows)
    points = made(trial)
    return {
        "nearest row": lambda z: np.asarray((unit(z) @ stored.T).max(1), np.float64),
        "fifth nearest row": lambda z: np.asarray(np.sort(unit(z) @ stored.T, 1)[:, -min(5, len(stored))], np.float64),
        "nearest row in 64 directions": lambda z: np.asarray(
            (unit(unit(z) @ points.basis) @ points.points.T).max(1), np.float64
        ),
        "known": lambda z: np.array(points.of(z)),
        "known, thresholds by class": by_class(trial, points),
    }


def made(trial: Trial) -> Known:
    """What a refit would leave."""
    rows = torch.from_numpy(trial.rows)
    found = known(lambda chosen: rows[chosen], torch.from_numpy(trial.labels), groups(trial.counts.tolist(), "A"))
    assert found is not None
    return found


def by_class(trial: Trial, points: Known) -> Score:
    """As `known`, with each class's own mean similarity, shrunk to its group's, taken off first."""
    inside = unit(unit(trial.rows) @ points.basis)
    similarity = inside @ inside.T
    np.fill_diagonal(similarity, -1)
    own, group = similarity.max(1), trial.group
    of = group[trial.labels]
    mean = np.array([own[of == g].mean() if (of == g).any() else own.mean() for g in range(len(GROUPS))])
    total = np.bincount(trial.labels, own)
    level = (total + SHRINK * mean[group]) / (trial.counts + SHRINK)
    scales = [np.sort((own - level[trial.labels])[of == g]) for g in range(len(GROUPS))]

    def score(z: Floats) -> Scores:
        found = unit(unit(z) @ points.basis) @ inside.T
        label = trial.labels[found.argmax(1)]
        left, of_each = found.max(1) - level[label], group[label]
        ranks = [np.searchsorted(scales[g], s) / len(scales[g]) for s, g in zip(left, of_each, strict=True)]
        return np.array(ranks)

    return score


def auroc(high: Scores, low: Scores) -> float:
    """The chance that one of `high` is above one of `low`; equal ones count half."""
    ordered = np.sort(low)
    below = np.searchsorted(ordered, high, "left") + np.searchsorted(ordered, high, "right")
    return float(below.mean() / 2 / len(low))


def measured(trial: Trial, score: Score, threshold: float | None = None) -> dict[str, float]:
    """The columns of one score, at a threshold, or at that which rejects 5 in 100 known rows."""
    inside, outside = score(trial.test), score(trial.unknown)
    least = float(np.quantile(inside, REJECTED)) if threshold is None else threshold
    of = trial.group[trial.tested]
    found = {"AUROC": auroc(inside, outside), "unknown": float((outside < least).mean())}
    for number, name in enumerate(GROUPS):
        found[name] = float((inside[of == number] < least).mean()) if (of == number).any() else float("nan")
    return found


def tried(trial: Trial) -> dict[str, dict[str, float]]:
    """Every score, measured."""
    scores = of_the_head(trial) | of_class_means(trial) | of_nearest_rows(trial)
    found = {name: measured(trial, score) for name, score in scores.items()}
    for name in ("known", "known, thresholds by class"):
        found[f"{name}, below 0.05"] = measured(trial, scores[name], REJECTED)
    return found


def table(name: str, found: list[dict[str, dict[str, float]]]) -> None:
    """Print one file: mean ± standard deviation over the seeds."""
    print(f"\n| {name} ({len(found)} seeds) | {' | '.join(COLUMNS)} |")
    print(f"|{' --- |' * (len(COLUMNS) + 1)}")
    for row in found[0]:
        cells = [spread([one[row][c] for one in found if not np.isnan(one[row][c])]) for c in COLUMNS]
        print(f"| {row} | {' | '.join(cells)} |", flush=True)


def cost(classes: int, dim: int, rounds: int) -> None:
    """Print the µs of one feature, and the bytes that a head carries."""
    rng = np.random.default_rng(0)
    count = min(POINTS, 20 * classes)
    points = unit(rng.normal(size=(count, DIRECTIONS)))
    scales = np.tile(np.linspace(0, 1, STEPS, dtype=np.float32), (len(GROUPS), 1))
    basis = rng.normal(size=(dim, DIRECTIONS)).astype(np.float32)
    own = Known(basis, points, rng.integers(0, len(GROUPS), count), scales)
    feature: Any = rng.normal(size=(1, dim)).astype(np.float32)
    own.of(feature)
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        own.of(feature)
        taken.append(1e6 * (time.perf_counter() - began))
    size = len(to_bytes(own, "0" * 64))
    print(f"| {classes} classes, {count} points, D = {dim} | {np.median(taken):.0f} µs | {size} bytes |", flush=True)


def main() -> None:
    """Measure each file, or the cost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--features", type=Path, nargs="*", default=[])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("--quick", action="store_true", help="few rounds, to see that it runs")
    given = parser.parse_args()
    for classes in (1_000, 10_000) if given.cost else ():
        cost(classes, 2048, 3 if given.quick else 200)
    for path in given.features:
        data = read(path)
        table(data.name, [tried(drawn(data, seed)) for seed in range(1 if given.quick else given.seeds)])


if __name__ == "__main__":
    main()
