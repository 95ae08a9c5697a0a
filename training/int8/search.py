"""The search for a graph in int8 that is fast enough and costs little, with as few layers in float as needed.

Each try is timed first, which takes a moment, then judged. While it costs too much, the 1, 2, 4, … layers with the
largest error are left in float. It knows nothing of bundles or of files.

Letters: M judged images, H and W in pixels, D feature dimensions, C classes.
"""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from breadcrumbs.models.arrays import Floats, Pixels
from breadcrumbs.models.groups import Group
from breadcrumbs.models.head import LinearHead
from breadcrumbs.models.speed import FASTER
from breadcrumbs.training.export import run_onnx
from breadcrumbs.training.int8.cost import Cost, cost, told
from breadcrumbs.training.int8.layers import by_error
from breadcrumbs.training.int8.quantizer import QuantizeError, Quantizer

LOG = logging.getLogger("breadcrumbs.int8")

COMPARED = 32
"""Calibration images on which the error of a layer is measured."""

Speed = Callable[[bytes, bytes, Pixels], float]
"""Returns how many times as fast the second graph is as the first, on one image (H, W, 3)."""


@dataclass(frozen=True, eq=False)
class Reference:
    """What a graph in int8 is compared with.

    Attributes:
        backbone: the graph in full precision.
        features: of the judged images by it (M, D).
        labels: of the judged images (M,).
        images: gives the judged images, in batches, uint8 (N, H, W, 3) each.
        head: the exported head.
        groups: each class's group (C,).
        speed: compares two graphs on this machine.
    """

    backbone: bytes
    features: Floats
    labels: NDArray[np.int64]
    images: Callable[[], Iterable[Tensor]]
    head: LinearHead
    groups: Sequence[Group]
    speed: Speed


@dataclass(frozen=True, eq=False)
class Tried:
    """One try.

    Attributes:
        model: the graph in int8.
        floats: names of its layers that are in float.
        speed: how many times as fast it is.
        features: of the judged images (M, D); None: it is too slow to be judged.
        cost: None: it is too slow to be judged.
    """

    model: bytes
    floats: tuple[str, ...]
    speed: float
    features: Floats | None = None
    cost: Cost | None = None

    @property
    def refusal(self) -> str | None:
        """Why it is not taken, in words; None: it is."""
        if self.cost is None:
            return f"it is {self.speed:.2f} times as fast as in float on this machine; expected {FASTER} times"
        return self.cost.excess

    def as_dict(self) -> dict[str, Any]:
        """Return what was found in JSON's own types."""
        measured = {} if self.cost is None else self.cost.as_dict()
        return {"times_as_fast": round(self.speed, 2), "float_layers": list(self.floats), **measured}

    def verdict(self) -> str:
        """Return what was found, in words."""
        change = {} if self.cost is None else self.cost.change
        parts = ", ".join(f"{name} {told(interval)}" for name, interval in change.items())
        return (
            f"{self.speed:.1f} times as fast, {len(self.floats)} layers in float; change of recall in points: {parts}"
        )


def search(quantizer: Quantizer, against: Reference, batches: Sequence[Tensor], deadline: float) -> list[Tried]:
    """Return all tries; if any is taken, it is the last.

    Args:
        quantizer: of the backbone.
        against: what each try is compared with.
        batches: the images that it was calibrated on; the judged ones choose no layer.
        deadline: on the monotonic clock; no further try begins after it.

    Raises:
        QuantizeError: ONNX Runtime cannot make a graph.
    """
    tries = [_try(quantizer, against, (), batches)]
    order: list[str] = []
    while _goes_on(tries[-1], deadline):
        LOG.info("int8 with %d layers in float: %s", len(tries[-1].floats), tries[-1].refusal)
        if not order:
            images = torch.cat(list(batches))
            sample = [images[:: max(1, len(images) // COMPARED)]]
            order = by_error(quantizer, run_onnx(against.backbone, sample), sample, deadline)
        count = max(1, 2 * len(tries[-1].floats))
        if count >= len(order):
            break
        tries.append(_try(quantizer, against, tuple(order[:count]), batches))
    return tries


def _goes_on(last: Tried, deadline: float) -> bool:
    """Whether another try may help: more layers in float cost less, and are slower."""
    return last.cost is not None and last.refusal is not None and time.monotonic() < deadline


def _try(quantizer: Quantizer, against: Reference, floats: tuple[str, ...], batches: Sequence[Tensor]) -> Tried:
    model = quantizer.without(floats)
    try:
        ratio = against.speed(against.backbone, model, batches[0][0].numpy())
    except Exception as error:  # ONNX Runtime's exceptions have no common root of their own
        raise QuantizeError(f"ONNX Runtime cannot run the graph in int8: {str(error)[:300]}") from error
    if not ratio >= FASTER:
        return Tried(model, floats, ratio)
    features = run_onnx(model, against.images())
    judged = cost(against.features, features, against.labels, against.head, against.groups)
    return Tried(model, floats, ratio, features, judged)
