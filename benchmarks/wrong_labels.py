"""Wrong labels found: a share of each class's labels is flipped, and counted is how many of them are named.

    python benchmarks/wrong_labels.py --features photos.npz --seeds 5

Flipped are five of a hundred labels of each class, at random to any other class, or all to the class whose mean is
nearest. Where the file makes a long tail, its training rows are drawn by seed. Named are as many rows as labels were
flipped. `training/inspect/suspects.py` is compared with what it might
rank by, and with cleanlab where that is installed (`pip install cleanlab`), both on the same out-of-fold probabilities.
A file's own wrong labels count as mistakes of whoever names them, so no number can reach 100 %.

    named        of the named rows, those that were flipped
    many … few   the same within a group, of as many of the group's rows as were flipped in it
    few named    share of the named rows that are of few-shot classes

It knows nothing of pictures.
"""

import argparse
import importlib.util
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from features import Features, Integers, read, take
from numpy.typing import NDArray
from spread import spread

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.groups import GROUPS, groups
from breadcrumbs.training.emanate import class_means
from breadcrumbs.training.inspect import suspects
from breadcrumbs.training.inspect.suspects import PENALTY, SHARE

LOG = logging.getLogger("breadcrumbs.benchmarks")
FLIPPED = 0.05  # of each class; in small classes now and then one
COLUMNS = ("named", *GROUPS, "few named")
WAYS = ("random", "nearest")

Found = dict[str, dict[str, float]]


@dataclass(frozen=True, eq=False)
class Flipped:
    """Features (N, D), labels (N,) of which some were flipped, and which (N,)."""

    features: Floats
    labels: Integers
    wrong: NDArray[np.bool_]
    classes: int


def flipped(data: Features, way: str, seed: int) -> Flipped:
    """Flip labels of each class that has two rows or more."""
    rng = np.random.default_rng(seed)
    rows, classes = data.rows, len(data.names)
    means, _ = class_means(torch.from_numpy(rows.features), torch.from_numpy(rows.labels), classes)
    distance = torch.cdist(means, means).fill_diagonal_(torch.inf)
    nearest = distance.argmin(1).numpy()
    labels = rows.labels.copy()
    for label in range(classes):
        own = rng.permutation(np.flatnonzero(rows.labels == label))
        chosen = own[: int(FLIPPED * len(own) + rng.random())] if len(own) > 1 else own[:0]
        anywhere = (label + rng.integers(1, classes, len(chosen))) % classes
        labels[chosen] = anywhere if way == "random" else nearest[label]
    return Flipped(rows.features, labels, labels != rows.labels, classes)


def tailed(data: Features, seed: int) -> Features:
    """The rows that are drawn for training, where the file makes a long tail; else all."""
    if data.counts is None:
        return data
    return replace(data, rows=take(data.rows, data.drawn(seed)[0]), counts=None)


def rankings(data: Flipped, seed: int, penalty: float) -> Iterator[tuple[str, Integers]]:
    """Yield each way to rank by name, and the rows in its order."""
    found = suspects.out_of_fold(data.features, data.labels, data.classes, seed, penalty=penalty)
    own = data.labels[found.rows]
    scores = suspects.scores(found)
    counts = np.bincount(data.labels, minlength=data.classes)
    order = scores.argsort(kind="stable")
    yield "ours", found.rows[suspects.within_quota(order, own, counts, SHARE)]
    yield "ours, no quota", found.rows[order]
    plain = {"probability": np.exp(found.given), "margin": np.exp(found.given) - np.exp(found.other)}
    for name, values in plain.items():
        order = values.argsort(kind="stable")
        yield name, found.rows[order]
        yield f"{name}, with our quota", found.rows[suspects.within_quota(order, own, counts, SHARE)]


def peers(data: Flipped, seed: int, penalty: float) -> Iterator[tuple[str, Integers]]:
    """Yield cleanlab's rankings; none where it is not installed."""
    if importlib.util.find_spec("cleanlab") is None:
        return
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    rows, probability = probabilities(data, seed, penalty)
    kept, dense = np.unique(data.labels[rows], return_inverse=True)  # cleanlab asks for labels 0 … K − 1, all with rows
    probability = probability[:, kept] / probability[:, kept].sum(1, keepdims=True)
    for method in ("self_confidence", "normalized_margin", "confidence_weighted_entropy"):
        scores = get_label_quality_scores(dense, probability, method=method)
        yield f"cleanlab {method}", rows[scores.argsort(kind="stable")]
    for name, how in (("prune_by_noise_rate", "filter"), ("confident_learning", "confident joint")):
        order = find_label_issues(
            dense, probability, filter_by=name, return_indices_ranked_by="self_confidence", n_jobs=1
        )
        yield f"cleanlab {how}", rows[order]


def probabilities(data: Flipped, seed: int, penalty: float) -> tuple[Integers, NDArray[np.float64]]:
    """The scored rows (M,), and their whole out-of-fold probabilities (M, C), of the same heads as ours."""
    parts = []
    heads = suspects.fold_heads(data.features, data.labels, data.classes, seed, penalty=penalty)
    for rows, weight, bias in heads:
        logits = torch.from_numpy(data.features[rows.numpy()]) @ weight.T + bias
        parts.append((rows.numpy(), torch.softmax(logits.double(), 1).numpy()))
    own, values = zip(*parts, strict=True)
    return np.concatenate(own), np.concatenate(values)


def measured(data: Flipped, order: Integers) -> dict[str, float]:
    """How many of the flipped labels a ranking names."""
    count = int(data.wrong.sum())
    named = order[:count]
    group = np.array(groups(np.bincount(data.labels, minlength=data.classes).tolist(), "A"))[data.labels]
    found = {"named": float(data.wrong[named].sum()) / count}
    for name in GROUPS:
        wanted = int(data.wrong[group == name].sum())
        own = order[group[order] == name][:wanted]
        found[name] = float(data.wrong[own].sum()) / wanted if wanted else float("nan")
    found["few named"] = float((group[named] == "few").mean())
    return found


def table(name: str, way: str, found: list[Found]) -> None:
    """Print one way to flip: mean ± standard deviation over the seeds."""
    print(f"\n| {name}, {way} ({len(found)} seeds) | {' | '.join(COLUMNS)} |")
    print(f"|{' --- |' * (len(COLUMNS) + 1)}")
    for row in found[0]:
        cells = [spread([one[row][c] for one in found if not np.isnan(one[row][c])]) for c in COLUMNS]
        print(f"| {row} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Measure each file, and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--features", type=Path, nargs="+", required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--penalty", type=float, default=PENALTY)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    ways: tuple[Callable[..., Iterator[tuple[str, Integers]]], ...] = (rankings, peers)
    for path in given.features:
        data = read(path)
        for way in WAYS:
            found: list[Found] = []
            for seed in range(given.first_seed, given.first_seed + given.seeds):
                one = flipped(tailed(data, seed), way, seed)
                ranked = [pair for rank in ways for pair in rank(one, seed, given.penalty)]
                found.append({name: measured(one, order) for name, order in ranked})
                LOG.info("%s, %s, seed %d: %s", data.name, way, seed, found[-1]["ours"])
            table(data.name, way, found)


if __name__ == "__main__":
    main()
