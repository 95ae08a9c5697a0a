"""Rows of a look, and snapshots, made in memory for tests."""

import numpy as np
import torch
from torch import Tensor

from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.training.refit.rows import Rows

HERE, THERE = "a" * 64, "b" * 64
"""The deployed backbone, and another."""


def look(features: Tensor, labels: Tensor, ids: Tensor | None = None, epoch: int = 1, *, present: bool = True) -> Rows:
    """Rows with these features (M, D), labels (M,) and ids (M,), of the deployed backbone or of an older one."""
    count = len(labels)
    backbone = HERE if present else THERE
    source = torch.zeros(count, dtype=torch.int64)
    return Rows((features.numpy(),), source, torch.arange(count), labels, ids, backbone, epoch, present)


def snap(
    names: str, classes: tuple[str, ...] = ("oak", "elm", "yew"), epoch: int = 1, backbone: str = HERE
) -> Snapshot:
    """A snapshot with one row a letter: o, e and y for the classes."""
    labels = [next(i for i, name in enumerate(classes) if name[0] == letter) for letter in names]
    features = np.random.default_rng(epoch).normal(size=(len(labels), 2)).astype(np.float32)
    return Snapshot(features, np.array(labels, np.int64), classes, backbone, epoch)


def part(labels: list[int], epoch: int = 1, ids: list[int] | None = None, present: bool = True, dim: int = 2) -> Rows:
    """Random rows with these labels."""
    features = torch.randn(len(labels), dim, generator=torch.Generator().manual_seed(epoch + 100 * len(labels)))
    return look(
        features + epoch, torch.tensor(labels), None if ids is None else torch.tensor(ids), epoch, present=present
    )
