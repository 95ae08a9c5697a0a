"""What normalising features gives a head: ours, and scikit-learn's, with the same splits.

    python benchmarks/normalisation.py --features A.npz [B.npz …] [--seeds 5] [--jobs 1] [--ways none,power] [--alone]

`features.py` makes the files, and says how a seed draws rows. Training and test rows are normalised alike, by numbers
of the training rows where there are any, before anything else sees them; `refit_accuracy.py` says what both heads get.

    none            the features as they are
    length          √D · z / ‖z‖
    standardised    (z − mean) / deviation of each dimension, a hundredth of the mean deviation added to each
    root            sign(z) √|z|
    power           sign(z) √(|z| / m), m the mean of |z|: root, then the length √D

Differences are paired by seed: the row less the same head on features as they are, mean ± standard error, in points.
"""

import argparse
import logging
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path

import numpy as np
from deployed import deployed
from features import Features, read
from refit_accuracy import COLUMNS, PEER, Found, Tried, peer_of
from spread import change, spread

from breadcrumbs.models.arrays import Floats
from breadcrumbs.training.config import RefitSpec
from breadcrumbs.training.refit.offset import Labelled

OURS = "default refit"
NONE = "none"

LOG = logging.getLogger("normalisation")

Way = Callable[[Floats], Floats]


def powered(rows: Floats) -> Floats:
    """Return rows (n, D) with power normalisation; the length of the roots is √(D m)."""
    size = np.abs(rows)
    return np.asarray(np.sign(rows) * np.sqrt(size / size.mean(1, keepdims=True).clip(1e-30)))


def ways_of(train: Floats) -> dict[str, Way]:
    """Every way of normalising rows (n, D), by name, with the numbers that training rows (N, D) give it."""
    mean, deviation = train.mean(0), train.std(0)
    deviation = deviation + deviation.mean() / 100
    side = train.shape[1] ** 0.5
    return {
        NONE: lambda rows: rows,
        "length": lambda rows: side * rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-9),
        "standardised": lambda rows: (rows - mean) / deviation,
        "root": lambda rows: np.sign(rows) * np.sqrt(np.abs(rows)),
        "power": powered,
    }


def measured(data: Features, seed: int, names: Sequence[str], alone: bool) -> Found:
    """Both heads of one seed, in each way."""
    train, test = data.split(seed)
    spec, found = RefitSpec(seed=seed), Found()
    for name in names:
        way = ways_of(train.features)[name]
        fitted, tested = (Labelled(way(rows.features).astype(np.float32), rows.labels) for rows in (train, test))
        with tempfile.TemporaryDirectory() as folder:
            own = deployed(Path(folder) / "bundle", data.names, fitted, tested)
            began = time.process_time()
            heads = {OURS: own.refit(spec=spec).complete().head}
            if not alone:
                heads[PEER], _ = peer_of(own, spec).best()
            for head, made in heads.items():
                found[f"{head}, {name}"] = Tried(own.measured(made, tested), None, "")
            took = time.process_time() - began
        LOG.info("%s, seed %d, %s: %.0f CPU s", data.name, seed, name, took)
        for head in heads:
            metrics = found[f"{head}, {name}"].metrics
            LOG.info("  %s: %s", head, {column: getattr(metrics, column) for column in COLUMNS})
    return found


def table(name: str, found: Sequence[Found]) -> None:
    """Print one set: mean ± standard deviation, and each row less the same head on features as they are."""
    seeds = f"{len(found)} seed{'s' if len(found) > 1 else ''}"
    print(f"\n| {name} ({seeds}) | {' | '.join(COLUMNS)} | more than none: balanced | few | all |")
    print(f"|{' --- |' * (len(COLUMNS) + 4)}")
    for row in sorted(found[0], key=lambda row: row.partition(", ")[0]):
        values = {c: [getattr(one[row].metrics, c) for one in found] for c in COLUMNS}
        head, _, way = row.partition(", ")
        plain = f"{head}, {NONE}"
        cells = [spread(values[c]) for c in COLUMNS]
        for c in ("balanced", "few", "all"):
            before = [getattr(one[plain].metrics, c) for one in found]
            cells.append("" if way == NONE else change(values[c], before))
        print(f"| {row} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Measure each set, and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--features", type=Path, nargs="+", required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1, help="seeds at a time")
    parser.add_argument("--ways", default="none,length,standardised,root,power", help="`none` must be among them")
    parser.add_argument("--alone", action="store_true", help="leave scikit-learn out")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for path in given.features:
        data = read(path)
        work = repeat(data, given.seeds), range(given.seeds), repeat(given.ways.split(",")), repeat(given.alone)
        if given.jobs == 1:
            found = list(map(measured, *work))
        else:
            with ProcessPoolExecutor(given.jobs, multiprocessing.get_context("spawn")) as pool:
                found = list(pool.map(measured, *work))
        table(data.name, found)


if __name__ == "__main__":
    main()
