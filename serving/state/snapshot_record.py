"""What the store says about a snapshot, so that nobody has to read its features again.

It knows nothing of where records are kept.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.groups import GROUPS, groups
from breadcrumbs.models.snapshots.snapshot import Snapshot


class SnapshotRecord(BaseModel):
    """What the store says of a snapshot."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    sha256: str
    """Of the file; its name here."""
    rows: int
    """N."""
    feature_dim: int
    """D."""
    epoch: int
    """When its features were taken; larger is newer."""
    backbone: str
    """sha256 of what made the features."""
    deployed: bool
    """Whether that is the backbone that serves."""
    classes: dict[str, int]
    """Rows of each class."""
    unlabelled: int = 0
    """Rows without a label."""
    dataset: str = ""
    """sha256 of the set of images that the ids number; empty: unknown."""
    groups: dict[str, int]
    """Rows of the many, medium and few classes, by the bundle's training counts; `new`: classes it does not know."""
    group_of: dict[str, str] = {}
    """Which of these groups each class is in."""
    created: str
    """As the file says."""
    stored: str
    """When it came, ISO 8601."""
    owner: str | None = None
    """Name of the key that uploaded it first; absent: none came with it."""
    converted: tuple[str, ...] = ()
    """What was changed to make a file in another format safetensors, in words; empty for one that came so."""


def describe(snapshot: Snapshot, sha: str, bundle: Bundle) -> SnapshotRecord:
    """Return the record of a snapshot that is stored now."""
    counts = dict(zip(snapshot.classes, snapshot.counts().tolist(), strict=True))
    return SnapshotRecord(
        sha256=sha,
        rows=len(snapshot.labels),
        feature_dim=snapshot.feature_dim,
        epoch=snapshot.epoch,
        backbone=snapshot.backbone,
        classes=counts,
        unlabelled=len(snapshot.labels) - sum(counts.values()),
        dataset=snapshot.dataset,
        created=snapshot.created,
        stored=datetime.now(UTC).isoformat(timespec="seconds"),
        **beside(bundle, snapshot.backbone, counts),
    )


def beside(bundle: Bundle, backbone: str, counts: Mapping[str, int]) -> dict[str, Any]:
    """Return the fields of a record that depend on the deployed bundle. They are computed anew for each answer."""
    manifest = bundle.manifest
    known = dict(zip(manifest.classes, groups(manifest.train_counts, manifest.groups), strict=True))
    group_of = {name: known.get(name, "new") for name in counts}
    by_group = dict.fromkeys((*GROUPS, "new"), 0)
    for name, group in group_of.items():
        by_group[group] += counts[name]
    return {"deployed": backbone == bundle.backbone_digest, "groups": by_group, "group_of": group_of}
