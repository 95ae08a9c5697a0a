"""A server of features only, on a bundle that is drawn: what the benchmarks of learning from use ask.

The bundle has a head and a snapshot of long-tailed classes around drawn means, and no backbone, so that nothing but
what is measured takes time. It knows nothing of what is asked.

Letters: N rows, C classes, D feature dimensions.
"""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from propagation import free_port, wait

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models import head as heads
from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.bundle import Bundle, Manifest
from breadcrumbs.models.head import LinearHead
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.serving.client.client import Client

SPACE = "f" * 64
RATIO = 100  # rows of the largest class for one of the smallest
NOISE = 0.7  # standard deviation around a class's mean, whose own numbers have 1


@dataclass(frozen=True, eq=False)
class World:
    """Classes around drawn means (C, D), and what draws."""

    means: Floats
    names: tuple[str, ...]
    rng: np.random.Generator

    def rows(self, count: int) -> tuple[Floats, "np.ndarray[tuple[int], np.dtype[np.int64]]"]:
        """Draw features (N, D) and labels (N,) with a long tail, each class once at least where N allows it."""
        share = RATIO ** (-np.arange(len(self.names)) / max(1, len(self.names) - 1))
        labels = self.rng.choice(len(self.names), count, p=share / share.sum())
        labels[: len(self.names)] = np.arange(len(self.names))[:count]
        noise = self.rng.normal(0, NOISE, (count, self.means.shape[1]))
        return (self.means[labels] + noise).astype(np.float32), labels.astype(np.int64)


def world(classes: int, width: int, seed: int = 0) -> World:
    """Draw class means."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(classes, width)) / np.sqrt(width) * 4
    return World(means.astype(np.float32), tuple(f"class {number}" for number in range(classes)), rng)


def bundled(own: World, folder: Path, rows: int) -> Bundle:
    """Write a bundle of so many training rows, whose head is the class means, and of half as many held-out ones."""
    features, labels = own.rows(rows)
    weight, bias = own.means, -(own.means**2).sum(1) / 2
    held = own.rows(max(len(own.names), rows // 2))
    manifest = Manifest(
        name="learning", architecture="none", space=SPACE, feature_dim=own.means.shape[1], classes=own.names,
        train_counts=tuple(np.bincount(labels, minlength=len(own.names)).tolist()),
    )  # fmt: skip
    files = {"head.onnx": heads.to_onnx(LinearHead(weight, bias.astype(np.float32), own.names))}
    both = ((features, labels, 1, "7" * 64), (*held, 1, "8" * 64))
    stored, aside = (
        snapshots.to_bytes(Snapshot(x, y, own.names, SPACE, epoch, ids=np.arange(len(y)), dataset=name))
        for x, y, epoch, name in both
    )
    return bundles.write(folder, manifest, files | {"snapshots/epoch-0001.safetensors": stored, bundles.HOLDOUT: aside})


@contextlib.contextmanager
def serving(
    bundle: Bundle, store: Path, flags: Sequence[str] = ()
) -> Iterator[tuple[Client, "subprocess.Popen[bytes]", float]]:
    """Start a server; a client, its process, and the seconds until it was ready."""
    port = free_port()
    line = [sys.executable, "-m", "breadcrumbs", "serve", "--bundle", str(bundle.folder), "--store", str(store)]
    began = time.perf_counter()
    process = subprocess.Popen([*line, "--port", str(port), "--access-log", "none", "--device", "cpu", *flags])
    try:
        with Client(f"http://127.0.0.1:{port}", timeout=600) as client:
            wait(client, process)
            yield client, process, time.perf_counter() - began
    finally:
        process.terminate()
        process.wait(60)
