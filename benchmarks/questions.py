"""Which questions find the rare classes: a hundred labels by each strategy of the queue, and what a refit makes of it.

    python benchmarks/questions.py --features A.npz [B.npz …] [--seeds 5] [--labels 10 25 50 100] [--l2 auto]

`features.py` makes the files. Of each set and seed three tenths of a class are tested on; one half of the rest is what
the bundle was trained on, and the other half comes in as answers. The live head is a refit of the training rows. The
server's own queue (`serving.learning.worth`) ranks the answers in a real store, once, before any label; `random` draws
them. Then the first labels of each order go into the product's own refit. The few-shot classes are those with at most
20 training rows. Pairs are over seeds: each strategy sees the same rows and the same live head.
"""

import argparse
import asyncio
import hashlib
import logging
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from deployed import Deployed, deployed
from features import SHARE, Features, Integers, read, take
from spread import change, spread

from breadcrumbs.models.groups import groups
from breadcrumbs.models.head import LinearHead
from breadcrumbs.serving.learning import worth
from breadcrumbs.serving.learning.answer import Origin
from breadcrumbs.serving.learning.answers import Answers
from breadcrumbs.serving.learning.bounds import Bounds
from breadcrumbs.serving.learning.examples import Examples
from breadcrumbs.serving.predict.engine import BoundHead, Scores
from breadcrumbs.serving.state.store import Store
from breadcrumbs.training.config import RefitSpec
from breadcrumbs.training.refit.offset import Labelled

LOG = logging.getLogger("questions")
RANDOM = "random"
STRATEGIES = (*get_args(worth.Single), "mixed", RANDOM)
GAIN = 0.1  # of the recall on the few, that labels are counted to


@dataclass(frozen=True, eq=False)
class World:
    """What is deployed, the answers that are not labelled yet, and the rows that are tested on."""

    own: Deployed
    hidden: Labelled
    test: Labelled
    few: "np.ndarray[tuple[int], np.dtype[np.bool_]]"


@dataclass(frozen=True)
class Asked:
    """What came of one strategy and seed.

    Attributes:
        found: few-shot images among the questions.
        few, all: of the head after each number of labels, the live head's first.
    """

    found: int
    few: tuple[float, ...]
    all: tuple[float, ...]


def made(data: Features, spec: RefitSpec, folder: Path) -> World:
    """Deploy the training rows of a seed."""
    rng = np.random.default_rng(spec.seed)
    parts: dict[str, list[Integers]] = {"test": [], "start": [], "hidden": []}
    for label in range(len(data.names)):
        rows = rng.permutation(np.flatnonzero(data.rows.labels == label))
        aside = max(1, round(SHARE * len(rows)))
        rest = rows[aside:][: None if data.counts is None else int(data.counts[label])]
        half = (len(rest) + 1) // 2
        for name, some in zip(parts, (rows[:aside], rest[:half], rest[half:]), strict=True):
            parts[name].append(some)
    test, start, hidden = (take(data.rows, np.concatenate(some)) for some in parts.values())
    first = deployed(folder / "first", data.names, start, test)
    live = first.refit(spec=spec).head
    counts = np.bincount(start.labels, minlength=len(data.names))
    few = np.array([group == "few" for group in groups(counts.tolist(), "A")])
    return World(deployed(folder / "bundle", data.names, start, test, live), hidden, test, few)


async def orders(world: World, most: int, seed: int, folder: Path) -> dict[str, Integers]:
    """The rows that each strategy asks about, in its order."""
    store = Store.open(folder)
    names = world.own.live.classes
    counts = np.bincount(world.own.train.labels, minlength=len(names))
    answers = Answers(
        store, Bounds(10**6, 30, 2**40, False), dict(zip(names, groups(counts.tolist(), "A"), strict=True))
    )
    place = {}
    head = BoundHead(1, world.own.live, None, None)
    for row, (feature, logits) in enumerate(
        zip(world.hidden.features, world.own.live.logits(world.hidden.features), strict=True)
    ):
        content = hashlib.sha256(feature.tobytes()).hexdigest()
        origin = Origin("feature", content, world.own.bundle.backbone_digest, None, "")
        answers.remember(Scores(feature, logits, head), origin)
        place[content] = row
    found: dict[str, Integers] = {}
    for strategy in STRATEGIES:
        if strategy == RANDOM:
            found[strategy] = np.random.default_rng(seed).permutation(len(world.hidden.labels))[:most]
            continue
        best = await worth.best(answers, Examples(store), world.own.bundle, strategy, most)
        found[strategy] = np.array([place[one.answer.origin.content] for one in best])
    return found


