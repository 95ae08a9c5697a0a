"""What each option adds to a request: microseconds, by number of classes.

    python benchmarks/request_options.py [--classes 1000 10000] [--repeats 2000] [--json]

Each step runs as the server runs it, with the arrays of a head that has answered before; with OMP_NUM_THREADS=1 on one
thread. Printed are the median and the 99th percentile of an image's step, in CPU time, which other load hardly changes;
beside them the softmax and ranking that every answer costs, and what a head's first request costs once. A head has 20
rows of 1,280 numbers a class: `known` takes 65,536 points of them at most, `explain` searches 209,715 at most. Of
these it reads 2,048. Rows are drawn as pretrained features of photos are spread (30 % of the variance between classes,
falling as 1/j along the directions), and once without any structure. A temperature is in the head's weights, and costs
nothing.
"""

import argparse
import csv
import io
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from breadcrumbs.models.groups import GROUPS
from breadcrumbs.models.head import LinearHead, ranked, softmax
from breadcrumbs.models.known import DIRECTIONS, POINTS, STEPS, Known, unit
from breadcrumbs.models.lineages import Lineages
from breadcrumbs.models.prior import Prior, only, split
from breadcrumbs.models.taxonomy import Taxonomy, parse
from breadcrumbs.serving.learning.neighbours import Part, bounded, nearest

LISTED = 100
"""Classes that a request names."""
DIM, ROWS = 1280, 20
"""Numbers of a feature, and rows of each class."""
CONFIDENCE = 1.0
"""So that the whole lineage is summed, the root with all classes too."""


def main() -> None:
    """Measure, and print rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--classes", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = {count: measured(count, given.repeats) for count in given.classes}
    if given.json:
        print(json.dumps(found))
        return
    print("| step | " + " | ".join(f"{count:,} classes: median, 99 % (µs)" for count in found) + " |")
    print("| --- |" + " --- |" * len(found))
    for step in next(iter(found.values())):
        cells = (f"{own[step]['median']:.1f}, {own[step]['p99']:.1f}" for own in found.values())
        print(f"| {step} | " + " | ".join(cells) + " |")


def measured(count: int, repeats: int) -> dict[str, dict[str, float]]:
    """The microseconds of each step."""
    drawn = np.random.default_rng(0)
    names = [f"Genus {place // 5} species {place}" for place in range(count)]
    head = LinearHead(np.zeros((count, 1), np.float32), np.zeros(count, np.float32), tuple(names))
    logits = drawn.normal(size=count).astype(np.float32)
    weights = dict(zip(names, drawn.uniform(1, 100, count).tolist(), strict=True))
    prior = Prior(weights)
    tree = taxonomy(names)
    lineages = Lineages(tree, names)
    wanted = names[:: max(1, count // LISTED)]
    best, probabilities = int(logits.argmax()), softmax(logits)
    log = prior.log(head)
    steps: dict[str, tuple[Callable[[], Any], int]] = {
        "every answer: softmax and ranking": (lambda: ranked(logits, head.classes, 5), repeats),
        "a stored prior": (lambda: np.asarray(logits + prior.log(head), np.float32), repeats),
        f"{len(wanted)} classes in the request": (lambda: logits + only(split(wanted, head), head), repeats),
        "the deepest sure node": (lambda: lineages.deepest(probabilities, best, CONFIDENCE), repeats),
        "softmax for the node": (lambda: softmax(logits + log), repeats),
        "once for a prior and a head: log π": (lambda: Prior(weights).log(head), 20),
        "once for a head: lineages": (lambda: Lineages(tree, names).deepest(probabilities, best, CONFIDENCE), 20),
    }
    points, feature = known(count, drawn), drawn.normal(size=(1, DIM)).astype(np.float32)
    steps["known"] = lambda: points.of(feature), max(20, repeats // 20)
    found = {step: timed(run, times) for step, (run, times) in steps.items()}
    for what, share, falling in (("", 0.3, 0.5), ("; rows without structure", 0.0, 0.0)):
        found |= explained(count, drawn, share, falling, what)
    return found


def explained(count: int, drawn: np.random.Generator, share: float, falling: float, what: str) -> dict[str, Any]:
    """The microseconds of the rows of an answer; the j-th direction has j^−falling of the first one's deviation."""
    labels = np.arange(ROWS * count) % count
    scale = np.arange(1, DIM + 1, dtype=np.float32) ** -falling
    centres = np.sqrt(share) * drawn.standard_normal((count, DIM), np.float32)

    def row(of: np.ndarray) -> np.ndarray:
        return scale * (centres[of] + np.sqrt(1 - share) * drawn.standard_normal((len(of), DIM), np.float32))

    rows = np.concatenate([row(some).astype(np.float16) for some in np.array_split(labels, 64)])
    (part,) = bounded([Part(rows, np.arange(len(rows)), labels)])
    began = time.process_time()
    parts = [part.sketched()]
    once = (time.process_time() - began) * 1e6
    features = iter(row(drawn.integers(0, count, 1000))[:, None])
    return {
        f"once for a head: the sketch of its rows{what}": {"median": once, "p99": once},
        f"explain: 3 rows{what}": timed(lambda: nearest(parts, next(features), 3), 50 if share else 5),
    }


def known(count: int, drawn: np.random.Generator) -> Known:
    """The points of a head of so many classes."""
    labels = np.arange(ROWS * count) % count
    kept = min(POINTS, len(labels))
    scales = np.tile(np.linspace(0, 1, STEPS, dtype=np.float32), (len(GROUPS), 1))
    own = unit(drawn.normal(size=(kept, DIRECTIONS)).astype(np.float32))
    basis = drawn.normal(size=(DIM, DIRECTIONS)).astype(np.float32)
    return Known(basis, own, labels[:kept] % len(GROUPS), scales)


def taxonomy(names: list[str]) -> Taxonomy:
    """Five species a genus, ten genera a family, and four ranks above."""
    file = io.StringIO()
    table = csv.writer(file)
    table.writerow(["class", "genus", "family", "order", "class of animals", "phylum", "kingdom"])
    for place, name in enumerate(names):
        sizes = (5, 50, 500, 1000, 5000)
        table.writerow([name, *(f"group {place // size}" for size in sizes), "all"])
    return parse(file.getvalue().encode())


def timed(run: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Median and 99th percentile of a step, after a first run that is not counted."""
    run()
    took = []
    for _ in range(repeats):
        began = time.process_time_ns()
        run()
        took.append((time.process_time_ns() - began) / 1000)
    return {"median": float(np.median(took)), "p99": float(np.quantile(took, 0.99))}


if __name__ == "__main__":
    main()
