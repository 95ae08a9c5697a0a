"""Time and memory of the balanced set: the trail against a growing `torch.cat`, at the field's sizes.

    python benchmarks/assembly.py [--sets places imagenet] [--repeats 3] [--threads 1]

Places-LT has its own class counts (`places_lt_class_counts.csv`) and D = 2048; ImageNet-LT, whose counts are not at
hand, a shifted Pareto profile of the same size and D = 512. Features are random, f32, on the CPU; every class has its
q_y epochs before anything is timed. Batches come in the images' order, and the trail keeps the first n of an over-full
epoch as the peer does: then both sets must be the same up to order, and that is checked before timing.

The peer does what the paper's released loop does, written here anew: batches are joined onto a growing tensor; at the
end of an epoch every class's rows and their mean enter a queue of q_y epochs; the balanced set grows class by class:
its epochs, newest first, re-centred and joined, cut to n, moved to the newest mean, joined onto the set; then shuffled.
One difference: n = ceil(N / C) for both, where the release rounds N up to whole batches.

Three numbers: *epoch* is recording, closing and the balanced set of every step; *assembly* is the same without the
recording; memory is the highest resident size over the inputs', in a process of its own, in units of N·D elements.
"""

import argparse
import csv
import statistics
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

import torch
from torch import Tensor

from breadcrumbs.training.emanate import back_track, balanced_target
from breadcrumbs.training.run.trail import Trail

BATCH = 512
COUNTS = Path(__file__).with_name("places_lt_class_counts.csv")
DIMS = {"places": 2048, "imagenet": 512}
NAMES = {"places": "Places-LT", "imagenet": "ImageNet-LT"}


def class_counts(name: str) -> list[int]:
    """Training images of each class."""
    if name == "places":
        with COUNTS.open() as file:
            return [int(row["train_images"]) for row in csv.DictReader(file)]
    return pareto(1000, 115_846, 1280, 5)


def pareto(classes: int, total: int, largest: int, smallest: int) -> list[int]:
    """n_c = round(largest · (1 + c / k)^−α), with k and α so that the last class has `smallest` and all have `total`.

    α is found by bisection (3.0 here); what rounding leaves is made up by ones, from the second class on.
    """

    def counts(alpha: float) -> list[int]:
        k = (classes - 1) / ((largest / smallest) ** (1 / alpha) - 1)
        return [round(largest * float(1 + c / k) ** -alpha) for c in range(classes)]

    low, high = 1.0, 10.0  # the sum grows with α
    for _ in range(50):
        alpha = (low + high) / 2
        low, high = (alpha, high) if sum(counts(alpha)) < total else (low, alpha)
    found = counts(low)
    missing = total - sum(found)
    return [n + (1 <= c <= missing) for c, n in enumerate(found)]


class Inputs:
    """The images' classes in a random order, and features (N, D) that drift in place from epoch to epoch."""

    def __init__(self, counts: list[int], dim: int) -> None:
        generator = torch.Generator().manual_seed(0)
        labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
        self.labels = labels[torch.randperm(len(labels), generator=generator)]
        self.features = torch.randn(len(labels), dim, generator=generator)
        self.classes = len(counts)
        self.batches = list(torch.split(torch.arange(len(labels)), BATCH))

    def drift(self) -> None:
        """Go to the next epoch's features."""
        self.features.mul_(1.01).add_(0.01)


class Ours:
    """The trail, one epoch after another."""

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        self.trail = Trail(inputs.labels, inputs.classes, inputs.features.shape[1], uniform=False)
        self.target = self.trail.target
        self.epochs_back = [int(q) for q in self.trail.epochs_back]

    def record(self) -> None:
        """Keep an epoch's features, batch by batch."""
        for rows in self.inputs.batches:
            self.trail.record(rows, self.inputs.features[int(rows[0]) : int(rows[-1]) + 1])

    def close(self) -> None:
        """Make the epoch the newest."""
        self.trail.close_epoch()

    def balanced(self, keep: list[tuple[Tensor, Tensor]] | None = None) -> None:
        """Draw the balanced batch of every step."""
        steps = len(self.inputs.batches)
        for step in range(steps):
            batch = self.trail.balanced(step, steps)
            if keep is not None:
                keep.append((batch.features, batch.labels))


