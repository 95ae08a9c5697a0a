"""The most that any server could reach here: decode and compute without HTTP, in one process.

    python benchmarks/serving/ceiling.py FOLDER [SECONDS]     prints JSON

`images_per_second`: of one session with all cores and of one one-thread session a core, each at batches of 1 … 64; the
best of them is the ceiling. It is to be chosen by medians of several runs, since the best of one run is the luckiest.
`call_ms` and `decode_ms`: a lone image, computed by the session with all cores. It knows nothing of servers.
"""

import json
import os
import statistics
import sys
import threading
import time
from pathlib import Path

import numpy as np
from peers.scorer import Scorer

SIZES = (1, 2, 4, 8, 16, 32, 64)


def rate(scorers: list[Scorer], photos: list[bytes], size: int, seconds: float) -> float:
    """Images a second of one thread for each scorer, in batches of `size`."""
    done = [0] * len(scorers)
    until = time.perf_counter() + seconds

    def work(place: int) -> None:
        first = place
        while time.perf_counter() < until:
            batch = [photos[(first + k) % len(photos)] for k in range(size)]
            scorers[place].probabilities(np.stack([scorers[place].load(photo) for photo in batch]))
            done[place] += size
            first += size

    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(scorers))]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (time.perf_counter() - began)


def lone(scorer: Scorer, photos: list[bytes], seconds: float) -> tuple[float, float]:
    """Median milliseconds to decode an image, and to compute it."""
    decode, compute = [], []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        pixels = scorer.load(photos[len(decode) % len(photos)])
        middle = time.perf_counter()
        scorer.probabilities(pixels[None])
        decode.append(middle - began)
        compute.append(time.perf_counter() - middle)
    return 1000 * statistics.median(decode), 1000 * statistics.median(compute)


def main() -> None:
    """Measure one model's."""
    folder, seconds = Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 2.0
    photos = [path.read_bytes() for path in sorted((folder / "photos").iterdir())]
    cores = len(os.sched_getaffinity(0))
    ways = {
        "one session": [Scorer(folder / "bundle")],
        "one a core": [Scorer(folder / "bundle", 1) for _ in range(cores)],
    }
    for scorers in ways.values():
        rate(scorers, photos, 4, 0.5)
    found = {f"{way}, batches of {size}": rate(ways[way], photos, size, seconds) for way in ways for size in SIZES}
    decode, call = lone(ways["one session"][0], photos, seconds)
    json.dump({"images_per_second": found, "call_ms": call, "decode_ms": decode}, sys.stdout)


if __name__ == "__main__":
    main()
