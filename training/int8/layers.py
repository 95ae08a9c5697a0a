"""Which layers cost a backbone most in int8, found by measuring: each alone in int8, by the error of the features.

It knows nothing of recall.

Letters: N images, D feature dimensions.
"""

import time
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from breadcrumbs.models.arrays import Floats
from breadcrumbs.training.export import run_onnx
from breadcrumbs.training.int8.quantizer import Quantizer
from breadcrumbs.training.terminal.bars import track


def by_error(quantizer: Quantizer, full: Floats, batches: Sequence[Tensor], deadline: float) -> list[str]:
    """Return a graph's layers, the one with the largest error first.

    Args:
        quantizer: of the graph.
        full: the features by the backbone in full precision (N, D).
        batches: the same images, as the graph takes them.
        deadline: on the monotonic clock; layers that could not be measured by then come last.
    """
    errors = dict.fromkeys(quantizer.layers, 0.0)
    for layer in track(quantizer.layers, len(quantizer.layers), "error of each layer in int8"):
        if time.monotonic() > deadline:
            break
        errors[layer] = _error(full, run_onnx(quantizer.only(layer), batches))
    return sorted(errors, key=lambda layer: -errors[layer])


def _error(full: Floats, other: Floats) -> float:
    """|z' − z|² / |z|² over all rows; a feature that is not finite is the largest error."""
    if not np.isfinite(other).all():
        return float("inf")
    return float(((other - full) ** 2).sum() / max(float((full**2).sum()), np.finfo(np.float32).tiny))
