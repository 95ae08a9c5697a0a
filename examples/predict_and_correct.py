"""Classify a folder of images, and teach the server what it got wrong. Needs a running server: `breadcrumbs serve`.

    python examples/predict_and_correct.py photos
    python examples/predict_and_correct.py photos --corrected corrected --holdout holdout

The first line prints the images that the live head is unsure of. Look at them, and copy them into a folder for each
class, as `corrected/oak/a.jpg`. The second line refits the head with them. `holdout/` has the same form, with other
images: the new head goes live only if it is better on those.
"""

import argparse
import tempfile
from pathlib import Path

from breadcrumbs import Client
from breadcrumbs.training.config import RefitSpec

NEWEST = 1_000_000  # an epoch after all those of the bundle's own snapshots


def images(folder: Path) -> list[Path]:
    """Return the image files below a folder."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png", ".webp"})


def show_unsure(client: Client, folder: Path, below: float) -> None:
    """Print each image whose best class has a probability below the limit, the least sure first."""
    paths = images(folder)
    answer = client.predict(paths, top_k=2)  # any number of images: the client sends several requests
    unsure = [
        (first.probability, path, first.name, second.name)
        for path, prediction in zip(paths, answer.predictions, strict=True)
        for first, second in [prediction.classes]
        if first.probability < below
    ]
    print(f"{len(unsure)} of {len(paths)} images are unsure, says head {answer.head.version}")
    for probability, path, first, second in sorted(unsure):
        print(f"{path}: {first} ({probability:.2f}) or {second}")


def upload(client: Client, folder: Path) -> str:
    """Compute the features of labelled images on the server, store them as a snapshot, and return its sha256."""
    paths = images(folder)
    data = client.snapshot(paths, labels=[path.parent.name for path in paths], epoch=NEWEST)
    with tempfile.TemporaryDirectory() as place:
        file = Path(place, "new.safetensors")
        file.write_bytes(data)
        return client.put_snapshot(file).sha256


def main() -> None:
    """Predict, and refit where corrected images are given."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("photos", type=Path)
    words.add_argument("--corrected", type=Path, help="images to learn from, a folder for each class")
    words.add_argument("--holdout", type=Path, help="images to compare both heads on, a folder for each class")
    words.add_argument("--server", default="http://127.0.0.1:8000")
    words.add_argument("--below", type=float, default=0.7, help="probability below which an image is unsure")
    given = words.parse_args()

    with Client(given.server) as client:
        show_unsure(client, given.photos, given.below)
        if given.corrected is None:
            return
        spec = RefitSpec(activate="if_better")
        holdout = upload(client, given.holdout) if given.holdout else None
        job = client.wait(client.refit([upload(client, given.corrected)], spec, holdout).id)
        told = job.verdict.note if job.verdict else job.error.message if job.error else ""
        print(f"refit {job.state}: {told}")
        print(f"head {client.heads().live} is live")


if __name__ == "__main__":
    main()
