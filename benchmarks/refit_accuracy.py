"""The default refit against what a user would write with scikit-learn, and against its own members alone.

    python benchmarks/refit_accuracy.py --features A.npz [B.npz …] [--seeds 5] [--jobs 1]

`features.py` makes the files, and says how a seed draws rows. A bundle is written with the training rows, and the test
rows as its hold-out, by which nothing is chosen; its head is replaced by a refit with the product's own settings.

The peer is the best of LogisticRegression, plain and with `class_weight="balanced"`, over C by decades and the prior
offset t. It gets what the refit gives itself: the same rows, the same folds, the same search for t and the same
criterion, balanced accuracy of the rows out of fold, and features scaled by one number, so that C means the same for
any backbone. Its C grows and shrinks until the best is inside. A fit begins where the one before it to the same rows
ended.

Differences are paired by seed: the refit less the row, mean ± standard error, in points. Time is of the process, and
that of the refit is until its head could go live.
"""

import argparse
import logging
import multiprocessing
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
from deployed import Deployed, deployed
from features import Features, read
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from spread import change, spread
from torch import Tensor

from breadcrumbs.models.head import LinearHead
from breadcrumbs.training.config import RefitSpec
from breadcrumbs.training.metrics import Metrics
from breadcrumbs.training.refit import material
from breadcrumbs.training.refit.offset import Labelled, likeliest_offset
from breadcrumbs.training.refit.validation import folds_of
from breadcrumbs.training.refit.without_training import NEVER

COLUMNS = ("balanced", "many", "medium", "few", "all")
CS = (1e-3, 1e-2, 1e-1, 1.0)  # where the search begins, the features' variance being 1
WEAKEST, STRONGEST = 1e6, 1e-8
ROUGH, FINE = (100, 1e-3), (1000, 1e-4)  # passes at most, and tolerance, of lbfgs: to choose, and for the head
PEER = "scikit-learn"

LOG = logging.getLogger("refit_accuracy")

Weights = str | None
"""`class_weight`: None or "balanced"."""


@dataclass(frozen=True)
class Tried:
    """One head of one seed: how good, CPU seconds (None: part of another's), and what was chosen."""

    metrics: Metrics
    seconds: float | None
    chosen: str


Found = dict[str, Tried]


class Peer:
    """LogisticRegression in every variant, on the rows and folds of a refit."""

    def __init__(
        self, rows: Labelled, folds: Sequence[NDArray[np.bool_]], log_prior: Tensor, names: tuple[str, ...]
    ) -> None:
        self.scale = float(rows.features.var(0).mean()) ** 0.5  # of the mean variance
        self.rows, self.z, self.labels = rows, rows.features / self.scale, rows.labels
        self.folds, self.log_prior, self.names = folds, log_prior, names
        self.last: dict[bytes, LogisticRegression] = {}

    def fit(
        self, weights: Weights, c: float, own: NDArray[np.bool_], effort: tuple[int, float] = ROUGH
    ) -> LogisticRegression:
        """Fit to some rows, a mask, from where the last fit to these rows ended."""
        passes, tolerance = effort
        model = LogisticRegression(C=c, class_weight=weights, max_iter=passes, tol=tolerance, warm_start=True)
        last = self.last.get(own.tobytes())
        if last is not None:
            model.coef_, model.intercept_ = last.coef_.copy(), last.intercept_.copy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.last[own.tobytes()] = model.fit(self.z[own], self.labels[own])
        return model

    def score(self, weights: Weights, c: float) -> tuple[float, float]:
        """Fit without each fold; return the best balanced accuracy out of fold, and its t."""
        logits, labels = [], []
        for fold in self.folds:
            model = self.fit(weights, c, ~fold)
            logits.append(torch.from_numpy(self.head(model, 0).logits(self.rows.features[fold])))
            labels.append(torch.from_numpy(self.labels[fold]))
        t, score = likeliest_offset(torch.cat(logits), torch.cat(labels), self.log_prior)
        return score, t

    def head(self, model: LogisticRegression, t: float) -> LinearHead:
        """The fitted model as a head, with the prior offset; a class without rows is never predicted."""
        weight = np.zeros((len(self.names), self.z.shape[1]), np.float32)
        bias = np.full(len(self.names), NEVER, np.float32)
        weight[model.classes_], bias[model.classes_] = model.coef_ / self.scale, model.intercept_
        return LinearHead(weight, bias - t * self.log_prior.numpy(), self.names)

    def best(self) -> tuple[LinearHead, str]:
        """Choose variant, C and t, and fit to all rows; return the head and what was chosen."""
        tried = {}
        for weights in (None, "balanced"):
            self.last = {}
            grid = list(CS)
            scores: dict[float, tuple[float, float]] = {}
            while True:
                scores |= {c: self.score(weights, c) for c in grid if c not in scores}
                top = max(grid, key=lambda c: (scores[c][0], -c))
                if top == grid[-1] < WEAKEST:
                    grid.append(10 * top)
                elif top == grid[0] > STRONGEST:
                    grid.insert(0, top / 10)
                else:
                    break
            tried[weights, top] = scores[top]
        (weights, c), (_, t) = max(tried.items(), key=lambda one: one[1][0])
        model = self.fit(weights, c, np.ones(len(self.labels), bool), FINE)
        return self.head(model, t), f"{weights or 'plain'}, C {c:g}, t {t:g}"


