"""Every way to a head for the tail, on the same images, seeds and budget: mean ± std and paired differences.

    python benchmarks/accuracy.py --recipe demo --seeds 3
    python benchmarks/accuracy.py --recipe fashion-mnist-lt --images FOLDER --largest 1000 --seeds 5 --jobs 2

Each seed draws its own training images, where the set leaves a choice, and trains `plain`, `crt`, `breadcrumb` and
`breadcrumb-paper`; the other heads are made from those runs. A name that ends in *+ offset* had its prior offset (and λ
or τ, where there is one) chosen on one half of the test images and was measured on the other, then the halves change
places: every image is measured once, and none by a head that was chosen on it. Everything gets the same choice of
offsets. A run that is already in `--out` is taken as it is.
"""

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from breadcrumbs.training.refit.balanced_set import balanced, newest_first, present_means
from numpy.typing import NDArray

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.groups import groups
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.training.config import RefitSpec, TrainConfig
from breadcrumbs.training.data.dataset import load
from breadcrumbs.training.export import run_onnx
from breadcrumbs.training.metrics import Metrics, evaluate
from breadcrumbs.training.refit.rows import rows_of
from breadcrumbs.training.refit.selection import Chosen, Holdout, choose, with_offset, with_tau
from breadcrumbs.training.refit.without_training import logit_adjusted, nearest_class_mean
from breadcrumbs.training.run.package import images_of

METHODS = ("plain", "crt", "breadcrumb", "breadcrumb-paper")
COLUMNS = ("many", "medium", "few", "balanced")

Choose = Callable[[Holdout], Chosen]


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
        features = run_onnx(bundle.backbone(), images_of(test, bundle.manifest.preprocess, config))
        counts = np.array(bundle.manifest.train_counts)
        log_prior = np.log(counts / counts.sum())
        own = groups(counts.tolist(), "A")
        head = bundle.head()
        logits = {method: head.logits(features)}
        chosen: dict[str, Choose] = {f"{method} + offset": partial(with_offset, head, log_prior, offset="auto")}
        if method == "plain":
            logits["plain + logit adjustment, t = 1"] = logit_adjusted(head, log_prior).logits(features)
            chosen |= without_training(bundle, log_prior)
        if method == "breadcrumb":
            chosen |= refits(bundle, run_of(out, seed, method), log_prior)
        for name, choice in chosen.items():
            logits[name] = cross_fitted(choice, features, test.labels, own)
        found |= {name: evaluate(values, test.labels, own) for name, values in logits.items()}
    return found


def without_training(bundle: Bundle, log_prior: NDArray[np.float64]) -> dict[str, Choose]:
    """The post-hoc heads of a plain run."""
    head, newest = bundle.head(), bundle.snapshots()[0]
    means = nearest_class_mean(newest.features, newest.labels, head.classes)
    return {
        "tau-norm + offset": partial(with_tau, head, log_prior, offset="auto"),
        "ncm + offset": partial(with_offset, means, log_prior, offset="auto"),
    }


def refits(bundle: Bundle, run: Path, log_prior: NDArray[np.float64]) -> dict[str, Choose]:
    """Heads solved for on the run's snapshots: with EMANATE, without transfer, and on the newest alone."""
    classes, digest = bundle.manifest.classes, bundle.backbone_digest
    stored = [*bundle.snapshots()[:1], *(snapshots.read(p) for p in sorted((run / "snapshots").glob("*")))]
    parts = newest_first([rows_of(s, classes, bundle.manifest.feature_dim, digest) for s in stored])
    means = present_means(parts, parts[:1], classes)
    everything = sum(len(part.labels) for part in parts)
    pools = {
        "EMANATE refit + offset": balanced(parts, means, everything, len(classes), 0),
        "refit without transfer + offset": balanced(parts, None, everything, len(classes), 0),
        "newest snapshot refit + offset": balanced(parts[:1], None, everything, len(classes), 0),
    }

    def chooser(name: str) -> Choose:
        return lambda held: choose(pools[name], classes, log_prior, held, RefitSpec())

    return {name: chooser(name) for name in pools}


def cross_fitted(choice: Choose, features: Floats, labels: NDArray[np.int64], own: Sequence[str]) -> Floats:
    """Logits (N, C), each half of the test images by the head that was chosen on the other half."""
    rng = np.random.default_rng(0)
    first = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        first[rows[: len(rows) // 2]] = True
    logits: dict[bool, Floats] = {}
    for half, mask in ((True, first), (False, ~first)):
        head = choice(Holdout(features[mask], labels[mask], tuple(own))).head  # type: ignore[arg-type]  # groups' names
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
        for column in ("balanced", "few"):
            pairs = zip(metrics, ours, strict=True)
            cells.append(spread([getattr(m, column) - getattr(o, column) for m, o in pairs], error=True))
        print(f"| {name} | " + " | ".join(cells) + " |")


def spread(values: Sequence[float], *, error: bool = False) -> str:
    """Mean ± standard deviation over the seeds, in percent; for differences, ± the standard error of the mean."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    if error:
        return f"{100 * statistics.mean(values):+.2f} ± {100 * deviation / len(values) ** 0.5:.2f}"
    return f"{100 * statistics.mean(values):.1f} ± {100 * deviation:.1f}"


if __name__ == "__main__":
    main()
