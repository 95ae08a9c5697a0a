"""How much faster one graph is than another on this machine: both run in turns in this process, on one thread.

It knows nothing of what the graphs compute or of who decides by it.

Letters: N images in a batch, H and W in pixels.
"""

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from breadcrumbs.models.arrays import Pixels

FASTER = 1.2
"""How many times as fast a backbone in int8 must be to be worth its cost."""
TURNS = 15
"""Runs of each graph, unless the time is up before."""
ERRORS_ONLY = 3


def times_as_fast(
    slow: bytes | Path, fast: bytes | Path, image: Pixels, batches: Sequence[int] = (1, 4), seconds: float = 30.0
) -> float:
    """Return how many times as fast the second graph is as the first, for the batch for which that is least.

    Args:
        slow: a graph, its file or its bytes: `image` uint8 (N, H, W, 3) -> any output.
        fast: the other.
        image: (H, W, 3).
        batches: values of N.
        seconds: for all runs; each graph runs once before the clock, and once for each batch at least.
    """
    both = [_session(model) for model in (slow, fast)]
    inputs = [{"image": np.ascontiguousarray(np.broadcast_to(image, (count, *image.shape)))} for count in batches]
    return min(_ratio(both, given, seconds / len(inputs)) for given in inputs)


def _ratio(both: Sequence[Any], given: dict[str, Pixels], seconds: float) -> float:
    """The quotient of the median times of two sessions."""
    began = time.perf_counter()
    for session in both:
        session.run(None, given)
    took: tuple[list[float], list[float]] = ([], [])
    while len(took[0]) < TURNS and (not took[0] or time.perf_counter() - began < seconds):
        for session, own in zip(both, took, strict=True):
            start = time.perf_counter()
            session.run(None, given)
            own.append(time.perf_counter() - start)
    return statistics.median(took[0]) / statistics.median(took[1])


def _session(model: bytes | Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    options.intra_op_num_threads = 1
    given = str(model) if isinstance(model, Path) else model
    return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
