"""The whole of `breadcrumbs adopt` beside the bare forward passes of its backbone, and a second run.

    python benchmarks/adopt.py --data photos BACKBONE [flags of adopt …]

In turns, `--runs` times: the command with an empty cache, the command again, and ONNX Runtime alone on the same images,
decoded before. Told are the medians of wall time and of CPU time (user and system, all threads), their ratio to the
forward passes, paired by run, and the largest memory of the command.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.training.config import TrainConfig
from breadcrumbs.training.data.dataset import load
from breadcrumbs.training.export import open_session
from breadcrumbs.training.measure import config_of

BATCH = 16


@dataclass(frozen=True)
class Took:
    """Seconds of wall time, and seconds of all CPU cores together."""

    wall: float
    cpu: float

    def __str__(self) -> str:
        """Both, in a log line."""
        return f"{self.wall:.1f} s ({self.cpu:.1f} CPU s)"


def command(words: list[str], out: Path, cache: Path) -> tuple[Took, float]:
    """Run the command; return what it took, and the most memory of any child so far in MiB."""
    before, began = os.times(), time.monotonic()
    line = [sys.executable, "-P", "-m", "breadcrumbs", "adopt", *words, "--out", str(out), "--cache", str(cache)]
    subprocess.run(line, check=True, capture_output=True)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Took(time.monotonic() - began, cpu), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def forward(bundle: Bundle) -> tuple[Took, int]:
    """Return what ONNX Runtime alone takes for the images of a bundle's recipe, and how many they are."""
    config: TrainConfig = config_of(bundle)
    data = load(config, show=False)
    session, wall, cpu, count = open_session(bundle.backbone()), 0.0, 0.0, 0
    for split in (data.train, data.test):
        for start in range(0, len(split), BATCH):
            rows = range(start, min(start + BATCH, len(split)))
            pixels = np.stack([split.fitted(row, bundle.preprocess) for row in rows])
            began, used = time.monotonic(), time.process_time()
            session.run(None, {"image": pixels})
            wall += time.monotonic() - began
            cpu += time.process_time() - used
            count += len(rows)
    return Took(wall, cpu), count


def cells(name: str, runs: list[Took], passes: list[Took]) -> str:
    """A row of the table: medians, and the medians of the ratios run by run."""
    wall, cpu = (statistics.median(getattr(run, kind) for run in runs) for kind in ("wall", "cpu"))
    both = list(zip(runs, passes, strict=True))
    by_wall = statistics.median(run.wall / own.wall for run, own in both)
    by_cpu = statistics.median(run.cpu / own.cpu for run, own in both)
    return f"| {name} | {wall:.0f} | {by_wall:.2f} | {cpu:.0f} | {by_cpu:.2f} |"


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=3)
    given, words = parser.parse_known_args()
    firsts, seconds, passes = [], [], []
    memory, count = 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(given.runs):
            cache, out = Path(folder) / "cache", Path(folder) / "out"
            shutil.rmtree(cache, ignore_errors=True)
            first, _ = command(words, out, cache)
            again, memory = command(words, out, cache)
            took, count = forward(bundles.read(out / "bundle"))
            firsts.append(first)
            seconds.append(again)
            passes.append(took)
            print(f"first {first}, again {again}, forward passes {took}", file=sys.stderr, flush=True)
    print(f"\n| {count} images, {memory:.0f} MiB, {given.runs} runs | s | ratio | CPU s | ratio |\n|{' --- |' * 5}")
    for name, runs in (("forward passes", passes), ("first run", firsts), ("second run", seconds)):
        print(cells(name, runs, passes))


if __name__ == "__main__":
    main()
