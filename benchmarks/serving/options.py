"""What all options of a request cost together: the same load with them and without, on one server, in turns.

    python benchmarks/serving/options.py --bundle BUNDLE --images FOLDER [--users 1 4] [--seconds 6] [--rounds 5]

The bundle is an adopted one, so that it has rows to explain by. The options are a list of half of its classes, `known`,
`explain=3`, and, where it has a taxonomy, `confidence=0.9`. Every answer must have what was asked for; a server
explains four requests at a time and refuses more. Printed are the medians over the rounds and the ratios to the turn
without options of the same round.
"""

import argparse
import http.client
import itertools
import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
from lines import serving, tell, together

from breadcrumbs.models import bundle as bundles

IMAGES = 64
Turn = tuple[float, float, float]
"""Requests/s, and milliseconds of the median and the 99th percentile."""


def turn(port: int, users: int, seconds: float, images: list[bytes], path: str, wanted: set[str]) -> Turn:
    """Ask for some seconds; each answer must have these keys."""
    took, wrong, numbers = list[float](), list[str](), itertools.count()

    def user(_: int, over: threading.Event) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while not over.is_set():
            began = time.perf_counter()
            body = images[next(numbers) % len(images)]
            connection.request("POST", path, body, {"Content-Type": "application/octet-stream"})
            answer = connection.getresponse()
            told = json.loads(answer.read())
            took.append(1000 * (time.perf_counter() - began))
            if answer.status != 200 or not wanted <= told["predictions"][0].keys():
                wrong.append(f"{answer.status}, {told}")

    all_took = together(users, seconds, user)
    if wrong:
        sys.exit(f"{path}: {len(wrong)} of {len(took)} answers are not what was asked for, such as {wrong[0]}")
    return len(took) / all_took, float(np.median(took)), float(np.quantile(took, 0.99))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True, help="folder of image files")
    parser.add_argument("--users", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    bundle = bundles.read(given.bundle)
    files = sorted(path for path in given.images.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
    images = [path.read_bytes() for path in files[:: max(1, len(files) // IMAGES)][:IMAGES]]
    asked: dict[str, object] = {"classes": ",".join(bundle.manifest.classes[::2]), "known": 1, "explain": 3}
    wanted = {"known", "nearest"}
    if (given.bundle / bundles.TAXONOMY).exists():
        asked["confidence"] = 0.9
        wanted.add("node")
    ways = {"without": ("/v1/predict", set[str]()), "all options": (f"/v1/predict?{urlencode(asked)}", wanted)}
    with tempfile.TemporaryDirectory() as store, serving(given.bundle, Path(store)) as server:
        for path, keys in ways.values():  # the first request of a head reads its rows
            turn(server.port, 1, 1.0, images, path, keys)
        for users in given.users:
            found = {name: list[Turn]() for name in ways}
            for number in range(given.rounds):
                for name in list(ways)[:: -1 if number % 2 else 1]:
                    path, keys = ways[name]
                    found[name].append(turn(server.port, users, given.seconds, images, path, keys))
            for place, (what, unit) in enumerate((("requests", "a second"), ("p50", "ms"), ("p99", "ms"))):
                columns = {name: [one[place] for one in turns] for name, turns in found.items()}
                tell(f"{users} users, {what}", unit, columns)


if __name__ == "__main__":
    main()
