"""Accuracy of the joint, balanced and refitted heads on the embedded test images: mean ± std over seeds.

    python benchmarks/accuracy.py [--seeds 3] [--out runs/accuracy]

Each seed trains the `demo` recipe. The refit uses the snapshots of the last five epochs; its λ and prior offset are
chosen on one half of the test images and measured on the other, then the halves change places, so that every image is
measured once and none by a head that was chosen on it. Beside it, under the same treatment: the class-balanced head
without transfer (cRT) and the joint head with logit adjustment.
"""

import argparse
import logging
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models import bundle as bundles
from models import snapshot as snapshots
from models.bundle import Bundle
from models.groups import groups
from models.snapshot import Snapshot
from training.config import RefitSpec, recipe
from training.data import Split, load
from training.evaluate import Metrics, evaluate
from training.export import run_onnx
from training.fit import fit
from training.package import images_of
from training.refit import refit

COLUMNS = ("many", "medium", "few", "balanced")


def main() -> None:
    """Train, refit, print rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/accuracy"))
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    found: dict[str, list[Metrics]] = {}
    for seed in range(given.seeds):
        for name, metrics in measure(given.out / f"seed-{seed}", seed).items():
            found.setdefault(name, []).append(metrics)
    print(f"| head ({given.seeds} seeds) | many | medium | few | all |\n| --- | --- | --- | --- | --- |")
    for name, seeds in found.items():
        print(f"| {name} | " + " | ".join(spread([getattr(m, column) for m in seeds]) for column in COLUMNS) + " |")
    for name in ("refit", "cRT + offset", "joint + logit adjustment"):
        gain = [100 * (a.balanced - b.balanced) for a, b in zip(found[name], found["balanced"], strict=True)]
        print(f"{name} − balanced, paired, all: {spread([g / 100 for g in gain])}")


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation over the seeds, in percent."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{100 * statistics.mean(values):.1f} ± {100 * deviation:.1f}"


def measure(out: Path, seed: int) -> dict[str, Metrics]:
    """Train one seed (or take the run that is there) and measure every head."""
    config = recipe("demo").model_copy(update={"seed": seed})
    bundle = bundles.read(out / "bundle") if (out / "bundle").exists() else fit(config, out)
    test = load(config).test
    features = run_onnx(bundle.backbone(), images_of(test, bundle.manifest.preprocess, config))
    joint = bundle.joint_head()
    assert joint is not None
    class_groups = groups(bundle.manifest.train_counts, "A")
    rows = {"joint": joint.logits(features), "balanced": bundle.head().logits(features)}
    rows |= refitted(bundle, features, test, sorted((out / "snapshots").glob("*"))[-5:])
    return {name: evaluate(logits, test.labels, class_groups) for name, logits in rows.items()}


def refitted(
    bundle: Bundle, features: NDArray[np.float32], test: Split, uploads: Sequence[Path]
) -> dict[str, NDArray[np.float32]]:
    """The logits of refitted heads, each half of the test images by the head chosen on the other half."""
    classes = bundle.manifest.classes
    stored = [snapshots.read(path) for path in uploads]
    first = half(test.labels)
    found: dict[str, NDArray[np.float32]] = {}
    for chosen_on in (first, ~first):
        held = Snapshot(features[chosen_on], test.labels[chosen_on], classes, bundle.backbone_digest, 10_000)
        made = refit(bundle, bundle.head(), stored, held, RefitSpec())
        own = {
            "refit": made.head,
            "cRT + offset": made.baselines["crt"],
            "joint + logit adjustment": made.baselines["joint_logit_adjusted"],
        }
        for name, head in own.items():
            logits = found.setdefault(name, np.zeros((len(features), len(classes)), np.float32))
            logits[~chosen_on] = head.logits(features[~chosen_on])
    return found


def half(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """A mask of half of each class, seeded."""
    rng = np.random.default_rng(0)
    mask = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        own = rng.permutation(np.flatnonzero(labels == label))
        mask[own[: len(own) // 2]] = True
    return mask


if __name__ == "__main__":
    main()
