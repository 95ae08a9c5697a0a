"""What went wrong with refits once, tried again with the default settings: before, and after.

    python benchmarks/refit_trust.py --features A.npz [B.npz …] [--seeds 5]

`features.py` makes the files. Of each set and seed the rows that are not trained on are dealt out, class by class: a
third each to the bundle's hold-out, to a test that no refit sees, and to the new images that come in later. The live
head is a refit of the training rows. "Before" is what happened until the refit was rebuilt, on sets of that time, so
only the kind of harm compares. Changes are of the live head's recall on the test: mean ± standard error, in points.
"""

import argparse
import logging
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from deployed import EPOCH, HOLDOUT, Deployed, deployed
from features import Features, Integers, read, take
from spread import change, spread

from breadcrumbs.training.config import RefitSpec
from breadcrumbs.training.metrics import Metrics
from breadcrumbs.training.refit import material
from breadcrumbs.training.refit.offset import Labelled
from breadcrumbs.training.refit.refit import Candidate
from breadcrumbs.training.refit.rows import RefitError

EXAMPLES = 5  # of the new class
FAR = 30.0  # how far the far row is from its class's mean, in standard deviations of all rows
LOG = logging.getLogger("refit_trust")


@dataclass(frozen=True, eq=False)
class World:
    """What is deployed, the rows of a test that no refit sees, the new images, and what draws."""

    own: Deployed
    test: Labelled
    new: Labelled
    rng: np.random.Generator


@dataclass(frozen=True)
class Outcome:
    """What came of one refit.

    Attributes:
        answer: of the gate, or the words of a refusal.
        before, after: the old classes on the test, by the live head and by the candidate.
        recall: of the class in question by either head.
    """

    answer: str
    before: Metrics | None = None
    after: Metrics | None = None
    recall: tuple[float | None, float | None] = (None, None)


def dealt(labels: Integers, rng: np.random.Generator) -> Integers:
    """Return the part of each row (N,), 0 … 2, every class dealt out evenly; one row goes to part 0."""
    part = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        own = rng.permutation(np.flatnonzero(labels == label))
        part[own] = np.arange(len(own)) % 3
    return part


def made(data: Features, seed: int, folder: Path, without: int | None = None) -> World:
    """Deploy a set, all of it or without a class, whose rows are then among the new images only."""
    rng = np.random.default_rng(seed)
    train, rest = data.split(seed)
    part = dealt(rest.labels, rng)
    holdout, test, new = (take(rest, part == number) for number in range(3))
    names = data.names
    if without is not None:
        own = train.labels == without
        new = take(train, own)
        order = [c for c in range(len(names)) if c != without]  # the class without becomes the last one
        names = tuple(names[c] for c in (*order, without))
        place = np.argsort([*order, without])
        train, holdout, test, new = (Labelled(r.features, place[r.labels]) for r in (train, holdout, test, new))
        known = len(names) - 1
        train, holdout = (take(r, r.labels < known) for r in (train, holdout))
        names = names[:known]
    first = deployed(folder / "first", names, train, holdout)
    live = first.refit(spec=RefitSpec(seed=seed)).head
    return World(deployed(folder / "bundle", names, train, holdout, live), test, new, rng)


def judged(world: World, candidate: Candidate, label: int | None = None) -> Outcome:
    """Measure a candidate beside the live head on the old classes of the test, and on one class."""
    own, known = world.own, len(world.own.live.classes)
    old = take(world.test, world.test.labels < known)
    before, after = own.measured(own.live, old), own.measured(candidate.head, old)
    recall: tuple[float | None, float | None] = (None, None)
    if label is not None:
        mine = take(world.test, world.test.labels == label)
        heads = (own.live, candidate.head)
        right = [float((head.logits(mine.features).argmax(1) == label).mean()) for head in heads]
        recall = (right[0], right[1]) if len(mine.labels) else (None, None)
    return Outcome(candidate.judged.gate.answer, before, after, recall)


def new_class(data: Features, seed: int, folder: Path) -> Outcome:
    """Five photos of a class that the live head does not know; another class for each seed, the smallest first."""
    counts = np.bincount(data.split(seed)[0].labels, minlength=len(data.names))
    able = np.flatnonzero(counts >= EXAMPLES)
    label = int(able[np.argsort(counts[able], kind="stable")][seed % len(able)])
    world = made(data, seed, folder, without=label)
    known = len(world.own.live.classes)
    photos = take(world.new, world.rng.permutation(len(world.new.labels))[:EXAMPLES])
    upload = world.own.rows(photos, (*world.own.live.classes, data.names[label]))
    candidate = world.own.refit(upload, spec=RefitSpec(allow_new_classes=True, seed=seed))
    return judged(world, candidate, known)


def two_mistakes(world: World, seed: int) -> Outcome:
    """Two new images that the live head got wrong, fed back with their classes."""
    wrong = np.flatnonzero(world.own.live.logits(world.new.features).argmax(1) != world.new.labels)
    photos = take(world.new, world.rng.permutation(wrong)[:2])
    return judged(world, world.own.refit(world.own.rows(photos), spec=RefitSpec(seed=seed)))


def new_rows(world: World, seed: int, count: int) -> Outcome:
    """So many new images of each class, or all that there are of it."""
    labels = world.new.labels
    chosen = np.concatenate([np.flatnonzero(labels == label)[:count] for label in np.unique(labels)])
    return judged(world, world.own.refit(world.own.rows(take(world.new, chosen)), spec=RefitSpec(seed=seed)))


