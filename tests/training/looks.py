"""Rows of a look, and snapshots, made in memory for tests."""

import numpy as np
import torch
from torch import Tensor

from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.training.refit.rows import Rows

HERE, THERE = "a" * 64, "b" * 64
"""The deployed backbone, and another."""


def look(
    features: Tensor, labels: Tensor, images: Tensor | None = None, epoch: int = 1, *, present: bool = True
) -> Rows:
    """Rows with these features (M, D), labels (M,) and images (M,), of the deployed backbone or of an older one."""
    rows = torch.arange(len(labels))
    backbone = HERE if present else THERE
    return Rows(
        (features.numpy(),), 0 * rows, rows, labels, rows if images is None else images, backbone, epoch, present
    )


def snapshot(
    features: Tensor,
    labels: list[int],
    classes: tuple[str, ...] = ("oak", "elm", "yew"),
    *,
    ids: list[int] | None = None,
    dataset: str = "",
    epoch: int = 1,
    backbone: str = HERE,
) -> Snapshot:
    """A snapshot with these rows."""
    return Snapshot(
        features.numpy(), np.array(labels, np.int64), classes, backbone, epoch,
        ids=None if ids is None else np.array(ids, np.int64), dataset=dataset,
    )  # fmt: skip
