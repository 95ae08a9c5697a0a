"""Labels that are likely wrong: images whose given class a head that was fitted without them does not believe.

A plain softmax head is fitted without each fold in turn. A row is a suspect if its head finds the given class unlikely
and is sure of another one: an image that resembles many classes a little is an odd picture, and no wrong label. Of each
class at most one half is named. It knows nothing of pictures or files.

Letters: N rows, M of them scored, D feature dimensions, C classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from breadcrumbs.models.arrays import Floats
from breadcrumbs.training.emanate import rank_in_class
from breadcrumbs.training.folds import FOLDS, fold_count, fold_of
from breadcrumbs.training.solver.solver import solve

GAP = 1e-2  # of the solver: precise enough to compare probabilities
CHUNK = 8192  # rows whose probabilities are in memory at a time

PENALTY = 1e-2  # λ in units of the features' variance; 0.03 to 0.001 find the same within noise, a larger one sooner
SHARE = 0.05  # of all rows that are named at most
QUOTA = 0.5  # of a class that is named at most: of more wrong labels than right ones the class cannot be told
SURE = 4  # how many times log p of the suggested class counts; `benchmarks/wrong_labels.py` measures it

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Suspect:
    """A row whose label is likely wrong.

    Attributes:
        row: its number.
        given, suggested: its class, and the most probable other one.
        given_probability, suggested_probability: of both, by a head that was fitted without the row.
        score: the lower, the less likely is the given class (`scores`).
        typical: the row of the suggested class that is surest to be of it; None: it has no scored row.
    """

    row: int
    given: int
    suggested: int
    given_probability: float
    suggested_probability: float
    score: float
    typical: int | None


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """What heads that were fitted without a row say of it.

    Attributes:
        rows: int64 (M,), the scored rows: those of classes of two rows or more.
        given: log-probability of the row's own class (M,).
        other: log-probability of the most probable other class (M,).
        suggested: int64 (M,), that class.
    """

    rows: Integers
    given: NDArray[np.float64]
    other: NDArray[np.float64]
    suggested: Integers


def within_limit(rows: int, dimensions: int, classes: int) -> bool:
    """Return whether N · D · C is small enough for every row to be scored in reasonable time."""
    return fold_count(rows * dimensions * classes) is not None


def suspects(
    features: Floats, labels: Integers, classes: int, seed: int = 0, *, penalty: float = PENALTY, share: float = SHARE
) -> list[Suspect]:
    """Return the rows whose labels are likely wrong, the likeliest first.

    Args:
        features: f32 (N, D), finite.
        labels: int64 (N,), 0 … C − 1.
        classes: C.
        seed: of the folds.
        penalty: λ in units of the features' variance.
        share: of all rows that are named at most; of a class at most one half, one row at least.
    """
    found = out_of_fold(features, labels, classes, seed, penalty=penalty)
    score = scores(found)
    order = score.argsort(kind="stable")
    order = order[found.other[order] > found.given[order]]
    chosen = within_quota(order, labels[found.rows], np.bincount(labels, minlength=classes), share)
    typical = _typical(found, labels, classes)
    return [
        Suspect(
            int(found.rows[place]), int(labels[found.rows[place]]), int(found.suggested[place]),
            float(np.exp(found.given[place])), float(np.exp(found.other[place])), float(score[place]),
            typical[int(found.suggested[place])],
        )
        for place in chosen
    ]  # fmt: skip


def out_of_fold(
    features: Floats, labels: Integers, classes: int, seed: int = 0, *, penalty: float = PENALTY
) -> OutOfFold:
    """Fit a plain head without each fold, and score the fold's rows. Arguments as for `suspects`."""
    rows: list[Tensor] = [torch.zeros(0, dtype=torch.int64)]
    scored: list[Tensor] = [torch.zeros(0, 3)]
    own = torch.from_numpy(np.require(labels, np.int64, ["C", "W"]))
    for fold, weight, bias in fold_heads(features, labels, classes, seed, penalty=penalty):
        for part in torch.split(fold, CHUNK):
            rows.append(part)
            scored.append(_judged(_features(features, part), own[part], weight, bias))
    values = torch.cat(scored)
    given, other = values[:, 0].double().numpy(), values[:, 1].double().numpy()
    return OutOfFold(torch.cat(rows).numpy(), given, other, values[:, 2].long().numpy())


def fold_heads(
    features: Floats, labels: Integers, classes: int, seed: int = 0, *, penalty: float = PENALTY
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield the rows (n,) of each fold, and weight (C, D) and bias (C,) of the plain head that was fitted without them.

    No head starts where another ended: that one has seen the rows. Arguments as for `suspects`.
    """
    own = torch.from_numpy(np.require(labels, np.int64, ["C", "W"]))
    count = fold_count(features.size * classes) or FOLDS[-1][1]
    fold = fold_of(own, classes, count, seed)
    for number in range(int(fold.max()) + 1 if len(fold) else 0):
        fitted = (fold != number).nonzero().squeeze(1)
        z = _features(features, fitted)
        weights = torch.full((len(z),), 1 / len(z))
        variance = max(float(z.var(0, correction=0).mean()), 1e-30)
        found = solve(z, own[fitted], weights, classes, penalty * variance, gap=GAP, rough=True)  # from nothing
        yield (fold == number).nonzero().squeeze(1), found.weight.float(), found.bias.float()


def _features(features: Floats, rows: Tensor) -> Tensor:
    """The features f32 (n, D) of some rows."""
    return torch.from_numpy(np.asarray(features[rows.numpy()], np.float32))


def _judged(features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Of each row (n, 3): log-probability of the own class and of the most probable other one, and which that is."""
    log = torch.log_softmax(torch.addmm(bias, features, weight.T), 1)  # (n, C)
    label = labels.unsqueeze(1)
    given = log.gather(1, label).squeeze(1)
    other, suggested = log.scatter(1, label, -torch.inf).max(1)
    return torch.stack([given, other, suggested.float()], 1)


def scores(found: OutOfFold) -> NDArray[np.float64]:
    """Return log p_y − 4 log p_k (M,): y the given class, k the suggested one; the lower, the less likely is y."""
    return np.asarray(found.given - SURE * found.other)


def within_quota(order: NDArray[np.intp], own: Integers, counts: Integers, share: float) -> NDArray[np.intp]:
    """Return the places of an order that are within the quota of their class, as many as may be named in all.

    Args:
        order: places (M,), the likeliest wrong label first.
        own: class of each place (M,).
        counts: rows of each class (C,).
        share: as for `suspects`.
    """
    quota = np.maximum(1, np.round(QUOTA * counts)).astype(np.int64)  # (C,)
    labels = own[order]
    rank = rank_in_class(torch.from_numpy(labels), torch.arange(len(order))).numpy()
    most = int(np.ceil(share * counts.sum()))
    return order[rank < quota[labels]][:most]


def _typical(found: OutOfFold, labels: Integers, classes: int) -> list[int | None]:
    """Of each class the row that is surest to be of it."""
    typical: list[int | None] = [None] * classes
    for place in found.given.argsort(kind="stable"):
        row = int(found.rows[place])
        typical[int(labels[row])] = row
    return typical
