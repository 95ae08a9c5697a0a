"""What a snapshot must be for the heads of a backbone to be judged by it.

It knows nothing of where the snapshot comes from: a bundle, a server's operator or a request.
"""

from collections.abc import Sequence

from breadcrumbs.models.snapshots.snapshot import Snapshot, SnapshotError


def check(snapshot: Snapshot, name: str, backbone: str, feature_dim: int, classes: Sequence[str]) -> None:
    """Refuse a snapshot that cannot be a hold-out.

    Args:
        snapshot: a checked one: its features are finite.
        name: its name in the message.
        backbone: sha256 of the deployed backbone.
        feature_dim: D of that backbone.
        classes: of the heads; the snapshot may have others besides.

    Raises:
        SnapshotError: another backbone made it, a row has no label, or no row is of one of the classes.
    """
    if snapshot.backbone != backbone:
        raise SnapshotError(
            f"{name}: a hold-out made by backbone {snapshot.backbone[:12]}, expected the deployed {backbone[:12]}: "
            "make it with `breadcrumbs snapshot --clean` and that bundle"
        )
    if snapshot.feature_dim != feature_dim:
        raise SnapshotError(
            f"{name}: a hold-out with features of {snapshot.feature_dim} dimensions, expected {feature_dim}"
        )
    unlabelled = int((snapshot.labels < 0).sum())
    if unlabelled:
        raise SnapshotError(
            f"{name}: {unlabelled} of {len(snapshot.labels)} rows of the hold-out have no label, expected one each: "
            "leave them out"
        )
    counts = zip(snapshot.classes, snapshot.counts().tolist(), strict=True)
    known = set(classes)
    if not any(count and label in known for label, count in counts):
        raise SnapshotError(f"{name}: no row of the hold-out is of one of the {len(classes)} classes, by name")
