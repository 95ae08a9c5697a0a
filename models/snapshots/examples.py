"""Examples as a snapshot: rows that people labelled, each with an identity, and the share of them that judges heads.

What a hash of its identity says of an example never changes, however many others come or go. It knows nothing of where
examples are kept, or of how a head is fitted.

Letters: N rows, D feature dimensions.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.snapshots.snapshot import Snapshot, SnapshotError

VERIFIED = hashlib.sha256(b"breadcrumbs.examples/verified").hexdigest()
UNVERIFIED = hashlib.sha256(b"breadcrumbs.examples/unverified").hexdigest()
"""The `dataset` of snapshots that are examples: those that somebody vouches for, and the others."""
ONE_IN = 5
"""One in so many verified examples judges heads and is never fitted."""
EPOCH = 1


def snapshot(
    features: Floats, labels: Sequence[str], identities: Sequence[str], backbone: str, *, verified: bool
) -> Snapshot:
    """Make a snapshot of examples.

    Args:
        features: f32 (N, D), of the deployed backbone.
        labels: name of each one's class (N,).
        identities: what an example is known by (N,), no two the same.
        backbone: sha256 of what made the features.
        verified: whether somebody vouches for them.
    """
    classes, places = np.unique(np.array(labels, object).astype(str), return_inverse=True)
    return Snapshot(
        features, places.astype(np.int64), tuple(classes.tolist()), backbone, EPOCH,
        ids=np.array([number(identity) for identity in identities], np.int64),
        dataset=VERIFIED if verified else UNVERIFIED,
    )  # fmt: skip


def number(identity: str) -> int:
    """Return the id that stands for an identity in a snapshot, 0 … 2⁶³ − 1."""
    return int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8]) >> 1


def are_examples(snapshot: Snapshot) -> bool:
    """Whether a snapshot is one of examples."""
    return snapshot.dataset in {VERIFIED, UNVERIFIED}


def judging(snapshot: Snapshot) -> NDArray[np.bool_]:
    """Return which rows (N,) judge heads and are not to be fitted: verified examples that the hash chose."""
    if snapshot.dataset != VERIFIED or snapshot.ids is None:
        return np.zeros(len(snapshot.labels), np.bool_)
    return np.array([judges(one) for one in snapshot.ids.tolist()], np.bool_)


def judges(identifier: int) -> bool:
    """Whether the hash chose the example of an id."""
    digest = hashlib.blake2b(identifier.to_bytes(8, signed=True), digest_size=8).digest()
    return int.from_bytes(digest) % ONE_IN == 0


def check(snapshot: Snapshot, name: str, backbone: str, feature_dim: int) -> None:
    """Refuse a snapshot that is not one of examples of the deployed backbone.

    Args:
        snapshot: a checked one: its features are finite.
        name: its name in the message.
        backbone: sha256 of the deployed backbone.
        feature_dim: D of that backbone.

    Raises:
        SnapshotError: it is no snapshot of examples, another backbone made it, or a row has no label or no id.
    """
    if not are_examples(snapshot):
        raise SnapshotError(
            f"{name}: data set {snapshot.dataset[:12] or 'not named'}, expected that of examples: give other rows by "
            "--snapshot"
        )
    if snapshot.backbone != backbone or snapshot.feature_dim != feature_dim:
        raise SnapshotError(
            f"{name}: examples of backbone {snapshot.backbone[:12]} with {snapshot.feature_dim} dimensions, expected "
            f"the deployed {backbone[:12]} with {feature_dim}: label the images again on this backbone"
        )
    unlabelled = int((snapshot.labels < 0).sum())
    if snapshot.ids is None or unlabelled:
        lacking = "no ids" if snapshot.ids is None else f"{unlabelled} rows without a label"
        raise SnapshotError(f"{name}: examples with {lacking}, expected an id and a label in each row: make it anew")
