"""Memory of `breadcrumbs refit`, by how it grows with the rows that are fitted.

    python benchmarks/refit_memory.py [--shares 0.25 0.5 1.0] [--classes 100] [--dim 1024] [--repeats 3]

A bundle and two snapshots with as many rows as ImageNet-LT (`assembly.py`), less at smaller shares. Memory grows with
rows and D, time also with C, so there are fewer classes and longer features than ImageNet-LT's: the rows are then
several times what differs between two runs. λ is given and the gap is wide: memory is the same on the first pass and
the last. Measured is the child's highest anonymous memory, asked of the kernel 100 times a second: what is mapped from
files can be dropped by the kernel and does not count. With a small `max_memory` a run reads the rows anew on every
pass. The slope is that of a line through the medians: what one byte of the rows' f32 features costs, cross-validation
included, which has the rows of every fold; the line's height at zero is the constant.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from assembly import class_counts

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models import head as heads
from breadcrumbs.models.bundle import Bundle, Manifest
from breadcrumbs.models.head import LinearHead
from breadcrumbs.models.images.preprocess import Preprocess
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.training.config import RefitSpec

STREAMED = 2**24  # bytes of max_memory
MIB = 2**20


def main() -> None:
    """Print a table and the lines through it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shares", nargs="+", type=float, default=[0.25, 0.5, 1.0])
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    ways = {"in memory": [], "streamed": ["--max-memory", str(STREAMED)]}
    peaks: dict[str, list[float]] = {way: [] for way in ways}
    sizes = []
    print(f"| share of the rows | fitted rows, MiB | {' | '.join(f'{way}: peak, MiB' for way in ways)} |")
    print("| --- | --- | --- | --- |")
    for share in given.shares:
        with tempfile.TemporaryDirectory() as name:
            counts = class_shares(given.classes, share)
            command = prepare(Path(name), counts, given.dim)
            runs = [{way: peak([*command, *more]) for way, more in ways.items()} for _ in range(given.repeats)]
        sizes.append(fitted_bytes(counts, given.dim) / MIB)
        cells = []
        for way in ways:
            own = [run[way] for run in runs]
            peaks[way].append(statistics.median(own))
            cells.append(f"{peaks[way][-1]:,.0f} ({min(own):,.0f} … {max(own):,.0f})")
        print(f"| {share:g} | {sizes[-1]:,.0f} | {' | '.join(cells)} |", flush=True)
    for way, found in peaks.items():
        slope, constant = np.polyfit(sizes, found, 1)
        print(f"\n{way}: {slope:.2f} × the fitted rows + {constant:,.0f} MiB", flush=True)


def class_shares(classes: int, share: float) -> np.ndarray:
    """A share of ImageNet-LT's counts, neighbouring classes joined so that there are so few."""
    every = np.array_split(np.array(class_counts("imagenet")), classes)
    return np.array([max(5, round(int(part.sum()) * share)) for part in every])


def fitted_bytes(counts: np.ndarray, dim: int, uploads: int = 2) -> int:
    """f32 bytes of the rows that are fitted: all but the share of each class's new images that is set aside."""
    rows = uploads * counts
    return int((rows - (rows * RefitSpec().holdout_fraction).astype(int)).sum()) * dim * 4


def prepare(folder: Path, counts: np.ndarray, dim: int) -> list[str]:
    """Write a bundle, two snapshots and a hold-out; return the command that refits from them."""
    rng = np.random.default_rng(0)
    classes = tuple(f"class {i}" for i in range(len(counts)))
    head = LinearHead(
        rng.normal(size=(len(classes), dim)).astype(np.float32), np.zeros(len(classes), np.float32), classes
    )
    centres = rng.normal(size=(len(classes), dim)).astype(np.float32)
    manifest = Manifest(
        name="shape", architecture="none", preprocess=Preprocess(height=8, width=8, mean=(0, 0, 0), std=(1, 1, 1)),
        feature_dim=dim, classes=classes, train_counts=tuple(counts.tolist()),
    )  # fmt: skip
    # The backbone is never run: its digest alone counts.
    bundle = bundles.write(folder / "bundle", manifest, {"backbone.onnx": b"none", "head.onnx": heads.to_onnx(head)})
    for epoch, own in ((2, counts), (1, counts), (3, np.full(len(counts), 5))):
        labels = np.repeat(np.arange(len(own)), own)
        features = centres[labels] + rng.standard_normal((len(labels), dim), np.float32)
        save(folder / f"{epoch}.safetensors", features, labels, bundle, epoch)
    wanted = ["--snapshot", str(folder / "2.safetensors"), "--snapshot", str(folder / "1.safetensors")]
    wanted += ["--holdout", str(folder / "3.safetensors"), "--out", str(folder / "out"), "--l2", "1e-2", "--gap", "0.1"]
    return [sys.executable, "-m", "breadcrumbs", "refit", "--bundle", str(bundle.folder), *wanted, "--no-new-bundle"]


def save(path: Path, features: np.ndarray, labels: np.ndarray, bundle: Bundle, epoch: int) -> None:
    """Write one snapshot."""
    made = Snapshot(features, labels, bundle.manifest.classes, bundle.backbone_digest, epoch, created="2026-01-01")
    snapshots.save(path, made)


def peak(command: list[str]) -> float:
    """Run a command and return the most anonymous memory that it had, in MiB."""
    most = 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            own = [int(line.split()[1]) for line in lines if line.startswith("RssAnon")]
            most = max([most, *own])
            time.sleep(0.01)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return most / 1024


if __name__ == "__main__":
    main()
