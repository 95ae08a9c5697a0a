"""Rows of a look made in memory, for tests."""

import torch
from torch import Tensor

from training.rows import Rows


def look(features: Tensor, labels: Tensor, ids: Tensor | None = None, epoch: int = 1, *, present: bool = True) -> Rows:
    """Rows with these features (M, D), labels (M,) and ids (M,), of the deployed backbone or of an older one."""
    count = len(labels)
    backbone = ("a" if present else "b") * 64
    source = torch.zeros(count, dtype=torch.int64)
    return Rows((features.numpy(),), source, torch.arange(count), labels, ids, backbone, epoch, present)
