"""A backbone in int8 beside the same in float: what it costs, how much faster it is, and how that was found.

    python benchmarks/int8.py BUNDLE [--keep FOLDER] [--repeats 3]

BUNDLE is one that `train` or `adopt` wrote, whose images are where its recipe says; it is copied first and stays as it
is. The int8 graph is made as `--int8` makes it, gate included. Then both graphs are timed `--repeats` times, with one
image and with four, in turns in one process on one thread; the median quotient is printed with its range. Recall is of
the hold-out's images, the change paired, with its 95 % interval. Printed are a row for each group and one for each
batch, for `benchmarks/results.md`.
"""

import argparse
import logging
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.speed import times_as_fast
from breadcrumbs.training.int8.int8 import add_int8

BATCHES = (1, 4)


def main() -> None:
    """Make it, time it, print rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--keep", type=Path, help="folder for the bundle with both backbones; default: it is removed")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with tempfile.TemporaryDirectory() as temporary:
        place = given.keep or Path(temporary) / "bundle"
        shutil.copytree(given.bundle, place)
        made = add_int8(bundles.read(place))
        tell(made.manifest.metrics["int8"])
        if made.has("int8"):
            time_both(made, given.repeats)


def tell(facts: dict[str, Any]) -> None:
    """Print what was found, and a row for each group."""
    calibration = facts["calibration"]
    print(f"calibrated on {calibration['images']} images of {calibration['classes']} classes")
    print(f"{facts.get('tries', 0)} tries; in float: {', '.join(facts.get('float_layers', ())) or 'no layer'}")
    print(f"refusal: {facts['refusal'] or 'none'}")
    if "cosine" in facts:
        print(f"cosine {facts['cosine']:.4f}; another top class for {100 * facts['differs']:.1f} % of the images")
    for name, change in facts.get("change", {}).items():
        value, low, high = (100 * change[key] for key in ("value", "low", "high"))
        print(f"| {name} | {value:+.1f} | {low:+.1f} … {high:+.1f} |")


def time_both(bundle: Bundle, repeats: int) -> None:
    """Print a row for each batch: how many times as fast int8 is."""
    preprocess = bundle.preprocess
    image = np.random.default_rng(0).integers(0, 256, (preprocess.height, preprocess.width, 3), np.uint8)
    paths = bundle.backbone_path(), bundle.backbone_path("int8")
    for batch in BATCHES:
        ratios = [times_as_fast(*paths, image, (batch,)) for _ in range(repeats)]
        print(f"| batch {batch} | {statistics.median(ratios):.2f} × | {min(ratios):.2f} … {max(ratios):.2f} |")


if __name__ == "__main__":
    main()