def peer_of(own: Deployed, spec: RefitSpec) -> Peer:
    """The peer with a refit's own rows, folds and prior."""
    held = own.bundle.holdout()
    found = material.read(own.bundle, own.live, (), held, "bundle", spec)
    base, classes = found.base, len(found.classes)
    base = base.take(found.fit[base.images])
    counts = torch.bincount(base.labels, minlength=classes).float().clamp(min=1)
    folds = [fold[base.images].numpy() for fold in folds_of(found.base, found.fit, classes, spec.seed)]
    rows = Labelled(base.features.numpy(), base.labels.numpy())
    return Peer(rows, folds, (counts / counts.sum()).log(), found.classes)


def measured(data: Features, seed: int) -> Found:
    """Every head of one seed."""
    train, test = data.split(seed)
    spec = RefitSpec(seed=seed)
    found: Found = {}
    with tempfile.TemporaryDirectory() as folder:
        own = deployed(Path(folder) / "bundle", data.names, train, test)

        def add(name: str, head: LinearHead, seconds: float | None, chosen: str) -> None:
            found[name] = Tried(own.measured(head, test), seconds, chosen)
            LOG.info("%s, seed %d, %s: %s (%s s)", data.name, seed, name, chosen, seconds and round(seconds, 1))

        began = time.process_time()
        candidate = own.refit(spec=spec)
        took = time.process_time() - began
        made = candidate.complete()
        parts = {part.member: part for part in made.report.members}
        shares = ", ".join(f"{part.share:g} {name}" for name, part in parts.items() if part.share)
        add("default refit", made.head, took, shares)
        for name, part in parts.items():
            chosen = f"λ {part.penalty:g}, t {part.prior_offset:g}"
            add(f"{name} alone", made.baselines[name], None, chosen)
        began = time.process_time()
        head, chosen = peer_of(own, spec).best()
        add(PEER, head, time.process_time() - began, chosen)
    return found


def table(name: str, found: Sequence[Found]) -> None:
    """Print one set: mean ± standard deviation, and the refit less each row."""
    seeds = f"{len(found)} seed{'s' if len(found) > 1 else ''}"
    heads = " | ".join(COLUMNS)
    print(f"\n| {name} ({seeds}) | {heads} | CPU, s | refit less this: balanced | few | all |")
    print(f"|{' --- |' * (len(COLUMNS) + 5)}")
    ours = next(iter(found[0]))
    for row in found[0]:
        values = {c: [getattr(one[row].metrics, c) for one in found] for c in COLUMNS}
        cells = [spread(values[c]) for c in COLUMNS]
        seconds = [s for one in found if (s := one[row].seconds) is not None]
        cells.append(f"{statistics.mean(seconds):.0f}" if seconds else "–")
        for c in ("balanced", "few", "all"):
            best = [getattr(one[ours].metrics, c) for one in found]
            cells += [change(best, values[c])] if row != ours else [""]
        print(f"| {row} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Measure each set, and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--features", type=Path, nargs="+", required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1, help="seeds at a time")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for path in given.features:
        data = read(path)
        work = repeat(data, given.seeds), range(given.seeds)
        if given.jobs == 1:
            found = list(map(measured, *work))
        else:
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(given.jobs, context) as pool:
                found = list(pool.map(measured, *work))
        table(data.name, found)


if __name__ == "__main__":
    main()
