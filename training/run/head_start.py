"""The head start: before the first epoch, the heads are fitted to the features of the pretrained network.

A random head would send random gradients into the network in its first steps, and so spoil what it knows. It knows
nothing of how the problem is solved (`training.solver`).

Letters: N images, M rows that are fitted, D feature dimensions, C classes; n_y the images of class y.
"""

import logging

import numpy as np
import torch
from torch import Tensor, nn

from breadcrumbs.training import processes
from breadcrumbs.training.emanate import rank_in_class
from breadcrumbs.training.run.features import LIMIT, features_of
from breadcrumbs.training.run.package import heads_of
from breadcrumbs.training.run.state import Run
from breadcrumbs.training.solver.rows import cap_for
from breadcrumbs.training.solver.solver import solve

PENALTY = 0.1
"""λ in units of the features' variance: of 1e-4 … 1 the middle of those that do well on small sets."""

log = logging.getLogger("breadcrumbs.training")


def fit_heads(run: Run, limit: int = LIMIT) -> None:
    """Fit the heads to the features of the training images, without augmentation.

    In the joint head's problem every image weighs the same, in the balanced head's every class. If the features of all
    images take more than `limit` bytes, some of the largest classes' images are drawn.
    """
    rows = _rows(run, limit // (4 * run.network.joint.in_features))
    split = run.train.take(rows)
    if processes.is_main():
        log.info("head start: the heads are fitted to the features of %d training images", len(split))
    features = features_of(run, run.network, split, "training images")
    labels = torch.from_numpy(split.labels).to(features.device)
    scale = float(features.var(0, correction=0).mean())  # the mean variance of a dimension
    l2 = PENALTY * max(scale, 1e-30)
    averaged = heads_of(run.measured, run.config)
    for name, head in heads_of(run.network, run.config).items():
        weights = _weights(run, labels, balanced=name == "balanced")
        found = solve(features, labels, weights, head.out_features, l2)
        _set(head, found.weight, found.bias)
        processes.agree([head.weight, head.bias])
        _set(averaged[name], head.weight, head.bias)


def _rows(run: Run, most: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The rows to fit, int64 (M,): all, or at most equally many of each class."""
    labels = torch.from_numpy(run.train.labels)
    cap = cap_for(torch.bincount(labels), most)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(run.config.seed))
    return (rank_in_class(labels, order) < cap).nonzero().squeeze(1).numpy()


def _weights(run: Run, labels: Tensor, *, balanced: bool) -> Tensor:
    """The weight of each row (M,), of sum 1: its class's share, n_y / N or 1 / C, among its rows."""
    classes = len(run.data.classes)
    counts = torch.bincount(torch.from_numpy(run.train.labels), minlength=classes).to(labels.device)
    shares = (counts > 0).double() if balanced else counts.double()
    fitted = torch.bincount(labels, minlength=classes).clamp(min=1)
    return (shares / shares.sum() / fitted)[labels]


@torch.no_grad()
def _set(head: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    head.weight.copy_(weight)
    head.bias.copy_(bias)
