"""Two gloo processes against one on the embedded images: crumbs, losses and recalls side by side.

    python benchmarks/processes.py [--epochs 4] [--processes 2] [--out runs/processes]

The network has no batch norm, whose statistics gloo on a CPU cannot share. Printed is the largest difference relative
to the largest value; the places and counts of the crumbs must be the same number for number.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from breadcrumbs.training.config import TrainConfig
from breadcrumbs.training.data.dataset import load
from breadcrumbs.training.run.trail import Trail

FLAGS = ("--architecture", "test_convnext", "--learning-rate", "0.02", "--augmentation", "crop", "--size", "32")


def main() -> None:
    """Train twice, compare, print rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/processes"))
    given = parser.parse_args()
    folders = [given.out / str(count) for count in (1, given.processes)]
    for folder, count in zip(folders, (1, given.processes), strict=True):
        train(folder, count, given.epochs)
    one, several = (torch.load(folder / "checkpoint.pt", weights_only=True) for folder in folders)
    print(f"| {given.processes} processes against one, {given.epochs} epochs | largest relative difference |")
    print("| --- | --- |")
    for name, (ours, theirs) in {
        "residuals of the trail": (several["trail"]["residuals"], one["trail"]["residuals"]),
        "class means": (several["trail"]["means"], one["trail"]["means"]),
        "balanced head": (several["network"]["balanced.weight"], one["network"]["balanced.weight"]),
        "balanced set, in the order drawn": (drawn(several), drawn(one)),
    }.items():
        print(f"| {name} | {relative(ours, theirs):.1e} |")
    logs = [[json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()] for folder in folders]
    for name in ("joint_loss", "balanced_loss"):
        pairs = [(a[name], b[name]) for a, b in zip(*logs, strict=True) if name in a]
        print(f"| {name}, any epoch | {max(abs(a - b) / b for a, b in pairs):.1e} |")
    recalls = [log[-1]["balanced"]["balanced"] for log in logs]
    print(f"| balanced accuracy, last epoch | {abs(recalls[0] - recalls[1]):.1e} |")
    same = all(torch.equal(several["trail"][name], one["trail"][name]) for name in ("next", "filled"))
    print(f"| places and counts of the crumbs | {'the same' if same else 'DIFFERENT'} |")


def train(out: Path, count: int, epochs: int) -> None:
    """Train in one process or several."""
    start = ["torch.distributed.run", "--standalone", f"--nproc-per-node={count}", "-m"] if count > 1 else []
    command = [sys.executable, "-m", *start, "breadcrumbs", "train", *FLAGS, "--epochs", str(epochs), "--out", str(out)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def drawn(state: dict[str, Any]) -> Tensor:
    """The balanced set that the next epoch would draw (M, D)."""
    config = TrainConfig.model_validate_json(state["config"])
    data = load(config)
    trail = Trail(
        torch.from_numpy(data.train.labels), len(data.classes), state["trail"]["means"].shape[1], seed=config.seed
    )
    trail.load_state_dict(state["trail"])
    return trail.balanced(0, 1).features


def relative(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference over the largest value."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


if __name__ == "__main__":
    main()
