"""From labels to a live head: features are labelled over HTTP, a refit learns from them, and its head answers.

    python benchmarks/labels_to_live.py [--labels 10000] [--width 768] [--classes 100] [--l2 auto] [--repeats 3]

A `breadcrumbs serve` of its own on a bundle of features, whose snapshot has as many rows as there are labels. The rows
are drawn around class means, long-tailed, and every label is verified. The labels go in requests of 1,000, as fast as
they are acknowledged. The clock ends with the first prediction by the new head; the refit's stages are the job's own
events. Medians of `--repeats`, each with a store of its own.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from datetime import datetime
from pathlib import Path

from learning import World, bundled, serving, world

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.serving.client.client import Client
from breadcrumbs.serving.http.examples.schemas import LabelBody
from breadcrumbs.training.config import RefitSpec

TOGETHER = 1000  # labels of a request
LOOK = 0.01  # seconds between two questions which head answers


def said(own: World, count: int) -> list[LabelBody]:
    """Draw verified labels of features."""
    features, labels = own.rows(count)
    return [
        LabelBody.model_validate({"feature": row, "class": own.names[label], "verified": True, "by": "benchmark"})
        for row, label in zip(features.tolist(), labels, strict=True)
    ]


def once(client: Client, labels: list[LabelBody], probe: list[float], spec: RefitSpec) -> dict[str, float]:
    """Label, refit, wait for an answer by the new head; seconds of the labels, of each stage, and in all."""
    began = time.time()
    for start in range(0, len(labels), TOGETHER):
        client.labels(labels[start : start + TOGETHER])
    marks = [("labels", began), ("start", time.time())]
    job = client.refit(spec=spec, examples="verified").id
    for event in client.events(job):
        name = event.get("stage") if event["event"] == "stage" else event.get("state")
        if name not in {None, "queued", "running"}:
            marks.append((str(name), datetime.fromisoformat(event["at"]).timestamp()))
        if name in {"live", "report"} or event["event"] == "live":
            break
    while (ended := client.job(job)).verdict is None and not ended.error:
        time.sleep(LOOK)
    if ended.verdict is None or not ended.verdict.activated:
        raise RuntimeError(f"the refit came to nothing: {ended.error or ended.verdict}")
    while client.predict_features([probe]).head.version != ended.verdict.head:
        time.sleep(LOOK)
    marks.append(("end", time.time()))
    stages: dict[str, float] = {}
    for (name, at), (_, after) in itertools.pairwise(marks):
        stages[name] = stages.get(name, 0.0) + after - at
    return stages | {"in all": marks[-1][1] - began}


def measured(own: World, bundle: Bundle, count: int, spec: RefitSpec, folder: Path) -> dict[str, float]:
    """Start a server on a new store, and go the whole way."""
    labels = said(own, count)
    with serving(bundle, folder) as (client, _, _):
        return once(client, labels, own.means[0].tolist(), spec)


def main() -> None:
    """Measure and print a row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--labels", type=int, default=10_000)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--l2", default="auto")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    l2 = given.l2 if given.l2 == "auto" else float(given.l2)
    spec = RefitSpec.model_validate({"activate": "always", "l2": l2})
    with tempfile.TemporaryDirectory() as place:
        own = world(given.classes, given.width)
        bundle = bundled(own, Path(place) / "bundle", given.labels)
        found = [
            measured(own, bundle, given.labels, spec, Path(place) / f"store-{number}")
            for number in range(given.repeats)
        ]
    middle = {name: statistics.median(one.get(name, 0.0) for one in found) for name in found[0]}
    whole = [one["in all"] for one in found]
    print(f"{given.labels} labels, {given.width} numbers, {given.classes} classes, l2 {given.l2}, seconds:\n")
    print("| " + " | ".join(middle) + " | from … to |\n" + "| ---: " * (len(middle) + 1) + "|")
    print("| " + " | ".join(f"{value:.2f}" for value in middle.values()) + f" | {min(whole):.2f} … {max(whole):.2f} |")


if __name__ == "__main__":
    main()
