"""Every way to a head for the tail, on the same images, seeds and budget: mean ± std and paired differences.

    python benchmarks/accuracy.py --recipe demo --seeds 3
    python benchmarks/accuracy.py --recipe fashion-mnist-lt --images FOLDER --largest 1000 --seeds 5 --jobs 2

Each seed draws its own training images, where the set leaves a choice, and trains `plain`, `crt`, `breadcrumb` and
`breadcrumb-paper`; the other heads are made from those runs. A name that ends in *+ offset* had its prior offset (and
τ, where there is one) chosen on one half of the test images and was measured on the other, then the halves change
places: every image is measured once, and none by a head that was chosen on it. A refit chooses everything by
cross-validation over its training images. A run that is already in `--out` is taken as it is.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from spread import change, spread

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.groups import groups
from breadcrumbs.models.head import LinearHead
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.training.config import RefitSpec, TrainConfig, Transfer
from breadcrumbs.training.data.dataset import load
from breadcrumbs.training.export import run_onnx
from breadcrumbs.training.metrics import Metrics, evaluate
from breadcrumbs.training.refit.offset import Labelled, with_offset, with_tau
from breadcrumbs.training.refit.refit import refit
from breadcrumbs.training.refit.without_training import logit_adjusted, nearest_class_mean
from breadcrumbs.training.run.package import images_of

METHODS = ("plain", "crt", "breadcrumb", "breadcrumb-paper")
COLUMNS = ("many", "medium", "few", "balanced")

REFITS: dict[str, Transfer] = {
    "EMANATE refit": "emanate",
    "refit without transfer": "none",
    "newest snapshot refit": "leave out",
    "refit, transfer chosen": "auto",
}
Choose = Callable[[Labelled], tuple[LinearHead, *tuple[float, ...]]]
"""The head that is best on some rows, and what was chosen."""


def main() -> None:
    """Train, measure, print rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each where there are several")
    parser.add_argument("--out", type=Path, default=Path("runs/accuracy"))
    given, flags = parser.parse_known_args()
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    wanted = [(seed, method) for seed in seeds for method in METHODS]
    with ThreadPoolExecutor(given.jobs) as pool:
        list(pool.map(lambda run: train(given.out, given.recipe, run, flags, alone=given.jobs == 1), wanted))
    found: dict[str, list[Metrics]] = {}
    for seed in seeds:
        for name, metrics in measure(given.out, seed).items():
            found.setdefault(name, []).append(metrics)
        print(f"seed {seed} measured", file=sys.stderr)
    table(found)


def train(out: Path, recipe: str, run: tuple[int, str], flags: Sequence[str], *, alone: bool) -> None:
    """Train one run, a seed and a method, unless it is there."""
    seed, method = run
    folder = run_of(out, seed, method)
    if (folder / "bundle").exists():
        return
    command = [sys.executable, "-m", "breadcrumbs", "train", "--recipe", recipe, "--method", method]
    command += ["--seed", str(seed), "--out", str(folder), *flags]
    environment = os.environ | ({} if alone else {"OMP_NUM_THREADS": "1"})
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)


def run_of(out: Path, seed: int, method: str) -> Path:
    """Where a run lies."""
    return out / f"{method}-{seed}"


def measure(out: Path, seed: int) -> dict[str, Metrics]:
    """Measure every head of one seed."""
    found: dict[str, Metrics] = {}
    for method in METHODS:
        bundle = bundles.read(run_of(out, seed, method) / "bundle")
        config = TrainConfig.model_validate(bundle.manifest.recipe)
        test = load(config).test
        features = run_onnx(bundle.backbone(), images_of(test, bundle.preprocess, config))
        counts = np.array(bundle.manifest.train_counts)
        log_prior = np.log(counts / counts.sum())
        own = groups(counts.tolist(), "A")
        head = bundle.head()
        logits = {method: head.logits(features)}
        chosen: dict[str, Choose] = {f"{method} + offset": partial(with_offset, head, log_prior)}
        if method == "plain":
            logits["plain + logit adjustment, t = 1"] = logit_adjusted(head, log_prior).logits(features)
            chosen |= without_training(bundle, log_prior)
        if method == "breadcrumb":
            made = refits(bundle, run_of(out, seed, method), seed)
            logits |= {name: one.logits(features) for name, one in made.items()}
        for name, choice in chosen.items():
            logits[name] = cross_fitted(choice, features, test.labels)
        found |= {name: evaluate(values, test.labels, own) for name, values in logits.items()}
    return found


def without_training(bundle: Bundle, log_prior: NDArray[np.float64]) -> dict[str, Choose]:
    """The post-hoc heads of a plain run."""
    head, newest = bundle.head(), bundle.snapshots()[0]
    means = nearest_class_mean(newest.features, newest.labels, head.classes)
    return {
        "tau-norm + offset": partial(with_tau, head, log_prior),
        "ncm + offset": partial(with_offset, means, log_prior),
    }


def refits(bundle: Bundle, run: Path, seed: int) -> dict[str, LinearHead]:
    """The product's refit of the run's snapshots beside the bundle's own, for each way to move older looks."""
    stored = [snapshots.read(path) for path in sorted((run / "snapshots").glob("*"))]
    return {
        name: refit(bundle, bundle.head(), stored, None, RefitSpec(transfer=way, seed=seed)).head
        for name, way in REFITS.items()
    }


def cross_fitted(choice: Choose, features: Floats, labels: NDArray[np.int64]) -> Floats:
    """Logits (N, C), each half of the test images by the head that was chosen on the other half."""
    rng = np.random.default_rng(0)
    first = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        first[rows[: len(rows) // 2]] = True
    logits: dict[bool, Floats] = {}
    for half, mask in ((True, first), (False, ~first)):
        head, *_ = choice(Labelled(features[mask], labels[mask]))
        logits[half] = head.logits(features)
    return np.where(first[:, None], logits[False], logits[True])


def table(found: dict[str, list[Metrics]]) -> None:
    """Print mean ± std of every head, and what it is ahead or behind Breadcrumb + offset, paired by seed."""
    seeds = len(next(iter(found.values())))
    print(f"| head ({seeds} seeds) | many | medium | few | all | all, less breadcrumb + offset | few, the same |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    ours = found["breadcrumb + offset"]
    for name, metrics in found.items():
        cells = [spread([getattr(m, column) for m in metrics]) for column in COLUMNS]
        cells += [
            change([getattr(m, column) for m in metrics], [getattr(o, column) for o in ours])
            for column in ("balanced", "few")
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
