"""Chooses the points by which a head tells how well a feature is known, and measures their scales.

Points are rows that the head was fitted to: of large sets some of each class, as many of a rare class as there are.
What people labelled one by one can be erased later while the head stays, so of such rows only the mean of each class is
kept. The scale of a group is measured on rows left out one at a time. It knows nothing of files or of what a score is
used for.

Letters: M rows, D feature dimensions, C classes, K directions, P points.
"""

from collections.abc import Callable, Sequence

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


def known(
    gather: Gather, labels: Tensor, groups: Sequence[Group], averaged: Tensor | None = None, seed: int = 0
) -> Known | None:
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
    points = _projected(gather, own, basis)
    means, classes = _means(gather, examples, labels, basis, len(groups))
    kept = max(0, POINTS - len(means))
    points, own = points[:kept], own[:kept]
    every = np.concatenate([points, means])
    group = np.array([GROUPS.index(one) for one in groups], np.int64)
    scales = _scales(points, every, labels[own].numpy(), group)
    if scales is None:
        return None
    return Known(basis, every, group[np.concatenate([labels[own].numpy(), classes])], scales)


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


def _scales(
    points: NDArray[np.float32], every: NDArray[np.float32], labels: NDArray[np.int64], group: NDArray[np.int64]
) -> NDArray[np.float32] | None:
    """The similarities of rows to their nearest other point, as quantiles (3, S) of each group.

    A row that is alone in its class says nothing: without it, its class is not known.
    """
    several = np.flatnonzero(np.bincount(labels, minlength=len(group))[labels] > 1)[:LEFT_OUT]
    if not len(several):
        return None
    nearest = np.empty(len(several), np.float32)
    for start in range(0, len(several), CHUNK // 8):
        part = several[start : start + CHUNK // 8]
        similarity = points[part] @ every.T  # (n, P)
        similarity[np.arange(len(part)), part] = -np.inf
        nearest[start : start + len(part)] = similarity.max(1)
    of = group[labels[several]]
    own = [nearest[of == number] for number in range(len(GROUPS))]
    shares = np.linspace(0, 1, STEPS)
    return np.stack([np.quantile(one if len(one) >= LEAST else nearest, shares) for one in own]).astype(np.float32)
