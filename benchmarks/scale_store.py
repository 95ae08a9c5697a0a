"""What a store of 10⁹ features takes: bytes, objects, requests, money, and the time of a refit on them.

    python benchmarks/scale_store.py --features 1000000000 --classes 1000

Sizes follow from the formats, limits from the server's settings, the refit's time from what was measured on smaller
ones (`benchmarks/results.md`), stretched by rows × classes × dimensions × passes. Prices are parameters: look yours up.
"""

import argparse
import json
import math
from dataclasses import dataclass

import measured
from scale_sim import table

from breadcrumbs.serving.settings import Settings

DIMENSIONS, BYTES = (512, 2048), {"f32": 4, "f16": 2, "bf16": 2}
PER_ROW = 16
"""Bytes of a row beside its features: a label and an id."""
PAGE = 1000
"""Names that one listing request of an object store returns at most."""


@dataclass(frozen=True)
class Prices:
    """Of an object store: a gigabyte a month, a thousand writes or listings, a thousand reads."""

    gigabyte_month: float
    thousand_writes: float
    thousand_reads: float


def layout(features: int, dimensions: int, kind: str, prices: Prices) -> dict[str, float | int | str]:
    """Snapshots as large as the server takes them."""
    size = features * (dimensions * BYTES[kind] + PER_ROW)
    limit = Settings.model_fields["max_snapshot_bytes"].default
    snapshots = math.ceil(size / limit)
    objects = 2 * snapshots  # each with its record
    listing = math.ceil(objects / PAGE)
    return {
        "D": dimensions,
        "type": kind,
        "TB": round(size / 1e12, 2),
        "snapshots": snapshots,
        "objects": objects,
        "a_listing": f"{listing} requests, {objects // 2} records read",
        "listing_usd": round(listing * prices.thousand_writes / 1000 + objects / 2 * prices.thousand_reads / 1000, 4),
        "usd_a_month": round(size / 1e9 * prices.gigabyte_month),
        "fits_one_refit": "yes" if snapshots <= Settings.model_fields["max_snapshots"].default else "no",
    }


def refit_seconds(rows: int, classes: int, dimensions: int) -> tuple[float, float]:
    """The least and the most that the measured refits let one expect, on the machine that they were measured on."""
    known = measured.solved()
    passes = [one.passes for one in known]
    work = rows * classes * dimensions
    return min(one.unit for one in known) * work * min(passes), max(one.unit for one in known) * work * max(passes)


def shown(seconds: float) -> str:
    """A time as a person says it."""
    for name, length in (("years", 31_557_600), ("days", 86_400), ("hours", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {name}"
    return f"{seconds:.0f} s"


def refits(features: int, classes: int, targets: list[int]) -> list[dict[str, float | int | str]]:
    """A refit of all classes, by how many features each offers (`target`)."""
    found = []
    for dimensions in DIMENSIONS:
        for target in targets:
            rows = min(features, target * classes)
            low, high = refit_seconds(rows, classes, dimensions)
            found.append(
                {
                    "D": dimensions,
                    "classes": classes,
                    "target": target,
                    "rows": rows,
                    "balanced_set_GB": round(rows * dimensions * 4 / 1e9, 1),
                    "refit": f"{shown(low)} … {shown(high)}",
                }
            )
    return found


def following(prices: Prices, counts: tuple[int, ...] = (1, 10, 1000)) -> list[dict[str, float | int | str]]:
    """What the servers' looks at the log cost in an object store."""
    default = Settings.model_fields["follow"].default
    return [
        {
            "machines": count,
            "follow": follow,
            "reads_a_second": round(count / follow, 1),
            "usd_a_month": round(count / follow * 30 * 86_400 * prices.thousand_reads / 1000, 2),
        }
        for count in counts
        for follow in (default, 5.0)
    ]


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--features", type=int, default=10**9)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--targets", type=int, nargs="+", default=[1000, 100_000, 1_000_000])
    parser.add_argument("--usd-gigabyte-month", type=float, default=0.023)
    parser.add_argument("--usd-thousand-writes", type=float, default=0.005, help="listings cost the same")
    parser.add_argument("--usd-thousand-reads", type=float, default=0.0004)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(given)
    prices = Prices(chosen.usd_gigabyte_month, chosen.usd_thousand_writes, chosen.usd_thousand_reads)
    found = {
        "store": [layout(chosen.features, d, kind, prices) for d in DIMENSIONS for kind in BYTES],
        "refit": refits(chosen.features, chosen.classes, chosen.targets),
        "following": following(prices),
    }
    if chosen.json:
        print(json.dumps(found))
        return
    for name, rows in found.items():
        print(f"**{name}**\n\n{table(rows)}\n")


if __name__ == "__main__":
    main()
