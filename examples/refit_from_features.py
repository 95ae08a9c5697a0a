"""Refit a head from features in numpy, make it live, and go back. Needs a running server: `breadcrumbs serve`.

    python examples/refit_from_features.py new.npz holdout.npz

Write both files with `numpy.savez(file, features=…, labels=…)`. `features` is a float array (N, D), computed by the
server's backbone: by `Client.features`, or by the bundle's `backbone.onnx`. `labels` (N,) are names of classes.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from breadcrumbs import Client
from breadcrumbs.training.config import RefitSpec

NEWEST = 1_000_000  # an epoch after all those of the bundle's own snapshots


def upload(client: Client, source: Path) -> str:
    """Store features as a snapshot, and return its sha256."""
    arrays = np.load(source, allow_pickle=False)
    with tempfile.TemporaryDirectory() as place:
        file = Path(place, "snapshot.npz")
        np.savez(
            file,
            features=arrays["features"].astype(np.float32),  # (N, D)
            labels=arrays["labels"],  # (N,), names
            epoch=np.int64(NEWEST),
            backbone=client.head(
                client.heads().live
            ).backbone,  # features of another backbone are of no use to its heads
        )
        return client.put_snapshot(file).sha256  # the server turns it into its own format, and checks it


def main() -> None:
    """Upload, refit, show the report, activate, roll back."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("features", type=Path)
    words.add_argument("holdout", type=Path, help="features that nobody trained on, to compare both heads on")
    words.add_argument("--server", default="http://127.0.0.1:8000")
    given = words.parse_args()

    with Client(given.server) as client:
        before = client.heads().live
        snapshot, holdout = upload(client, given.features), upload(client, given.holdout)
        job = client.refit([snapshot], RefitSpec(activate="never"), holdout)
        for event in client.events(job.id):  # ends with the refit
            if event["event"] != "progress":  # of which the solver sends many
                print(event.get("stage") or event.get("state"))

        done = client.job(job.id)
        if done.verdict is None:
            raise SystemExit(f"refit {done.state}: {done.error.message if done.error else ''}")
        new = done.verdict.head
        print(f"the gate says {done.verdict.gate.answer}", *done.verdict.gate.reasons, sep="\n  ")

        # `expected_live`: refused, should someone else have activated a head meanwhile.
        client.activate(new, "tried from numpy", expected_live=before)
        print(f"head {client.heads().live} is live")
        client.rollback("only an example", expected_live=new)
        print(f"head {client.heads().live} is live again")


if __name__ == "__main__":
    main()
