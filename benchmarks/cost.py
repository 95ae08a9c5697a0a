"""What Breadcrumb sampling costs: the time of an epoch of each method over that of `plain`, in one run.

    python benchmarks/cost.py [--recipe demo] [--repeats 7] [any flag of `breadcrumbs train`]

The methods' epochs alternate in one process, so that whatever else the machine does falls on all of them alike; the
ratio is the median over the rounds of an epoch's time over that of `plain` in the same round. An epoch is the training
pass and the end of the trail's epoch; evaluation, checkpoint and files on disk are left out, since every method has
them. `crt` and `breadcrumb-paper` forward class-balanced images a second time. Trails are full before the first round.
"""

import argparse
import statistics
import time
from typing import Any

import torch

from breadcrumbs.training.data.dataset import load
from breadcrumbs.training.recipes import recipe
from breadcrumbs.training.run.epoch import train_epoch
from breadcrumbs.training.run.state import Run, prepare

METHODS = ("plain", "breadcrumb", "crt", "breadcrumb-paper")


def main() -> None:
    """Time, print rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--architecture")
    parser.add_argument("--batch-size", type=int)
    given = vars(parser.parse_args())
    name, repeats = given.pop("recipe"), given.pop("repeats")
    runs = {method: filled(name, method, {k: v for k, v in given.items() if v is not None}) for method in METHODS}
    seconds: dict[str, list[float]] = {method: [] for method in METHODS}
    for _ in range(repeats):
        for method, run in runs.items():
            seconds[method].append(timed(run, method))
    print(
        "| method | s an epoch, median | over plain, median of rounds | lowest … highest |\n| --- | --- | --- | --- |"
    )
    for method, taken in seconds.items():
        ratios = [own / plain for own, plain in zip(taken, seconds["plain"], strict=True)]
        print(
            f"| {method} | {statistics.median(taken):.2f} | {statistics.median(ratios):.3f} | "
            f"{min(ratios):.3f} … {max(ratios):.3f} |"
        )


def filled(name: str, method: str, changed: dict[str, Any]) -> Run:
    """A run whose trail, where it has one, has every crumb it will ever have."""
    config = recipe(name).model_copy(update={"method": method, **changed})
    run = prepare(config, load(config))
    train_epoch(run)
    if run.trail is not None:
        _, features = run.trail.snapshot()
        while not run.trail.complete:
            run.trail.record(torch.arange(len(features), device=features.device), features)
            run.trail.close_epoch()
    run.epoch += 1
    return run


def timed(run: Run, method: str) -> float:
    """Seconds of one epoch; `breadcrumb-paper` is timed with its second pass, as in its warm-up."""
    if method == "breadcrumb-paper" and run.trail is not None:
        run.trail.epochs = 0
    started = time.perf_counter()
    train_epoch(run)
    if run.trail is not None:
        run.trail.close_epoch()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
