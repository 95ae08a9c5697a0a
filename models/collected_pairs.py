"""Pairs that a server has collected: how their files are named, and what is in a folder of them.

    pairs/<old>-<new>/<count>-<token>.old.safetensors     snapshot by the backbone that served
    pairs/<old>-<new>/<count>-<token>.new.safetensors     the same images by the other one, written last

`old` and `new` are the first 16 digits of the backbones' digests. A row's id is made of its image, so that an image
that came twice is known. It knows nothing of servers, or of what is learned of pairs.

Letters: P images.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import Snapshot

FOLDER = "pairs"
DIGITS = 16
"""Of each backbone's digest."""
_NEW = re.compile(r"(?:.*/)?(\d{1,9})-[0-9a-f]{16}\.new\.safetensors")


def folder(old: str, new: str) -> str:
    """Return where the pairs of two backbones lie in a store, from their digests."""
    return f"{FOLDER}/{old[:DIGITS]}-{new[:DIGITS]}"


def names(old: str, new: str, count: int, token: str) -> tuple[str, str]:
    """Return the names of both snapshots of `count` pairs; `token` is 16 hex digits that nobody else has."""
    stem = f"{folder(old, new)}/{count}-{token}"
    return f"{stem}.old.safetensors", f"{stem}.new.safetensors"


def dataset(old: str, new: str) -> str:
    """Return the name of the set of images that the ids of two backbones' pairs number."""
    return hashlib.sha256(f"collected pairs {old} {new}".encode()).hexdigest()


def image_id(image: bytes) -> int:
    """Return an image's id, 63 bits of a digest of its file."""
    return int.from_bytes(hashlib.blake2b(image, digest_size=8).digest(), "big") >> 1


def counted(found: Iterable[str]) -> int:
    """Return how many pairs there are, from the names of the files."""
    return sum(int(match[1]) for match in map(_NEW.fullmatch, found) if match)


def read(store: Path, old: str, new: str) -> tuple[Snapshot, Snapshot]:
    """Read all pairs of two backbones from a store's folder; of an image that came twice, the first.

    Raises:
        FileNotFoundError: there are none.
        SnapshotError: one is damaged.
    """
    place = store / folder(old, new)
    both = [
        (snapshots.read(path.with_name(path.name.replace(".new.", ".old."))), snapshots.read(path))
        for path in sorted(place.glob("*.new.safetensors"))
        if _NEW.fullmatch(path.name)
    ]
    if not both:
        raise FileNotFoundError(f"there are no pairs in {place}")
    first, second = (_joined([pair[side] for pair in both]) for side in (0, 1))
    return first, second


def _joined(parts: list[Snapshot]) -> Snapshot:
    """Several snapshots of one backbone and one set of images as one (P, D), each id once."""
    ids = np.concatenate([part.ids for part in parts if part.ids is not None])
    rows = np.sort(np.unique(ids, return_index=True)[1])
    features = np.concatenate([np.asarray(part.features, np.float32) for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    return replace(parts[0], features=features[rows], labels=labels[rows], ids=ids[rows])
