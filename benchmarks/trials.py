"""Trials of heads, simulated: how often a head is rolled back that is no worse, and how soon one that is.

    python benchmarks/trials.py FEATURES.npz [--trials 1000] [--labels 500] [--seeds 10]

FEATURES is a file of `benchmarks/features.py`. Two heads are least-squares heads on halves of the training rows. Labels
are test rows, drawn with replacement. *No worse*: for every label a coin says which of the two heads is on trial, so
that they differ in much and neither is worse. *Itself*: both are one head. *Permuted*: the rows of the few-shot classes
of the head are exchanged in a circle. *Past the gate*: a permuted head as the real gate lets it pass by a hold-out that
is older than the names: in it the few-shot classes have the names that the permuted head gives them. A seed draws its
own halves and its own circle; where the gate does not say yes, that is printed and nothing is tried. What the gate says
of a hold-out without rows of these classes is printed, too. It knows nothing of servers.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.groups import Group, groups
from breadcrumbs.serving.trials.evidence import Tally, shows_less
from breadcrumbs.serving.trials.trial import GROUPS
from breadcrumbs.training.pairs import pairs
from breadcrumbs.training.refit.gate import judged

ALPHA = 0.05
TOLERANCE = 0.01
"""Recall that the gate lets a group lose."""
Right = tuple[NDArray[np.bool_], NDArray[np.bool_]]


def fitted(features: NDArray[np.float64], labels: NDArray[np.int64], classes: int) -> NDArray[np.float64]:
    """A balanced ridge head (D, C)."""
    weights = 1 / np.bincount(labels, minlength=classes)[labels]
    scaled = features * weights[:, None]
    return np.linalg.solve(features.T @ scaled + 0.1 * np.eye(features.shape[1]), scaled.T @ np.eye(classes)[labels])


def stopped_at(right: Right, group: NDArray[np.str_]) -> int | None:
    """After how many labels the head is stopped. None: never."""
    counts = {name: [0, 0, 0] for name in GROUPS}
    for number, (head, against, name) in enumerate(zip(*right, group, strict=True), 1):
        for one in ("all", name):
            counts[one][1 - int(head) + int(against)] += 1
            if against and not head:
                gained, even, lost = counts[one]
                if shows_less(Tally(gained, even, lost), 0, ALPHA / len(GROUPS)):
                    return number
    return None


def halves(
    train: NDArray[np.float64], labels: NDArray[np.int64], classes: int, random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two heads (D, C), each fitted to a drawn half of the rows, with every class in both."""
    half = random.random(len(train)) < 0.5
    for one in range(classes):
        some = np.flatnonzero(labels == one)
        half[some[0]] = True
        half[some[-1]] = len(some) == 1
    first, second = (fitted(train[some], labels[some], classes) for some in (half, ~half))
    return first, second


def answer(
    live: NDArray[np.float64], candidate: NDArray[np.float64], rows: NDArray[np.int64], group: list[Group]
) -> str:
    """What the gate says of a candidate's logits (N, C) beside the live head's, by labels (N,)."""
    counts = pairs(live.astype(np.float32), candidate.astype(np.float32), rows)
    classes = len(group)
    return judged(counts, group, [str(one) for one in range(classes)], classes, TOLERANCE).gate.answer


def past_the_gate(
    train: NDArray[np.float64], labels: NDArray[np.int64], test: NDArray[np.float64], truth: NDArray[np.int64],
    group: NDArray[np.str_], asked: argparse.Namespace,
) -> None:  # fmt: skip
    """Print after how many labels permuted heads are stopped that an old hold-out let pass."""
    kept, own = np.unique(truth, return_inverse=True)  # without test rows no class can be measured
    names: list[Group] = group[kept].tolist()
    few = np.flatnonzero(group[kept] == "few")
    found: list[int | None] = []
    gates: Counter[tuple[str, str]] = Counter()
    for seed in range(asked.seeds):
        random = np.random.default_rng(1000 + seed)
        live = halves(train, labels, len(group), random)[0][:, kept]
        circle = random.permutation(few)
        permuted, old = live.copy(), np.arange(len(kept))
        permuted[:, circle] = live[:, np.roll(circle, 1)]
        old[np.roll(circle, 1)] = circle  # what the permuted head calls each class
        before, after = test @ live, test @ permuted
        rest = ~np.isin(own, few)
        says = answer(before, after, old[own], names), answer(before[rest], after[rest], own[rest], names)
        gates[says] += 1
        if says[0] != "yes":
            continue
        right = after.argmax(1) == own, before.argmax(1) == own
        for _ in range(asked.trials // asked.seeds):
            rows = random.integers(0, len(test), asked.labels)
            found.append(stopped_at((right[0][rows], right[1][rows]), group[truth[rows]]))
    print(f"the gate, by the old hold-out, and by one without these classes: {dict(gates)}")
    tell(f"past the gate, {len(few)} of {len(kept)} classes permuted", found, asked.labels)


def tell(name: str, found: Sequence[int | None], labels: int) -> None:
    """Print how many trials were stopped, and when."""
    ended = [one for one in found if one is not None]
    soon = f"; labels: median {np.median(ended):.0f}, 95 % {np.percentile(ended, 95):.0f}" if ended else ""
    print(f"{name}: {len(ended)} of {len(found)} stopped within {labels} labels{soon}", flush=True)


def main() -> None:
    """Print a row for each case."""
    parser = argparse.ArgumentParser()
    parser.add_argument("features", type=Path)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--labels", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=10)
    asked = parser.parse_args()
    data = np.load(asked.features)
    rows, own = data["x"].astype(np.float64), data["y"].astype(np.int64)
    classes = int(own.max()) + 1
    fitting = np.random.default_rng(1).random(len(rows)) < 0.6
    for one in range(classes):  # every class is fitted and tested
        some = np.flatnonzero(own == one)
        fitting[some[:2]], fitting[some[2:3]] = True, False
    train, labels, test, truth = rows[fitting], own[fitting], rows[~fitting], own[~fitting]
    group = np.array(groups(np.bincount(labels, minlength=classes).tolist(), "A"))
    random = np.random.default_rng(0)
    first, second = halves(train, labels, classes, random)
    few = np.flatnonzero(group == "few")
    if not len(few):
        few = np.argsort(np.bincount(labels, minlength=classes))[: max(2, classes // 3)]
    permuted = first.copy()
    permuted[:, few] = first[:, np.roll(few, 1)]
    said = {
        name: (test @ head).argmax(1) == truth
        for name, head in {"first": first, "second": second, "permuted": permuted}.items()
    }

    def no_worse(rows: NDArray[np.int64]) -> Right:
        coin = random.random(len(rows)) < 0.5
        a, b = said["first"][rows], said["second"][rows]
        return np.where(coin, a, b), np.where(coin, b, a)

    cases: dict[str, Callable[[NDArray[np.int64]], Right]] = {
        "itself": lambda rows: (said["first"][rows], said["first"][rows]),
        "no worse": no_worse,
        "permuted": lambda rows: (said["permuted"][rows], said["first"][rows]),
    }
    print(
        f"{len(test)} test rows, {classes} classes, {len(few)} permuted; recall "
        + ", ".join(f"{name} {100 * right.mean():.1f}" for name, right in said.items())
    )
    for name, draw in cases.items():
        found = []
        for _ in range(asked.trials):
            rows = random.integers(0, len(test), asked.labels)
            found.append(stopped_at(draw(rows), group[truth[rows]]))
        tell(name, found, asked.labels)
    past_the_gate(train, labels, test, truth, group, asked)


if __name__ == "__main__":
    main()
