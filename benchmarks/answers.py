"""A store with very many remembered answers: its bytes, the start of a server on it, a queue, a label.

    python benchmarks/answers.py [--answers 1000000] [--width 768] [--classes 1000] [--repeats 5] [--store FOLDER]

The answers are drawn, and written by the store's own writer, in segments as large as merged ones. They are of the last
day, by one head, a feature each in f16. Then a `breadcrumbs serve` of its own opens the store, is asked for a queue of
100 by every strategy, first when it has just started, and gets labels of answers drawn from the whole store. Memory is
the server's (PSS), before the first queue and at the end. `--store` keeps the store for another run.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
from learning import RATIO, SPACE, World, bundled, serving, world

sys.path.append(str(Path(__file__).parent / "serving"))
from servers import Running

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.serving.http.examples.schemas import LabelBody
from breadcrumbs.serving.http.service import groups_of
from breadcrumbs.serving.learning import answer_ids, answers, worth
from breadcrumbs.serving.learning.answer import Asked, Origin, answered, to_record
from breadcrumbs.serving.learning.answers import Answers
from breadcrumbs.serving.learning.bounds import Bounds
from breadcrumbs.serving.learning.examples import Examples
from breadcrumbs.serving.predict.engine import BoundHead, Scores
from breadcrumbs.serving.state.segments import Segments
from breadcrumbs.serving.state.store import Store

DAY = 86_400_000  # milliseconds
QUESTIONS = 100
LABELS = 20


def records(own: World, bundle: Bundle, count: int, together: int) -> Iterator[list[Any]]:
    """Draw answers, the oldest first, so many at a time."""
    head = BoundHead(1, bundle.head(), None, None)
    groups = groups_of(bundle)
    few = np.array([groups[name] == "few" for name in own.names])
    begin = time.time_ns() // 1_000_000 - DAY
    for start in range(0, count, together):
        features, _ = own.rows(min(together, count - start))
        logits = head.head.logits(features)
        some = []
        for place, (feature, own_logits) in enumerate(zip(features, logits, strict=True), start):
            at = begin + place * (DAY - 60_000) // count
            origin = Origin("feature", f"{place:064x}", SPACE, None, f"camera 7/{place}.jpg")
            some.append(Asked(answer_ids.make(at), at * 1000, Scores(feature, own_logits, head), origin))
        yield [to_record(one) for one in answered(some, few)]


async def fill(own: World, bundle: Bundle, folder: Path, count: int) -> list[str]:
    """Write a store and its indexes; some of the ids."""
    store = Store.open(folder)
    segments, known = Segments(store, answers.PREFIX), list[str]()
    together = max(1, answers.LARGEST // (2 * len(own.means[0]) + 900))
    for some in records(own, bundle, count, together):
        await segments.append(some)
        known += [one.id for one in some]
    examples = Examples(store)
    kept = Answers(store, Bounds(10**7, 30, 2**45, False), groups_of(bundle))

    async def measure() -> Any:
        return await worth.measure(examples, bundle)

    await kept.keep(measure=measure)
    return np.random.default_rng(1).choice(known, 2 * LABELS, replace=False).tolist()


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of what is kept."""
    return {
        name: sum(path.stat().st_size for path in (folder / name).glob("*")) for name in ("answers", "indexes")
    }  # fmt: skip


def timed(work: Callable[[], Any], repeats: int) -> str:
    """The first time, then the median and the longest of the others, in milliseconds."""
    took = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        work()
        took.append(1000 * (time.perf_counter() - began))
    return f"{took[0]:.0f} | {statistics.median(took[1:]):.1f} | {max(took[1:]):.1f}"


def main() -> None:
    """Fill, serve, ask, and print rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--answers", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--store", type=Path, help="an empty folder, or one that an earlier run has left")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        own = world(given.classes, given.width)
        bundle = bundled(own, Path(place) / "bundle", 20 * given.classes)
        folder = given.store or Path(place) / "store"
        ids = folder / "ids.json"
        if not ids.exists():
            found = asyncio.run(fill(own, bundle, folder, given.answers))
            ids.write_text(json.dumps(found))
        drawn = iter(json.loads(ids.read_text()))
        size = sizes(folder)
        flags = ["--remember", str(10**7), "--remember-bytes", str(2**45)]
        with serving(bundle, folder, flags) as (client, process, ready):
            running = Running(process, 0, ready)
            before = running.resident()
            print(f"{given.answers} answers, {given.width} numbers each, {given.classes} classes, tail 1 : {RATIO}: "
                  f"{size['answers']} bytes, indexes {size['indexes']}; ready in {ready:.2f} s\n")  # fmt: skip
            print("| what | first, ms | median, ms | longest, ms |\n| --- | ---: | ---: | ---: |", flush=True)
            for strategy in (*get_args(worth.Single), "mixed"):
                row = timed(lambda chosen=strategy: client.queue(chosen, QUESTIONS), given.repeats)  # type: ignore[misc]
                print(f"| queue of {QUESTIONS}, {strategy} | {row} |", flush=True)
            row = timed(
                lambda: client.labels([LabelBody.model_validate({"answer": next(drawn), "class": "class 1"})]),
                LABELS - 1,
            )
            print(f"| a label of an answer | {row} |")
            print(f"| an answer | {timed(lambda: client.answer(next(drawn)), LABELS - 1)} |")
            print(f"| queue of {QUESTIONS}, mixed, after them | {timed(lambda: client.queue('mixed'), 1)} |")
            print(f"\nmemory: {before:.0f} MiB before the first queue, {running.resident():.0f} at the end")


if __name__ == "__main__":
    main()
