"""The rows of a snapshot whose labels are likely wrong, as a program: what the server starts, which has no torch.

    python -P -m breadcrumbs.training.inspect.suspect_list SNAPSHOT N

It prints a JSON object for each, the likeliest first, N at most, then `done`, or `refused` with the error's type and
message. Rows without a label are left out. It knows nothing of stores or HTTP.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.training.inspect.suspects import suspects, within_limit


@dataclass(frozen=True)
class Refusal:
    """Why there is no list: what kind of error, and a sentence."""

    kind: str
    message: str


def listed(path: Path, most: int) -> Iterator[dict[str, Any]] | Refusal:
    """Return the suspects of a snapshot's file, the likeliest first, `most` at most.

    Raises:
        SnapshotError: it is damaged.
    """
    found = snapshots.read(path)
    rows = np.flatnonzero(found.labels >= 0)
    labels = found.labels[rows]
    kept, own = np.unique(labels, return_inverse=True)
    if not len(rows) or (np.bincount(own) < 2).all() or len(kept) < 2:
        return Refusal(
            "too_few",
            f"{len(rows)} rows with a label, of {len(kept)} classes: expected two classes at least, one of them of two "
            "rows, so that a head can be fitted without a row",
        )
    if not within_limit(len(rows), found.feature_dim, len(kept)):
        return Refusal(
            "too_large",
            f"{len(rows)} rows of {found.feature_dim} numbers and {len(kept)} classes take too long to be scored each; "
            "upload fewer rows or classes",
        )
    features = np.asarray(found.features[rows], np.float32)
    return _told(suspects(features, own.astype(np.int64), len(kept))[:most], found, rows, kept)


def _told(named: Any, found: snapshots.Snapshot, rows: Any, kept: Any) -> Iterator[dict[str, Any]]:
    """Each suspect as JSON: its number in the file, and classes by name."""
    for one in named:
        row = int(rows[one.row])
        yield {
            "row": row,
            "image": None if found.ids is None else int(found.ids[row]),
            "given": found.classes[int(kept[one.given])],
            "given_probability": one.given_probability,
            "suggested": found.classes[int(kept[one.suggested])],
            "suggested_probability": one.suggested_probability,
        }


def main(path: str, most: str) -> None:
    """Print the list."""
    try:
        found = listed(Path(path), int(most))
    except BreadcrumbsError as error:
        found = Refusal("damaged", str(error)[:2000])
    if isinstance(found, Refusal):
        _print({"event": "refused", "type": found.kind, "message": found.message})
        return
    for one in found:
        _print({"event": "suspect", **one})
    _print({"event": "done"})


def _print(event: dict[str, Any]) -> None:
    print(json.dumps(event), flush=True)  # noqa: T201 - the parent reads it


if __name__ == "__main__":
    main(*sys.argv[1:])
