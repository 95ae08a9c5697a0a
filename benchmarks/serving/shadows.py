"""What shadow heads cost a prediction: the same load on one server with 0, 1 and 5 heads on trial, in turns.

    python benchmarks/serving/shadows.py [--model efficientnet_lite0] [--classes 1000] [--shadows 0 1 5]
        [--concurrency 1 16] [--seconds 10] [--rounds 5] [--out runs/serving]

One server runs all the time. Before each turn, trials are started or ended until as many run as the turn is about;
every other round goes the other way round. The load is that of `load.py`, which checks every answer. Printed are the
medians over the rounds of requests/s, p50 and p99, the CPU time of the server for an answer, and the median ratios to
the round's turn without shadows. The heads are drawn; efficientnet_lite0 has features of 1,280 dimensions. Only the
CPU's ratio means something on a machine that is busy.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from change import Load, right, told
from compare import PORT, TOLERANCE, python
from servers import HERE, ROOT, SERVERS, Running, children, running

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.head import LinearHead, softmax, to_onnx
from breadcrumbs.serving.client.client import Client
from breadcrumbs.serving.state import heads
from breadcrumbs.serving.state.heads import Lineage
from breadcrumbs.serving.state.store import Store
from breadcrumbs.serving.trials.trial import TrialSpec

SPREAD = 1.5
"""Standard deviation of the logits over the photos."""
TICK = os.sysconf("SC_CLK_TCK")


def draw_head(features: np.ndarray, classes: int, seed: int) -> LinearHead:
    """A random head (C, D) that tells the photos of features (N, D) apart."""
    centre = features.mean(0)
    weight = np.random.default_rng(seed).normal(size=(classes, features.shape[1]))
    weight *= SPREAD / ((features - centre) @ weight.T).std(0)[:, None]
    names = tuple(f"class {index}" for index in range(classes))
    return LinearHead(weight.astype(np.float32), (-weight @ centre).astype(np.float32), names)


def prepare(materials: Path, folder: Path, classes: int) -> Bundle:
    """A folder as `materials.py` leaves one, with a head of so many classes."""
    folder.mkdir(exist_ok=True)
    (folder / "photos").unlink(missing_ok=True)
    (folder / "photos").symlink_to((materials / "photos").absolute())
    features, plain = np.load(materials / "features.npy"), bundles.read(materials / "bundle")
    head = draw_head(features, classes, 0)
    manifest = plain.manifest.model_copy(update={"classes": head.classes, "train_counts": (100,) * classes})
    np.save(folder / "probabilities.npy", softmax(head.logits(features)))
    files = {"backbone.onnx": plain.backbone(), "head.onnx": to_onnx(head)}
    return bundles.write(folder / "bundle", manifest, files)


def cpu(server: Running) -> float:
    """CPU seconds of the server and its children, until now."""
    ticks = 0
    for pid in (server.process.pid, *children(server.process.pid)):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # utime and stime
    return ticks / TICK


def measure(
    server: Running, client: Client, folder: Path, users: int, shadows: int, seconds: float
) -> tuple[tuple[float, ...], int]:
    """Requests/s, p50, p99 and CPU ms an answer with so many shadows, and how many answers were not right."""
    running_now = [one.start.number for one in client.trials() if one.end is None]
    for number in running_now[shadows:]:
        client.end_trial(number)
    tried = {one.start.head for one in client.trials() if one.end is None}
    for head in [head for head in range(2, shadows + 2) if head not in tried][: shadows - len(running_now)]:
        client.start_trial(TrialSpec(head=head, until="1d"))
    load = Load(folder, users, {"1": str(folder / "probabilities.npy")}, TOLERANCE["cpu"])
    time.sleep(1.0)  # the first answers and the starts of trials are not in the CPU's time
    before, began = cpu(server), time.perf_counter()
    time.sleep(seconds)
    spent, until = cpu(server) - before, time.perf_counter()
    rows = load.end()
    counted = [row for row in rows if began <= row[0] < until]
    return (*told(counted, seconds), 1000 * spent / max(1, len(counted))), len(rows) - len(right(rows))


def cells(values: Sequence[tuple[float, ...]]) -> str:
    """Medians of requests/s, p50, p99 and CPU ms an answer."""
    return ", ".join(
        f"{statistics.median(one):.{digits}f}"
        for one, digits in zip(zip(*values, strict=True), (0, 2, 2, 3), strict=True)
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="efficientnet_lite0")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--shadows", nargs="+", type=int, default=[0, 1, 5], help="the first is compared with")
    parser.add_argument("--concurrency", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "serving")
    given = parser.parse_args()
    materials = given.out / given.model
    if not (materials / "snapshot.safetensors").exists():
        python(HERE / "materials.py", str(given.out), given.model)
    folder = given.out / f"{given.model}-{given.classes}"
    bundle = prepare(materials, folder, given.classes)
    work = folder / "work-shadows"
    subprocess.run(["rm", "-rf", str(work)], check=True)
    with (
        running(SERVERS["ours"], bundle.folder, work, PORT, Path(sys.prefix), ["--follow", "1"]) as server,
        Client(f"http://127.0.0.1:{PORT}", timeout=600) as client,
    ):
        features = np.load(materials / "features.npy")
        for seed in range(1, max(given.shadows) + 1):
            head = draw_head(features, given.classes, seed)
            asyncio.run(heads.add(Store.open(work / "store"), head, bundle, Lineage(), {}))
        print(
            "| users | shadows | requests/s, p50, p99 ms, CPU ms an answer | ratios | not right |\n"
            + "| --- " * 5
            + "|"
        )
        for users in given.concurrency:
            found: dict[int, list[tuple[float, ...]]] = {shadows: [] for shadows in given.shadows}
            wrong = dict.fromkeys(given.shadows, 0)
            for turn in range(given.rounds):
                for shadows in given.shadows if turn % 2 == 0 else given.shadows[::-1]:
                    values, missed = measure(server, client, folder, users, shadows, given.seconds)
                    found[shadows].append(values)
                    wrong[shadows] += missed
            for shadows, values in found.items():
                pairs = list(zip(values, found[given.shadows[0]], strict=True))
                ratios = [statistics.median(one[k] / none[k] for one, none in pairs) for k in range(4)]
                told_ratios = ", ".join(f"{ratio:.3f}" for ratio in ratios)
                print(f"| {users} | {shadows} | {cells(values)} | {told_ratios} | {wrong[shadows]} |", flush=True)


if __name__ == "__main__":
    main()
