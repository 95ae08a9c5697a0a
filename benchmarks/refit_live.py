"""From upload to live head: how long until a snapshot of a whole data set's shape has become the head that answers.

    python benchmarks/refit_live.py [--set imagenet] [--device cpu] [--l2 auto] [--repeats 3] [--share 1.0]

A `breadcrumbs serve` of its own, with a resnet18 of random weights and as many classes as the set. The rows are those
of `refit_speed.py`: D = 512, drawn, long-tailed, a third of them transferred. The clock begins before the first byte
of the upload and ends with the first prediction by the new head. Medians of `--repeats`; each uploads other rows (one
is left out), so that none is known already. The stages are the job's own events.
"""

import argparse
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import torch
from propagation import PHOTO, free_port, wait
from refit_speed import DIM, NAMES, Rows, drawn

from breadcrumbs.models import backbones
from breadcrumbs.models import bundle as bundles
from breadcrumbs.models import head as heads
from breadcrumbs.models.bundle import Bundle, Manifest
from breadcrumbs.models.head import LinearHead
from breadcrumbs.models.images.preprocess import Preprocess
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.serving.client.client import Client
from breadcrumbs.training import export
from breadcrumbs.training.config import RefitSpec
from breadcrumbs.training.network import Features

SIDE = 64  # pixels; no image is trained on
LOOK = 0.005  # seconds between two questions which head answers


def make_bundle(folder: Path, labels: torch.Tensor) -> Bundle:
    """A resnet18 of random weights, and a head that knows nothing of the set's classes."""
    transform = Preprocess(height=SIDE, width=SIDE, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    torch.manual_seed(0)
    backbone = export.to_onnx(Features(backbones.create("resnet18"), transform), transform)
    counts = tuple(torch.bincount(labels).tolist())
    classes = tuple(f"class {number}" for number in range(len(counts)))
    head = LinearHead(np.zeros((len(counts), DIM), np.float32), np.zeros(len(counts), np.float32), classes)
    manifest = Manifest(
        name="live", architecture="resnet18", preprocess=transform, feature_dim=DIM, classes=classes,
        train_counts=counts,
    )  # fmt: skip
    return bundles.write(folder, manifest, {"backbone.onnx": backbone, "head.onnx": heads.to_onnx(head)})


def make_snapshot(path: Path, bundle: Bundle, rows: Rows, without: int) -> None:
    """The rows but one, as the deployed backbone would have made them."""
    keep = torch.arange(len(rows[1])) != without
    features, labels = (part[keep].numpy() for part in rows)
    snapshots.save(path, Snapshot(features, labels, bundle.manifest.classes, bundle.backbone_digest, epoch=1))


def once(client: Client, path: Path, spec: RefitSpec) -> dict[str, float]:
    """Upload, refit, wait for an answer by the new head; seconds of the upload, of each stage, and in all."""
    began = time.time()
    sha = client.put_snapshot(path).sha256
    uploaded = time.time()
    job = client.refit([sha], spec).id
    marks = [("upload", began), ("start", uploaded)]
    for event in client.events(job):
        name = event.get("stage") if event["event"] == "stage" else event.get("state")
        if name not in {None, "queued", "running"}:
            marks.append((str(name), datetime.fromisoformat(event["at"]).timestamp()))
    ended = client.job(job)
    if ended.verdict is None or not ended.verdict.activated:
        raise RuntimeError(f"the refit came to nothing: {ended.error or ended.verdict}")
    while client.predict([PHOTO]).head.version != ended.verdict.head:
        time.sleep(LOOK)
    marks.append(("end", time.time()))
    stages = {name: after - at for (name, at), (_, after) in itertools.pairwise(marks)}
    return stages | {"in all": sum(stages.values())}


def main() -> None:
    """Measure and print a row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--set", choices=tuple(NAMES), default="imagenet")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--l2", default="auto")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--share", type=float, default=1.0, help="of the rows of each class")
    given = parser.parse_args()
    l2 = given.l2 if given.l2 == "auto" else float(given.l2)
    spec = RefitSpec.model_validate({"activate": "always", "use_bundle_snapshots": False, "l2": l2})
    rows, _ = drawn(given.set, given.share)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        bundle = make_bundle(folder / "bundle", rows[1])
        port = free_port()
        line = [sys.executable, "-m", "breadcrumbs", "serve", "--bundle", str(bundle.folder), "--port", str(port)]
        line += ["--store", str(folder / "store"), "--device", given.device, "--refit-device", given.device]
        process = subprocess.Popen([*line, "--access-log", "none"])
        try:
            with Client(f"http://127.0.0.1:{port}", timeout=600) as client:
                wait(client, process)
                found = []
                for number in range(given.repeats):
                    make_snapshot(folder / "rows.safetensors", bundle, rows, number)
                    found.append(once(client, folder / "rows.safetensors", spec))
        finally:
            process.terminate()
            process.wait(60)
    middle = {name: statistics.median(one[name] for one in found) for name in found[0]}
    whole = [one["in all"] for one in found]
    print(f"{NAMES[given.set]}, {len(rows[1])} rows, l2 {given.l2}, on {given.device}, seconds:\n")
    print("| " + " | ".join(middle) + " | from … to |\n" + "| ---: " * (len(middle) + 1) + "|")
    print("| " + " | ".join(f"{value:.2f}" for value in middle.values()) + f" | {min(whole):.2f} … {max(whole):.2f} |")


if __name__ == "__main__":
    main()
