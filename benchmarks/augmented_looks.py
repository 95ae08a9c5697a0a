"""How many augmented looks pay, and how they are moved: what `adopt --looks` should be by default.

    python benchmarks/augmented_looks.py --features photos-lite0.npz fashion-lite0.npz [--seeds 5] [--looks 1 2 4]

The files have looks (`features.py --looks 4`). The head is fitted to the clean look of the training rows alone, and to
it with the first K augmented looks, each image weighing the same. λ 1e-3, t 1, plain: nothing is chosen, so that the
rows differ by their looks only. A look goes to the clean one in three ways:

    unmoved      as it is
    by class     by eq. 6, the class's mean onto that of the clean look
    by image     the mean of an image's looks onto its clean feature; of one look nothing is left, so it is not tried

Told is balanced accuracy and that of the few on the test rows, in %, and the differences from the clean look alone in
points, paired by seed, ± standard error. It knows nothing of images.
"""

import argparse
import logging
import sys
import tempfile
from pathlib import Path

import numpy as np
from deployed import EPOCH, TRAINING, Deployed, deployed
from features import Features, Integers, read, take
from spread import spread

from breadcrumbs.models.arrays import Floats
from breadcrumbs.training.config import RefitSpec, Transfer
from breadcrumbs.training.metrics import Metrics
from breadcrumbs.training.refit.offset import Labelled

LOG = logging.getLogger("looks")

WAYS: dict[str, Transfer] = {"unmoved": "none", "by class": "emanate", "by image": "none"}
GIVEN = {"l2": 1e-3, "prior_offset": 1.0, "members": ("plain",)}
ALONE = "clean look alone"


def by_image(clean: Floats, looks: Floats) -> Floats:
    """Move each image's looks (K, N, D) so that their mean is its clean feature (N, D)."""
    return looks - looks.mean(0) + clean


def measured(own: Deployed, looks: Floats, transfer: Transfer) -> Metrics:
    """What the head of the clean look and these looks (K, N, D) gives on the test rows."""
    ids = np.arange(len(own.train.labels))
    uploads = [
        own.rows(Labelled(look, own.train.labels), ids=ids, dataset=TRAINING, epoch=EPOCH - number)
        for number, look in enumerate(looks, 1)
    ]
    spec = RefitSpec.model_validate(GIVEN | {"transfer": transfer})
    return own.measured(own.refit(*uploads, spec=spec).head, own.holdout)


def one_seed(data: Features, seed: int, counts: list[int]) -> dict[str, Metrics]:
    """Every number of looks and every way, on one draw of training and test rows."""
    train, test = data.drawn(seed)
    tested = data.test if test is None else take(data.rows, test)
    if tested is None:
        raise SystemExit(f"{data.name}: expected rows to test on, found none; make the file by features.py")
    looks = data.looks[:, train]
    with tempfile.TemporaryDirectory() as folder:
        own = deployed(Path(folder), data.names, take(data.rows, train), tested)
        found = {ALONE: measured(own, looks[:0], "leave out")}
        for count in counts:
            for way, transfer in WAYS.items():
                if way == "by image" and count == 1:
                    continue
                some = looks[:count]
                given = by_image(own.train.features, some) if way == "by image" else some
                found[f"{count} look{'s' * (count > 1)}, {way}"] = measured(own, given, transfer)
    return found


def table(name: str, found: list[dict[str, Metrics]]) -> None:
    """Print the means over the seeds, and the paired differences from the clean look alone."""
    print(f"\n| {name} ({len(found)} seeds) | balanced | few | more than alone: balanced | few |\n|{' --- |' * 5}")
    for row in found[0]:
        balanced, few = ([getattr(one[row], part) for one in found] for part in ("balanced", "few"))
        cells = [spread(balanced), spread(few)]
        for part in ("balanced", "few"):
            apart = [getattr(one[row], part) - getattr(one[ALONE], part) for one in found]
            cells.append("" if row == ALONE else difference(np.array(apart)))
        print(f"| {row} | {' | '.join(cells)} |", flush=True)


def difference(values: Integers | Floats) -> str:
    """Mean ± standard error of paired differences, in points."""
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
    return f"{100 * values.mean():+.2f} ± {100 * error:.2f}"


def main() -> None:
    """Measure each file, and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--features", type=Path, nargs="+", required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--looks", type=int, nargs="+", default=[1, 2, 4])
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for path in given.features:
        data = read(path)
        if len(data.looks) < max(given.looks):
            raise SystemExit(
                f"{path} has {len(data.looks)} looks, expected {max(given.looks)}; make it by features.py --looks"
            )
        found = []
        for seed in range(given.seeds):
            found.append(one_seed(data, seed, given.looks))
            LOG.info("%s, seed %d: %s", data.name, seed, {row: round(m.balanced, 4) for row, m in found[-1].items()})
        table(data.name, found)


if __name__ == "__main__":
    main()
