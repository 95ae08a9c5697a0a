"""What was inferred since the start, by model and version, as Triton's statistics extension tells it.

It counts what it is told and knows nothing of requests or HTTP.
"""

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

NS = 1_000_000_000


@dataclass
class _Time:
    """How often something happened, and the nanoseconds that it took altogether."""

    count: int = 0
    ns: int = 0

    def add(self, seconds: float) -> None:
        self.count += 1
        self.ns += round(seconds * NS)

    def as_dict(self) -> dict[str, int]:
        return {"count": self.count, "ns": self.ns}


@dataclass
class _Counts:
    images: int = 0
    executions: float = 0.0
    last: int = 0
    times: dict[str, _Time] = field(default_factory=lambda: defaultdict(_Time))


SPANS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")


class Statistics:
    """The counters of one process."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, int], _Counts] = defaultdict(_Counts)

    def answered(self, model: str, version: int, images: int, executions: float, **seconds: float) -> None:
        """Count a request that was answered.

        Args:
            model: its name.
            version: of the head that answered.
            images: of the request.
            executions: its share of the batches that it was computed in; a batch has 1 for all its images.
            seconds: of `SPANS`, those that it took.
        """
        known = self._counts[model, version]
        known.images += images
        known.executions += executions
        known.last = time.time_ns() // 1_000_000
        for name, value in seconds.items():
            known.times[name].add(value)

    def failed(self, model: str, version: int, seconds: float) -> None:
        """Count a request that was refused or failed after some seconds."""
        self._counts[model, version].times["fail"].add(seconds)

    def told(self, model: str, version: int) -> dict[str, Any]:
        """Return the statistics of a version of a model; zeros where it was never asked."""
        known = self._counts.get((model, version), _Counts())
        return {
            "name": model,
            "version": str(version),
            "last_inference": known.last,
            "inference_count": known.images,
            "execution_count": round(known.executions),
            "inference_stats": {name: known.times[name].as_dict() for name in SPANS},
            "batch_stats": [],
        }