def asked(world: World, order: Integers, labels: Sequence[int], spec: RefitSpec) -> Asked:
    """Label so many of the questions, refit, and test."""
    heads = [world.own.live]
    for count in labels:
        upload = world.own.rows(take(world.hidden, order[:count]))
        heads.append(world.own.refit(upload, spec=spec).head)
    few, every = zip(*(tested(world, head) for head in heads), strict=True)
    return Asked(int(world.few[world.hidden.labels[order[: labels[-1]]]].sum()), few, every)


def tested(world: World, head: LinearHead) -> tuple[float, float]:
    """Mean recall of the few-shot classes, and of all classes, on the test."""
    right = head.logits(world.test.features).argmax(1) == world.test.labels
    recall = np.array([right[world.test.labels == label].mean() for label in range(len(world.few))])
    return float(recall[world.few].mean()), float(recall.mean())


def needed(labels: Sequence[int], few: Sequence[float]) -> float | None:
    """Labels until the few gained GAIN, on straight lines between what was measured. None means never."""
    marks = [0, *labels]
    for place in range(1, len(marks)):
        before, after = (few[k] - few[0] for k in (place - 1, place))
        if after >= GAIN:
            return marks[place - 1] + (marks[place] - marks[place - 1]) * (GAIN - before) / (after - before)
    return None


def table(name: str, found: dict[str, list[Asked]], labels: Sequence[int], hidden: str) -> None:
    """Print the rows of one set."""
    columns = ["few-shot images found", *(f"few, gain by {count}" for count in labels)]
    columns += [f"few less random by {labels[-1]}", f"all, gain by {labels[-1]}", "labels to +10 on the few"]
    print(f"\n| {name}: {hidden} | {' | '.join(columns)} |\n|{' --- |' * (len(columns) + 1)}")
    for strategy, own in found.items():
        cells = [f"{np.mean([one.found for one in own]):.1f} ± {np.std([one.found for one in own], ddof=1):.1f}"]
        start = [one.few[0] for one in own]
        cells += [change([one.few[place] for one in own], start) for place in range(1, len(labels) + 1)]
        cells.append(change([one.few[-1] for one in own], [one.few[-1] for one in found[RANDOM]]))
        cells.append(change([one.all[-1] for one in own], [one.all[0] for one in own]))
        counts = [needed(labels, one.few) for one in own]
        reached = [count for count in counts if count is not None]
        cells.append(f"{np.median(reached):.0f} ({len(reached)} of {len(own)})" if reached else f"over {labels[-1]}")
        print(f"| {strategy} | {' | '.join(cells)} |", flush=True)
    print(f"\nThe live head: few {spread([one.few[0] for one in found[RANDOM]])}.", flush=True)


def main() -> None:
    """Ask each set, and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--features", type=Path, nargs="+", required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--labels", type=int, nargs="+", default=[10, 25, 50, 100])
    parser.add_argument("--l2", type=lambda text: text if text == "auto" else float(text), default="auto")
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    LOG.setLevel(logging.INFO)
    for path in given.features:
        data = read(path)
        found: dict[str, list[Asked]] = {strategy: [] for strategy in STRATEGIES}
        hidden = []
        for seed in range(given.seeds):
            spec = RefitSpec.model_validate({"l2": given.l2, "seed": seed})
            with tempfile.TemporaryDirectory() as folder:
                world = made(data, spec, Path(folder))
                hidden.append(f"{world.few[world.hidden.labels].sum()} of {len(world.hidden.labels)}")
                chosen = asyncio.run(orders(world, given.labels[-1], seed, Path(folder) / "store"))
                for strategy, order in chosen.items():
                    found[strategy].append(asked(world, order, given.labels, spec))
                    LOG.info("%s, seed %d, %s: %s", data.name, seed, strategy, found[strategy][-1])
        table(data.name, found, given.labels, f"{hidden[0]} hidden are few-shot, {given.seeds} seeds")


if __name__ == "__main__":
    main()