def far_row(world: World, seed: int) -> Outcome:
    """One row far from its class, of the rarest one that is tested, and a hold-out without that class."""
    own = world.own
    tested = np.unique(world.test.labels)
    label = int(tested[np.bincount(own.train.labels, minlength=len(own.live.classes))[tested].argmin()])
    turn = world.rng.normal(size=own.train.features.shape[1])
    away = FAR * np.sqrt(own.train.features.var(0).sum()) * turn / np.linalg.norm(turn)
    mean = own.train.features[own.train.labels == label].mean(0)
    row = Labelled((mean + away).astype(np.float32)[None], np.array([label]))
    holdout = own.rows(take(own.holdout, own.holdout.labels != label), epoch=EPOCH, dataset=HOLDOUT)
    candidate = own.refit(own.rows(row), holdout=holdout, spec=RefitSpec(seed=seed))
    return judged(world, candidate, label)


def same_file(world: World, seed: int) -> Outcome:
    """The same file as snapshot and as hold-out."""
    upload = world.own.rows(world.new)
    try:
        return judged(world, world.own.refit(upload, holdout=upload, spec=RefitSpec(seed=seed)))
    except RefitError as error:
        return Outcome(f"refused: {error}")


def ids_from_zero(world: World, seed: int) -> Outcome:
    """Ids of the upload and of the training rows both from 0: every image must still be there, and every class."""
    own = world.own
    upload = own.rows(world.new, ids=np.arange(len(world.new.labels)))
    found = material.read(own.bundle, own.live, [upload], own.bundle.holdout(), "bundle", RefitSpec(seed=seed))
    apart = len(np.unique(np.concatenate([own.train.features, world.new.features]), axis=0))
    lost = apart - int(found.images.seen.sum())
    classes = len(np.unique(own.train.labels)) - len(np.unique(found.base.labels[found.fit[found.base.images]]))
    return Outcome(f"{lost} of {apart} images and {classes} classes lost")


Ask = Callable[[World, int], Outcome]

QUESTIONS: dict[str, tuple[str, Ask]] = {
    "two rows that the live head got wrong": ("yes; balanced −10, many −20 points", two_mistakes),
    **{
        f"{count} new row{'s' if count > 1 else ''} a class": (
            f"{then} %; pooled without moving {pooled} %",
            lambda world, seed, count=count: new_rows(world, seed, count),
        )
        for count, then, pooled in ((1, 72.2, 82.1), (2, 75.9, 81.3), (5, 79.9, 81.9))
    },
    "one far row, a hold-out without its class": ("yes, “No class lost recall”; that class is gone", far_row),
    "the same file as snapshot and hold-out": ("yes", same_file),
    "ids of an upload and of training from 0": ("unrelated rows removed, a class of one row vanished", ids_from_zero),
}
NEW_CLASS = "five photos of a new class"
NEW_CLASS_BEFORE = "yes, judged on 1 row; old classes 81.1 → 50.2 %, one at 0 %"


def outcomes(data: Features, seed: int) -> Iterator[tuple[str, Outcome]]:
    """Ask everything of one seed."""
    with tempfile.TemporaryDirectory() as folder:
        yield NEW_CLASS, new_class(data, seed, Path(folder))
        world = made(data, seed, Path(folder))
        for name, (_, ask) in QUESTIONS.items():
            yield name, ask(replace(world, rng=np.random.default_rng(seed)), seed)


def row(found: Sequence[Outcome]) -> str:
    """The cells of one question."""
    answers = Counter(one.answer for one in found)
    said = "; ".join(f"{answer} ({count} of {len(found)})" for answer, count in answers.most_common())
    pairs = [(one.before, one.after) for one in found if one.before and one.after]
    if not pairs:
        return f"{said} | – | – | – | –"
    before, after = ([pair[side] for pair in pairs] for side in (0, 1))
    level = f"{spread([m.balanced for m in before])} → {spread([m.balanced for m in after])}"
    moved = change([m.balanced for m in after], [m.balanced for m in before])
    many = change([m.many for m in after], [m.many for m in before])
    recalls = [spread([one.recall[side] for one in found]) for side in (0, 1)]
    return f"{said} | {level} | {moved} | {many} | {' → '.join(recalls) if recalls[0] != '–' else '–'}"


def main() -> None:
    """Ask each set, and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--features", type=Path, nargs="+", required=True)
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for path in given.features:
        data = read(path)
        found: dict[str, list[Outcome]] = {}
        for seed in range(given.seeds):
            for name, outcome in outcomes(data, seed):
                found.setdefault(name, []).append(outcome)
                LOG.info("%s, seed %d, %s: %s", data.name, seed, name, outcome.answer)
        before = {NEW_CLASS: NEW_CLASS_BEFORE, **{name: text for name, (text, _) in QUESTIONS.items()}}
        columns = ("before", "after: the gate says", "balanced", "change", "many, change", "the class in question")
        print(f"\n| {data.name} ({given.seeds} seeds) | {' | '.join(columns)} |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for name, own in found.items():
            print(f"| {name} | {before[name]} | {row(own)} |", flush=True)


if __name__ == "__main__":
    main()
