"""A backbone in half precision, for GPUs: the same graph with f16 weights, and a gate on the recall that it loses.

A GPU's tensor cores run it up to twice as fast; on a CPU it is slower. Inputs and outputs keep their types. It knows
nothing of training or of where the file is written.
"""

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.transformers import float16

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.groups import Group
from breadcrumbs.models.head import IR_VERSION, LinearHead, parse_onnx
from breadcrumbs.training.export import ExportError
from breadcrumbs.training.metrics import evaluate

LOSS = 1e-3  # largest loss of recall by half precision, overall and in each group


def to_half(backbone: bytes) -> bytes:
    """Return `backbone.onnx` with f16 weights and products: `image` uint8 (N, H, W, 3) -> `feature` f32 (N, D)."""
    model = float16.convert_float_to_float16(parse_onnx(backbone), keep_io_types=True)
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def gate(full: Floats, half: Floats, labels: NDArray[np.int64], head: LinearHead, groups: Sequence[Group]) -> float:
    """Refuse a half-precision backbone that loses recall.

    Args:
        full, half: features (N, D) of the same images by both backbones.
        labels: (N,).
        head: the exported head.
        groups: each class's group (C,).

    Returns:
        The share of images whose top class differs.

    Raises:
        ExportError: a feature is not finite, or the recall of all classes or of a group falls by more than LOSS.
    """
    if not np.isfinite(half).all():
        bad = int((~np.isfinite(half).all(1)).sum())
        raise ExportError(f"in half precision {bad} of {len(half)} images have features that are not finite")
    logits = head.logits(full), head.logits(half)
    before, after = (evaluate(values, labels, groups) for values in logits)
    for name in ("balanced", "many", "medium", "few"):
        one, other = getattr(before, name), getattr(after, name)
        if one is not None and one - other > LOSS:
            raise ExportError(f"in half precision recall ({name}) falls from {one:.4f} to {other:.4f}; limit {LOSS}")
    return float((logits[0].argmax(1) != logits[1].argmax(1)).mean())
