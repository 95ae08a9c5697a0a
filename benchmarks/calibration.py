"""How far the probabilities of a refit's head hold, without its temperature and with it, by group.

    python benchmarks/calibration.py --features A.npz [B.npz …] [--seeds 5] [--prior uniform]

`features.py` makes the files, and says how a seed draws rows. A bundle is written with the training rows, and the test
rows as its hold-out, by which nothing is chosen; its head is replaced by a refit with the product's own settings, whose
report has the numbers: the calibration error of the top class, in bins of equal weight, and the log loss, rows counting
as often as the prior says. A group's rows are those that are answered with one of its classes.

Mean ± standard deviation over seeds; changes are paired by seed: mean ± standard error. It knows nothing of time.
"""

import argparse
import logging
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from deployed import deployed
from features import Features, read
from spread import change, spread

from breadcrumbs.models.calibration import CalibratedGroup, Calibration
from breadcrumbs.models.groups import GROUPS
from breadcrumbs.training.config import RefitSpec

LOG = logging.getLogger("calibration")
ROWS = ("all", *GROUPS)

Found = Sequence[Calibration]
"""One of each seed."""


def measured(data: Features, seed: int, prior: str) -> Calibration:
    """Refit with one seed, and return what the report says of the head's probabilities."""
    train, test = data.split(seed)
    with tempfile.TemporaryDirectory() as folder:
        own = deployed(Path(folder) / "bundle", data.names, train, test)
        found = own.refit(spec=RefitSpec(seed=seed, deployment_prior=prior)).complete().report.calibration
    if found is None:
        raise RuntimeError("the report has no calibration")
    LOG.info("%s, seed %d: T %.3f on %d rows", data.name, seed, found.temperature.value, found.fitted_rows)
    return found


def table(name: str, found: Found) -> None:
    """Print one set."""
    values = ", ".join(f"{one.temperature.value:.2f}" for one in found)
    seeds = f"{len(found)} seed{'s' if len(found) > 1 else ''}"
    print(f"\n| {name} ({seeds}, T {values}) | rows | error, T = 1 | error | change, points | log loss | change |")
    print(f"|{' --- |' * 7}")
    for group in ROWS:
        own = [one.groups[group] for one in found if group in one.groups]
        if own:
            print(f"| answered {group} | {' | '.join(_cells(own))} |", flush=True)


def _cells(own: Sequence[CalibratedGroup]) -> list[str]:
    before, after = ([getattr(one, key).ece.value for one in own] for key in ("before", "after"))
    changes = [one.change.nll.value for one in own]
    error = statistics.stdev(changes) / len(changes) ** 0.5 if len(changes) > 1 else 0.0
    losses = (statistics.mean(getattr(one, key).nll.value for one in own) for key in ("before", "after"))
    return [
        f"{statistics.mean(one.rows for one in own):.0f}",
        spread(before),
        spread(after),
        change(after, before),
        " → ".join(f"{loss:.3f}" for loss in losses),
        f"{statistics.mean(changes):+.3f} ± {error:.3f}",
    ]


def main() -> None:
    """Measure each set, and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--features", type=Path, nargs="+", required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--prior", choices=("uniform", "training"), default="uniform")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for path in given.features:
        data = read(path)
        table(data.name, [measured(data, seed, given.prior) for seed in range(given.seeds)])


if __name__ == "__main__":
    main()