class Peer:
    """Queues of epochs and a growing set, as the paper's release has them."""

    def __init__(self, inputs: Inputs, target: int, epochs_back: list[int]) -> None:
        self.inputs, self.target, self.epochs_back = inputs, target, epochs_back
        self.queues: list[deque[tuple[Tensor, Tensor]]] = [deque(maxlen=q) for q in epochs_back]
        self.empty = inputs.features[:0], inputs.labels[:0]
        self.fresh = self.drawn = self.empty  # the epoch in progress, and the balanced set it is trained with

    def record(self) -> None:
        """Join an epoch's batches."""
        features, labels = self.empty
        for rows in self.inputs.batches:
            first, last = int(rows[0]), int(rows[-1]) + 1
            features = torch.cat((features, self.inputs.features[first:last]))
            labels = torch.cat((labels, self.inputs.labels[first:last]))
        self.fresh = features, labels

    def close(self) -> None:
        """Move the epoch into the queues, class by class."""
        features, labels = self.fresh
        for label, queue in enumerate(self.queues):
            own = features.index_select(0, torch.where(labels == label)[0])
            queue.append((own, own.mean(0, keepdim=True)))
        self.fresh = self.empty

    def balanced(self, keep: list[tuple[Tensor, Tensor]] | None = None) -> None:
        """Build the balanced set, shuffle it, and cut the batch of every step out of it."""
        self.drawn = self.empty
        features, labels = self.empty
        for label, queue in enumerate(self.queues):
            own = self.empty[0]
            for rows, mean in reversed(queue):
                own = torch.cat((own, rows - mean))
            own = own[: self.target] + queue[-1][1]
            features = torch.cat((features, own))
            labels = torch.cat((labels, torch.full((self.target,), label)))
        order = torch.randperm(len(features))
        features, labels = features.index_select(0, order), labels[order]
        self.drawn = features, labels
        size = -(-len(features) // len(self.inputs.batches))
        for start in range(0, len(features), size):
            batch = features[start : start + size], labels[start : start + size]
            if keep is not None:
                keep.append(batch)


def fill(inputs: Inputs, ours: Ours | None, peer: Peer | None) -> None:
    """Epochs enough for every class, without what grows: the peer is handed the whole epoch."""
    back = ours.epochs_back if ours else peer.epochs_back if peer else []
    for _ in range(max(back)):
        inputs.drift()
        if ours:
            ours.record()
            ours.close()
        if peer:
            peer.fresh = inputs.features, inputs.labels
            peer.close()


def check(ours: Ours, peer: Peer) -> None:
    """Both give n features of every class, and the same ones up to order."""
    found: list[tuple[Tensor, Tensor]] = []
    for side in (ours, peer):
        batches: list[tuple[Tensor, Tensor]] = []
        side.balanced(batches)
        found.append((torch.cat([b[0] for b in batches]), torch.cat([b[1] for b in batches])))
    (a, a_labels), (b, b_labels) = found
    for label in range(ours.inputs.classes):
        mine, theirs = a[a_labels == label], b[b_labels == label]
        nearest = torch.cdist(mine, theirs).argmin(1)
        assert len(mine) == len(theirs) == ours.target, f"class {label}: {len(mine)} and {len(theirs)} features"
        assert len(set(nearest.tolist())) == len(nearest), f"class {label}: another set"
        assert torch.allclose(mine, theirs[nearest], rtol=1e-4, atol=1e-4), f"class {label}: other features"


def timed(side: Ours | Peer) -> dict[str, float]:
    """Seconds of one epoch's parts."""
    seconds = {}
    for part in ("balanced", "record", "close"):
        start = time.perf_counter()
        getattr(side, part)()
        seconds[part] = time.perf_counter() - start
    return seconds


def times(name: str, repeats: int) -> None:
    """Print one set's rows: both sides in turn, medians."""
    inputs = Inputs(class_counts(name), DIMS[name])
    ours = Ours(inputs)
    peer = Peer(inputs, ours.target, ours.epochs_back)
    fill(inputs, ours, peer)
    assert ours.trail.complete
    check(ours, peer)
    runs: dict[str, list[dict[str, float]]] = {"ours": [], "peer": []}
    for _ in range(repeats):
        inputs.drift()
        runs["ours"].append(timed(ours))
        runs["peer"].append(timed(peer))
        print(f"{NAMES[name]}, run {len(runs['peer'])}: {runs['ours'][-1]} {runs['peer'][-1]}", file=sys.stderr)
    middle = {
        side: {part: statistics.median(run[part] for run in found) for part in found[0]} for side, found in runs.items()
    }
    for what, parts in (("epoch", ("record", "close", "balanced")), ("assembly", ("close", "balanced"))):
        total = {
            side: statistics.median(sum(run[part] for part in parts) for run in found) for side, found in runs.items()
        }
        ratio = total["peer"] / total["ours"]
        print(f"| {NAMES[name]}, {what} | {total['ours']:.2f} s | {total['peer']:.1f} s | {ratio:.0f} × |", flush=True)
    for side, seconds in middle.items():
        print(
            f"{NAMES[name]}, {side}: " + ", ".join(f"{part} {value:.3f} s" for part, value in seconds.items()),
            file=sys.stderr,
        )


def memory(name: str, side: str) -> None:
    """Print the highest resident size of one side over its inputs', in N·D elements."""
    live(Inputs([600, 30, 5], 8), side)  # what loading the code takes is not the method's
    inputs = Inputs(class_counts(name), DIMS[name])
    before = resident("VmRSS")
    live(inputs, side)
    print(f"{(resident('VmHWM') - before) / (inputs.features.numel() * 4):.2f}")


def resident(field: str) -> int:
    """Bytes of this process's memory; not ru_maxrss, in which the parent's peak counts."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def live(inputs: Inputs, side: str) -> None:
    """Go through the epochs that every class needs, and one whole epoch more."""
    counts = torch.bincount(inputs.labels)
    target = balanced_target(len(inputs.labels), inputs.classes)
    if side == "ours":
        ours = Ours(inputs)
        fill(inputs, ours, None)
        timed(ours)
    else:
        peer = Peer(inputs, target, back_track(counts, target).tolist())
        fill(inputs, None, peer)
        timed(peer)


def main() -> None:
    """Time both sides in this process, and weigh each in its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sets", nargs="+", choices=tuple(DIMS), default=list(DIMS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--weigh", nargs=2, metavar=("SET", "SIDE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.weigh:
        memory(*given.weigh)
        return
    print("| balanced set, f32 | trail | growing torch.cat | ratio |\n| --- | ---: | ---: | ---: |")
    for name in given.sets:
        times(name, given.repeats)
        weighed = [
            subprocess.run(
                [sys.executable, __file__, "--threads", str(given.threads), "--weigh", name, side],
                check=True,
                capture_output=True,
                text=True,
            ).stdout.strip()
            for side in ("ours", "peer")
        ]
        print(f"| {NAMES[name]}, memory | {weighed[0]} N·D | {weighed[1]} N·D | |", flush=True)


if __name__ == "__main__":
    main()
