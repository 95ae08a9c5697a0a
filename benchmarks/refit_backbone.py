"""A new backbone without the old images: what share of the accuracy of re-extraction a refit keeps.

    python benchmarks/refit_backbone.py --old A.npz --new B.npz [--seeds 5] [--pairs 0 100 500] [--images 1 5]

Two feature files of the same images in the same order (`features.py`). The bundle has the new backbone and carries no
snapshot. Uploaded are all training rows under the old backbone, and besides either unlabelled pairs, which are other
images under both backbones, or under the new one a few training images of each class, which are still at hand. Each is
tried with the transfer that is chosen (`auto`) and with every single one.

A share is balanced accuracy on the test rows over that of the default refit of all training rows under the new
backbone, in %, mean ± standard deviation over the seeds. Without two labelled images of a class in the new space
nothing can be chosen, and the refit asks for λ, t and one member: the rows marked "given" are told λ 1e-3, t 1, plain.
A dash is a refit that was refused, or a transfer that leaves no row.
"""

import argparse
import logging
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from deployed import EPOCH, TRAINING, Deployed, deployed
from features import Features, Integers, read, take
from spread import spread

from breadcrumbs.models.snapshots.snapshot import UNLABELLED, Snapshot
from breadcrumbs.training.config import RefitSpec, Transfer
from breadcrumbs.training.refit.offset import Labelled
from breadcrumbs.training.refit.rows import RefitError

OLD = "a" * 64  # digest of the old backbone
OTHERS = "9" * 64  # data set of the pairs
MODES: tuple[Transfer, ...] = get_args(Transfer)
NEED_LABELS = ("leave out", "emanate")
CHOOSE = 2  # labelled images of a class that cross-validation needs
GIVEN = {"l2": 1e-3, "prior_offset": 1.0, "members": ("plain",)}

LOG = logging.getLogger("refit_backbone")


@dataclass(frozen=True, eq=False)
class Change:
    """One seed's change of backbone.

    Attributes:
        old, new: the same images under both backbones (N, D').
        train, others: numbers of the rows to train on, and to make pairs of.
        own: the new backbone, deployed without rows of its own; it judges on the test rows.
        full: balanced accuracy after re-extraction.
        seed: of the draws.
    """

    old: Labelled
    new: Labelled
    train: Integers
    others: Integers
    own: Deployed
    full: float
    seed: int

    def share(self, pairs: int, images: int, mode: Transfer) -> float | None:
        """The share that a refit keeps; None where it is refused, or could have no row."""
        if not images and mode in NEED_LABELS:
            return None
        found = [self._look(self.old, self.train, backbone=OLD, epoch=EPOCH, dataset=TRAINING)]
        if pairs:
            own = self.others[:pairs]
            for side, more in ((self.old, {"backbone": OLD}), (self.new, {})):
                unlabelled = Labelled(side.features, np.full_like(side.labels, UNLABELLED))
                found.append(self._look(unlabelled, own, dataset=OTHERS, **more))
        if images:
            found.append(self._look(self.new, self._few(images), dataset=TRAINING))
        spec = RefitSpec.model_validate({"transfer": mode, "seed": self.seed} | ({} if images >= CHOOSE else GIVEN))
        try:
            head = self.own.refit(*found, spec=spec).head
        except RefitError as error:
            LOG.info("%d pairs, %d images, %s: %s", pairs, images, mode, error)
            return None
        return self.own.measured(head, self.own.holdout).balanced / self.full

    def _look(self, rows: Labelled, chosen: Integers, **more: object) -> Snapshot:
        return self.own.rows(take(rows, chosen), ids=chosen, **more)

    def _few(self, images: int) -> Integers:
        """So many training images of each class."""
        order = np.random.default_rng(self.seed).permutation(self.train)
        labels = self.new.labels[order]
        return np.sort(np.concatenate([order[labels == label][:images] for label in np.unique(labels)]))


def changed(old: Features, new: Features, seed: int, pairs: int, folder: Path) -> Change:
    """Draw the rows of a seed, and deploy the new backbone; so many of the rows left are kept for pairs."""
    train, rest = new.drawn(seed)
    if rest is None or not np.array_equal(old.rows.labels, new.rows.labels):
        raise SystemExit(f"{old.name}, {new.name}: expected the same images in the same order, all in x")
    rest = np.random.default_rng(seed).permutation(rest)
    fitted, tested = take(new.rows, train), take(new.rows, rest[pairs:])
    whole = deployed(folder / "whole", new.names, fitted, tested)
    full = whole.measured(whole.refit(spec=RefitSpec(seed=seed)).head, tested).balanced
    own = deployed(folder / "bundle", new.names, fitted, tested, stored=False)
    return Change(old.rows, new.rows, train, rest[:pairs], own, full, seed)


def main() -> None:
    """Print a table: a row for each case, a column for each transfer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--old", type=Path, required=True)
    parser.add_argument("--new", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--pairs", type=int, nargs="+", default=[0, 100, 500])
    parser.add_argument("--images", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    old, new = read(given.old), read(given.new)
    cases = [*((pairs, 0) for pairs in given.pairs), *((0, images) for images in given.images)]
    shares: dict[tuple[int, int], dict[Transfer, list[float | None]]] = {
        case: {mode: [] for mode in given.modes} for case in cases
    }
    full = []
    for seed in range(given.seeds):
        with tempfile.TemporaryDirectory() as folder:
            change = changed(old, new, seed, max(given.pairs), Path(folder))
            full.append(change.full)
            for case, row in shares.items():
                for mode, found in row.items():
                    found.append(change.share(*case, mode))
                    LOG.info("seed %d, %d pairs, %d images a class, %s: %s", seed, *case, mode, found[-1])
    print(f"\nRe-extraction, balanced: {spread(full)} ({given.seeds} seeds). The share kept, in %:\n")
    print(f"| {old.name} → {new.name} | {' | '.join(given.modes)} |\n|{' --- |' * (1 + len(given.modes))}")
    for (pairs, images), row in shares.items():
        what = f"{images} labelled images a class" if images else f"{pairs} unlabelled pairs"
        cells = [what + (", given" if images < CHOOSE else ""), *map(spread, row.values())]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
