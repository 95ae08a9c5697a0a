"""Chooses the points by which a head tells how well a feature is known, and measures their scales.

Points are rows that the head was fitted to: of large sets some of each class, as many of a rare class as there are.
What people labelled one by one can be erased later while the head stays, so of such rows only the mean of each class is
kept. The scale of a group is measured on rows left out one at a time. It knows nothing of files or of what a score is
used for.

Letters: M rows, D feature dimensions, C classes, K directions, P points.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.groups import GROUPS, Group
from breadcrumbs.models.known import DIRECTIONS, POINTS, STEPS, Known, directions
from breadcrumbs.training.emanate import class_means, rank_in_class
from breadcrumbs.training.metrics import Interval, wilson

CHUNK = 8192  # rows that are read together
SAMPLE = 4096  # rows that the directions are found by
LEFT_OUT = 2048  # rows that the scales are measured on
LEAST = 20  # rows of a group; with fewer it has the scale of all
ROUNDS = 4  # of the subspace iteration
BELOW = 0.05  # of rows like the fitted ones, this share is less known
EXTRA = 16  # directions that are followed besides, so that the wanted ones are found exactly

Gather = Callable[[Tensor], Tensor]
"""Reads the features f32 (B, D) of some rows, by numbers (B,)."""


@dataclass(frozen=True, eq=False)
class Points:
    """The points of a head, and what their scales were measured on.

    Attributes:
        known: points and scales.
        labels: int64 (P,), the class of each point.
        left_out: f32 (n,), the similarity of some rows to their nearest other point.
        of: int64 (n,), the class of each of these rows.
    """

    known: Known
    labels: NDArray[np.int64]
    left_out: NDArray[np.float32]
    of: NDArray[np.int64]


def known(
    gather: Gather, labels: Tensor, groups: Sequence[Group], averaged: Tensor | None = None, seed: int = 0
) -> Known | None:
    """Return the points of a head alone; arguments and None as of `points`."""
    found = points(gather, labels, groups, averaged, seed)
    return None if found is None else found.known


def points(
    gather: Gather, labels: Tensor, groups: Sequence[Group], averaged: Tensor | None = None, seed: int = 0
) -> Points | None:
    """Make the points of a head.

    Args:
        gather: reads rows.
        labels: int64 (M,), 0 … C − 1: one row for each image.
        groups: of each class (C,).
        averaged: bool (M,), rows of which only class means are kept; None: of none.
        seed: of the draws.

    Returns:
        None where no class has two rows that may be kept: nothing says how near rows are.
    """
    draw = torch.Generator().manual_seed(seed)
    order = _evenly(labels, draw)
    alone = torch.zeros(len(labels), dtype=torch.bool) if averaged is None else averaged
    own, examples = order[~alone[order]][:POINTS], order[alone[order]][:POINTS]
    if not len(own):
        return None
    basis = _basis(gather(own[:SAMPLE]), draw)
    rows = _projected(gather, own, basis)
    means, classes = _means(gather, examples, labels, basis, len(groups))
    kept = max(0, POINTS - len(means))
    rows, of_rows = rows[:kept], labels[own[:kept]].numpy()
    every = np.concatenate([rows, means])
    chosen, similarity = _left_out(rows, every, of_rows)
    if not len(chosen):
        return None
    group = np.array([GROUPS.index(one) for one in groups], np.int64)
    of_points, of_left_out = np.concatenate([of_rows, classes]), of_rows[chosen]
    scales = _scales(similarity, group[of_left_out])
    return Points(Known(basis, every, group[of_points], scales), of_points, similarity, of_left_out)


def unlike(known: Known, features: Floats, labels: NDArray[np.int64], groups: Sequence[Group]) -> dict[str, Interval]:
    """Return the share of rows that are less known than `BELOW`, of all and of each group that has rows.

    Args:
        known: of the head.
        features: f32 (N, D).
        labels: (N,).
        groups: of each class (C,).
    """
    below = np.array(known.of(features)) < BELOW
    own = np.array(groups)[labels]
    masks = {"all": np.ones(len(labels), bool)} | {str(name): own == name for name in GROUPS}
    return {name: wilson(float(below[mask].mean()), int(mask.sum())) for name, mask in masks.items() if mask.any()}


def _evenly(labels: Tensor, draw: torch.Generator) -> Tensor:
    """All rows (M,): the first one of each class, drawn, then the second of each, …."""
    drawn = torch.randperm(len(labels), generator=draw)
    return rank_in_class(labels, drawn).argsort(stable=True)


def _basis(features: Tensor, draw: torch.Generator) -> NDArray[np.float32]:
    """The K directions (D, K) that explain rows of length 1 best, by subspace iteration."""
    rows = torch.nn.functional.normalize(features / features.abs().amax(1, keepdim=True).clamp(min=1e-30))
    most = min(DIRECTIONS, *rows.shape)
    begin = torch.randn(rows.shape[1], min(most + EXTRA, *rows.shape), generator=draw)
    found = torch.linalg.qr(begin).Q
    for _ in range(ROUNDS):
        found = torch.linalg.qr(rows.T @ (rows @ found)).Q  # (D, K + EXTRA)
    turned = torch.linalg.svd(rows @ found, full_matrices=False).Vh  # the best first
    return np.asarray((found @ turned.T)[:, :most].contiguous().numpy(), np.float32)


def _projected(gather: Gather, chosen: Tensor, basis: NDArray[np.float32]) -> NDArray[np.float32]:
    """Some rows in those directions (P, K), of length 1, read some at a time."""
    parts = [directions(gather(part).numpy(), basis) for part in torch.split(chosen, CHUNK)]
    return np.asarray(np.concatenate(parts), np.float32)


def _means(
    gather: Gather, chosen: Tensor, labels: Tensor, basis: NDArray[np.float32], classes: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The mean of some rows of each class, in those directions, and which classes have one."""
    if not len(chosen):
        return np.zeros((0, basis.shape[1]), np.float32), np.zeros(0, np.int64)
    inside = torch.from_numpy(_projected(gather, chosen, basis))
    means, counts = class_means(inside, labels[chosen], classes)
    there = (counts > 0).nonzero().squeeze(1)
    return directions(means[there].float().numpy(), np.eye(basis.shape[1])), there.numpy()


def _left_out(
    rows: NDArray[np.float32], every: NDArray[np.float32], labels: NDArray[np.int64]
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Some of the rows (n,), and their similarities to their nearest other point (n,).

    A row that is alone in its class says nothing: without it, its class is not known.
    """
    several = np.flatnonzero(np.bincount(labels)[labels] > 1)[:LEFT_OUT]
    nearest = np.empty(len(several), np.float32)
    for start in range(0, len(several), CHUNK // 8):
        part = several[start : start + CHUNK // 8]
        similarity = rows[part] @ every.T  # (n, P)
        similarity[np.arange(len(part)), part] = -np.inf
        nearest[start : start + len(part)] = similarity.max(1)
    return several, nearest


def _scales(nearest: NDArray[np.float32], of: NDArray[np.int64]) -> NDArray[np.float32]:
    """The similarities of left-out rows (n,) as quantiles (3, S) of each group; `of` is each row's group (n,)."""
    own = [nearest[of == number] for number in range(len(GROUPS))]
    shares = np.linspace(0, 1, STEPS)
    return np.stack([np.quantile(one if len(one) >= LEAST else nearest, shares) for one in own]).astype(np.float32)
