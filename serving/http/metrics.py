"""The numbers at `/metrics`: names, units and buckets in one place; every app has a registry of its own.

Several processes on one port count in shared files, in a folder named by an environment variable; each returns the sum.
Seconds and bytes, `_total` on counters, no label without a bound: classes are counted by group, never by name. It knows
nothing of who counts.
"""

from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
    multiprocess,
    values,
)
from prometheus_client.core import Metric

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


LINES = 100
"""Lines that are counted by name."""


class Metrics:
    """All metrics of one app."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._live: tuple[str, str] | None = None
        self.requests = self._counter("requests", "Requests answered.", "route", "code")
        self.duration = self._seconds(
            "request_duration_seconds", "From a request's first byte to its answer's last.", "route"
        )
        self.queue = self._seconds("queue_duration_seconds", "From an image's submission to the start of its batch.")
        self.decode = self._seconds("decode_duration_seconds", "To decode an image.")
        self.backbone = self._seconds("backbone_duration_seconds", "Of a batch in the backbone.")
        self.head = self._seconds("head_duration_seconds", "Of a batch in its head or heads, and back from the device.")
        self.batch_size = Histogram(
            "breadcrumbs_batch_size", "Images computed together.", buckets=SIZES, registry=self.registry
        )
        self.pending = self._gauge("pending_requests", "Images waiting to be computed.", several="livesum")
        self.capacity = self._gauge("queue_capacity", "Images that may wait to be computed.", several="livesum")
        self.rejected = self._counter("rejected", "Requests answered with an error, by its type.", "reason")
        self.predictions = self._counter("predictions", "Top classes, by head and group.", "head", "group")
        self.lines = self._gauge("lines", "Lines that there are, the default one among them.")
        self.line_predictions = self._counter("line_predictions", "Answers, by line.", "line")
        self._lines: set[str] = set()
        self.head_info = self._gauge("head_info", "1 for the live head.", "version", "digest")
        self.head_age = self._gauge("head_age_seconds", "Since the live head went live.")
        self.swaps = self._counter("head_swaps", "Times that a head went live.", "actor")
        self.trials = self._gauge("trials", "Trials that run, by mode.", "mode")
        self.trial_answers = self._counter(
            "trial_answers", "Answers that two heads were compared on.", "mode", "group", "agrees"
        )
        self.trial_errors = self._counter("trial_errors", "Answers for which a head on trial failed.", "mode")
        self.remembered = self._counter("remembered_answers", "Answers to remember, and whether they were.", "kept")
        self.labels = self._counter("labels", "Labels of examples, by what they did.", "change", "verified")
        self.waiting_labels = self._gauge("waiting_labels", "Verified labels that no refit has taken.")
        self.device = self._gauge("execution_provider_info", "1 for where the models run.", "provider")
        self.refits = self._gauge("refit_jobs", "Refits, by state.", "state")
        self.refit_starts = self._counter("refit_starts", "Refits started here, by who started them.", "by")
        self.precision = self._gauge("precision_info", "1 for the precision of the backbone.", "precision")
        self.build = self._gauge("build_info", "1 for the program that runs.", "version", "python")
        self.build.labels(version("breadcrumbs-longtail"), python_version()).set(1)
        for by in ("request", "schedule"):  # there from the start: Prometheus sees no growth in what begins at 1
            self.refit_starts.labels(by)
        for kept in ("yes", "no"):
            self.remembered.labels(kept)
        ProcessCollector(registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"breadcrumbs_{name}_total", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str, several: Literal["livemax", "livesum"] = "livemax") -> Gauge:
        return Gauge(f"breadcrumbs_{name}", text, labels, registry=self.registry, multiprocess_mode=several)

    def _seconds(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(f"breadcrumbs_{name}", text, labels, buckets=SECONDS, registry=self.registry)

    def computed(self, backbone: float, head: float) -> None:
        """Count one batch's seconds."""
        self.backbone.observe(backbone)
        self.head.observe(head)

    def swapped(self, actor: str) -> None:
        """Count that a head went live; of `refit <id>` only the first word, so that the label is bounded."""
        self.swaps.labels(actor.partition(" ")[0]).inc()

    def answered(self, line: str, answers: int) -> None:
        """Count answers of a line; those of lines beyond the first `LINES` together, so that the label is bounded."""
        if len(self._lines) < LINES:
            self._lines.add(line)
        self.line_predictions.labels(line if line in self._lines else "other lines").inc(answers)

    def live(self, version: int, digest: str) -> None:
        """Set the live head, and no other."""
        named = (str(version), digest)
        if self._live not in {None, named}:
            self.head_info.labels(*self._live).set(0)  # with several processes, old values stay in a process's file
            self.head_info.clear()
        self.head_info.labels(*named).set(1)
        self._live = named

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        if values.ValueClass is values.MutexValue:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        _Together(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)


class _Together(multiprocess.MultiProcessCollector):
    """What several processes counted, and the memory, open files and CPU of each by `pid`."""

    def collect(self) -> Iterator[Metric]:
        """Return the sums; then what the library says of a process, of all whose file of live gauges is there."""
        yield from super().collect()  # type: ignore[no-untyped-call]
        processes: dict[str, Metric] = {}
        for path in sorted(Path(self._path).glob("gauge_livesum_*.db")):
            pid = path.stem.rpartition("_")[2]
            for metric in ProcessCollector(pid=partial(str, pid), registry=None).collect():
                whole = processes.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
                for sample in metric.samples:
                    whole.add_sample(sample.name, {**sample.labels, "pid": pid}, sample.value)
        yield from processes.values()
