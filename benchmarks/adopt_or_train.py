"""`breadcrumbs adopt` beside `breadcrumbs train` from scratch, on the same images: what each costs and gives.

    python benchmarks/adopt_or_train.py BACKBONE --data photos [--architecture NAME] [--train resnet20 --epochs 36]

In turns for each seed, which also draws the images that are held out where the data has no test part. Told are CPU
seconds (user and system, all threads) and the recall of the head that each bundle serves, in %, mean ± standard
deviation over the seeds. The adopted network was trained on other images for long; that time is not counted.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from spread import spread

COLUMNS = {"many": "many", "medium": "medium", "few": "few", "balanced": "balanced", "images": "all"}


def measured(words: list[str], out: Path) -> dict[str, Any]:
    """Run a command of `breadcrumbs`; return the metrics of the bundle's exported head, and `cpu` in seconds."""
    before = os.times()
    line = [sys.executable, "-P", "-m", "breadcrumbs", *words, "--out", str(out)]
    ran = subprocess.run(line, check=False, capture_output=True, text=True)
    if ran.returncode:
        raise SystemExit(f"{' '.join(words)}: {ran.stderr[-500:]}")
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {**json.loads((out / "metrics.json").read_bytes())["balanced"], "cpu": cpu}


def main() -> None:
    """Measure, and print a row of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("backbone", help="as for `adopt`")
    parser.add_argument("--data", required=True)
    parser.add_argument("--architecture", help="as for `adopt`")
    parser.add_argument("--train", default="resnet20", help="architecture of `train`")
    parser.add_argument("--size", type=int, default=32, help="side of its input, in pixels")
    parser.add_argument("--epochs", type=int, default=36)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    named = [] if given.architecture is None else ["--architecture", given.architecture]
    network = ["--no-pretrained", "--architecture", given.train]
    network += ["--size", str(given.size), "--epochs", str(given.epochs)]
    rows: dict[str, list[dict[str, Any]]] = {"adopt": [], f"train {given.train}, {given.epochs} epochs": []}
    for seed in range(given.seeds):
        shared = ["--data", given.data, "--seed", str(seed)]
        with tempfile.TemporaryDirectory() as folder:
            lines = (
                ["adopt", given.backbone, *named, *shared, "--cache", f"{folder}/cache"],
                ["train", *network, *shared],
            )
            for own, words in zip(rows.values(), lines, strict=True):
                own.append(measured(words, Path(folder) / words[0]))
                print(f"seed {seed}, {words[0]}: {own[-1]['cpu']:.0f} CPU s", file=sys.stderr, flush=True)
    print(f"\n| {given.data} ({given.seeds} seeds) | CPU s | {' | '.join(COLUMNS)} |\n|{' --- |' * 7}")
    for name, own in rows.items():
        values = [spread([one[column] for one in own]) for column in COLUMNS.values()]
        print(f"| {name} | {statistics.mean(one['cpu'] for one in own):.0f} | {' | '.join(values)} |")


if __name__ == "__main__":
    main()
