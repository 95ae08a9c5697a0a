"""What a prior, a list of classes and a taxonomy add to a request: microseconds, by number of classes.

    python benchmarks/request_options.py [--classes 1000 10000] [--repeats 2000] [--json]

Each step runs as the server runs it, on one thread, with the arrays of a head that has answered before. Printed are the
median and the 99th percentile of an image's step; beside them the softmax and ranking that every answer costs, and
what a head's first request costs once.
"""

import argparse
import csv
import io
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from breadcrumbs.models.head import LinearHead, ranked, softmax
from breadcrumbs.models.lineages import Lineages
from breadcrumbs.models.prior import Prior, only, split
from breadcrumbs.models.taxonomy import Taxonomy, parse

LISTED = 100
"""Classes that a request names."""
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
    return {step: timed(run, times) for step, (run, times) in steps.items()}


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
        began = time.perf_counter_ns()
        run()
        took.append((time.perf_counter_ns() - began) / 1000)
    return {"median": float(np.median(took)), "p99": float(np.quantile(took, 0.99))}


if __name__ == "__main__":
    main()
