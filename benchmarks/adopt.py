"""The whole of `breadcrumbs adopt` beside the bare forward passes of its backbone, and a second run.

    python benchmarks/adopt.py --data photos BACKBONE [flags of adopt …]

One after the other: the command with an empty cache, the command again, and ONNX Runtime alone
on the same images, decoded before. Wall time, the largest memory of the command, and the ratio to the forward passes.
Repeated `--runs` times; the medians are printed as a row.
"""

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from breadcrumbs.models import bundle as bundles
from breadcrumbs.training.config import TrainConfig
from breadcrumbs.training.data.dataset import load
from breadcrumbs.training.export import open_session
from breadcrumbs.training.measure import config_of

BATCH = 16


def command(words: list[str], out: Path, cache: Path) -> tuple[float, float]:
    """Run the command; return its wall time in seconds, and the most memory of any child so far in MiB."""
    began = time.monotonic()
    line = [sys.executable, "-P", "-m", "breadcrumbs", "adopt", *words, "--out", str(out), "--cache", str(cache)]
    subprocess.run(line, check=True, capture_output=True)
    return time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def forward(folder: Path) -> tuple[float, int]:
    """Return the seconds of ONNX Runtime alone on the images of a bundle's recipe, and how many they are."""
    bundle = bundles.read(folder)
    config: TrainConfig = config_of(bundle)
    data = load(config, show=False)
    session, took, count = open_session(bundle.backbone()), 0.0, 0
    for split in (data.train, data.test):
        for start in range(0, len(split), BATCH):
            rows = range(start, min(start + BATCH, len(split)))
            pixels = np.stack([split.fitted(row, bundle.preprocess) for row in rows])
            began = time.monotonic()
            session.run(None, {"image": pixels})
            took += time.monotonic() - began
            count += len(rows)
    return took, count


def main() -> None:
    """Measure, and print a row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=3)
    given, words = parser.parse_known_args()
    firsts, seconds, passes, memory, count = [], [], [], 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(given.runs):
            cache, out = Path(folder) / "cache", Path(folder) / "out"
            shutil.rmtree(cache, ignore_errors=True)
            first, memory = command(words, out, cache)
            again, _ = command(words, out, cache)
            took, count = forward(out / "bundle")
            firsts.append(first)
            seconds.append(again)
            passes.append(took)
            print(f"first {first:.1f} s, again {again:.1f} s, forward passes {took:.1f} s", file=sys.stderr, flush=True)
    first, again, took = map(statistics.median, (firsts, seconds, passes))
    print(
        "| images | first run, s | forward passes, s | ratio | second run, s | memory, MiB |\n|---|---|---|---|---|---|"
    )
    print(f"| {count} | {first:.0f} | {took:.0f} | {first / took:.2f} | {again:.0f} | {memory:.0f} |")


if __name__ == "__main__":
    main()
