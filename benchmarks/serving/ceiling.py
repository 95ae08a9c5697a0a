"""The most that any server could reach here: decode and compute without HTTP, in one process.

    python benchmarks/serving/ceiling.py FOLDER [--seconds 2] [--device cpu] [--pixels]     prints JSON

`images_per_second`: on a CPU of one session with all cores and of one one-thread session a core, each at batches of
1 … 64; on a GPU of one session, called by one thread and by two, at batches of 1 … 256. The best of them is the
ceiling. It is to be chosen by medians of several runs, since the best of one run is the luckiest. `call_ms` and
`decode_ms`: a lone image. With `--pixels` the images come decoded. It knows nothing of servers.
"""

import argparse
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from peers.scorer import Scorer

from breadcrumbs.models.arrays import Pixels

SIZES = {"cpu": (1, 2, 4, 8, 16, 32, 64), "cuda": (1, 2, 4, 8, 16, 32, 64, 128, 256)}

Image = Callable[[int], Pixels]
"""The n-th image (H, W, 3), decoded now or before."""


def rate(scorers: list[Scorer], image: Image, size: int, seconds: float) -> float:
    """Images a second of one thread for each scorer, in batches of `size`."""
    done = [0] * len(scorers)
    until = time.perf_counter() + seconds

    def work(place: int) -> None:
        first = place
        while time.perf_counter() < until:
            scorers[place].probabilities(np.stack([image(first + k) for k in range(size)]))
            done[place] += size
            first += size

    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(scorers))]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (time.perf_counter() - began)


def lone(scorer: Scorer, image: Image, seconds: float) -> tuple[float, float]:
    """Median milliseconds to have an image, and to compute it."""
    decode, compute = [], []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        pixels = image(len(decode))
        middle = time.perf_counter()
        scorer.probabilities(pixels[None])
        decode.append(middle - began)
        compute.append(time.perf_counter() - middle)
    return 1000 * statistics.median(decode), 1000 * statistics.median(compute)


def ways_of(bundle: Path, device: str) -> dict[str, list[Scorer]]:
    """The ways to use a device: for each thread its session."""
    whole = Scorer(bundle, device=device)
    if device == "cuda":
        return {"one thread": [whole], "two threads": [whole, whole]}
    return {"one session": [whole], "one a core": [Scorer(bundle, 1) for _ in os.sched_getaffinity(0)]}


def main() -> None:
    """Measure one model's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--device", choices=list(SIZES), default="cpu")
    parser.add_argument("--pixels", action="store_true", help="images come decoded")
    given = parser.parse_args()
    ways = ways_of(given.folder / "bundle", given.device)
    scorer = next(iter(ways.values()))[0]
    photos = [path.read_bytes() for path in sorted((given.folder / "photos").iterdir())]
    decoded = [scorer.load(photo) for photo in photos] if given.pixels else []

    def image(number: int) -> Pixels:
        place = number % len(photos)
        return decoded[place] if decoded else scorer.load(photos[place])

    for scorers in ways.values():
        rate(scorers, image, 4, 0.5)
    found = {
        f"{way}, batches of {size}": rate(ways[way], image, size, given.seconds)
        for way in ways
        for size in SIZES[given.device]
    }
    decode, call = lone(scorer, image, given.seconds)
    json.dump({"images_per_second": found, "call_ms": call, "decode_ms": decode}, sys.stdout)


if __name__ == "__main__":
    main()
