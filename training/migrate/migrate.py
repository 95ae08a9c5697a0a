"""A change of backbone without the old images, from top to bottom.

    divide -> map -> write mapped rows -> refit -> judge -> report -> bundle

The labelled rows of a bundle are mapped to the space of another backbone. The map is fitted to pairs: images that both
backbones saw, with or without a label. A head is fitted to the mapped rows by a refit. It is judged on images that the
new backbone really saw where there are labelled ones, else on the mapped hold-out. It knows nothing of how pairs were
collected.

Letters: N rows, P pairs, D' and D dimensions of the old space and the new, C classes.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models import head as heads
from breadcrumbs.models.bundle import Bundle, Lineage
from breadcrumbs.models.files import sha256
from breadcrumbs.models.groups import groups
from breadcrumbs.models.head import LinearHead
from breadcrumbs.models.refit_report import RefitReport
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import MAPPED, Snapshot
from breadcrumbs.training.adopt.opened import Opened
from breadcrumbs.training.config import RefitDevice, RefitSpec
from breadcrumbs.training.measure import LOADING, SOURCE
from breadcrumbs.training.migrate.division import Both, Division, divided
from breadcrumbs.training.migrate.held import SOURCES, Held, enough, held
from breadcrumbs.training.migrate.map import Map, chosen_map
from breadcrumbs.training.migrate.pairs import Pairs
from breadcrumbs.training.migrate.told import migration
from breadcrumbs.training.refit import files as refits
from breadcrumbs.training.refit.completion import Tell
from breadcrumbs.training.refit.edits import with_past
from breadcrumbs.training.refit.refit import refit
from breadcrumbs.training.refit.rows import CHUNK, RefitError
from breadcrumbs.training.refit.transfer import MOST

JUDGED = 0.5  # share of each class's labelled pairs that is set aside to judge on, rounded up


def migrate(
    old: Bundle,
    to: Opened,
    pairs: Pairs | None,
    out: Path,
    spec: RefitSpec,
    tell: Tell = lambda _: None,
    *,
    rows: Sequence[Snapshot] = (),
    notes: Sequence[str] = (),
    device: RefitDevice = "cpu",
) -> RefitReport:
    """Move a bundle's labelled rows to another backbone, and leave head, report, page and a bundle in `out`.

    Args:
        old: the bundle that has the rows.
        to: the backbone that they move to.
        pairs: images that both backbones saw; None means those that `old` and `rows` have both.
        out: folder for what `breadcrumbs refit` leaves, too.
        spec: of the refit; it keeps the classes.
        tell: hears of stages and progress.
        rows: further snapshots of the new backbone, of the same classes.
        notes: what the report tells besides, a sentence each.
        device: where the refit is solved.

    Raises:
        RefitError: both backbones are one, there are too few pairs, or the rows do not fit the backbones.
        SnapshotError: a snapshot is damaged, or a mapped feature is not finite.
    """
    check_apart(old, to)
    if spec.classes or spec.aliases:
        raise RefitError("a migration keeps the classes; rename, merge or remove them by a refit of the new bundle")
    if spec.deployment_prior is None:
        spec = spec.model_copy(update={"deployment_prior": _past(old).get("deployment_prior")})
    tell({"event": "stage", "stage": "map"})
    head = old.head()
    looks = () if pairs is None else (pairs.old, pairs.new)
    divide = partial(_divided, old, to, head, [*rows, *looks], spec.seed)
    division = divide(JUDGED)
    proof = enough(division, groups(old.manifest.train_counts, old.manifest.groups), spec.min_rows)
    if not proof and len(division.judged):
        division = divide(0.0)
    if not division.mapped:
        raise RefitError(
            "the old bundle has no labelled row of its own backbone that the new one has not seen, so there is nothing "
            "to map; use `breadcrumbs refit`"
        )
    line = _map(division.pairs, spec.seed)
    move = partial(_moved, line, to.digest)
    gate, kept = held(division, head, move, spec.holdout_fraction, spec.seed, proof=proof)
    with tempfile.TemporaryDirectory() as folder:
        moved = [*map(move, division.mapped), *division.seen]
        parent = _parent(Path(folder) / "bundle", old, to, moved, gate)
        candidate = refit(parent, head, (), gate.rows, spec, tell, device, SOURCES[gate.what], gate.answers)
        refits.write_candidate(out, candidate)
        tell({"event": "judged"})
        made = candidate.complete()
        more = [*notes, *division.notes, *(() if pairs is None else pairs.notes), *gate.notes]
        part = migration(old, line, division, gate, kept, candidate.head)
        made = replace(
            made, report=made.report.model_copy(update={"notes": [*made.report.notes, *more], "migration": part})
        )
        told = refits.write_report(out, made.report)
        refits.repack(out / "bundle", parent, made, (), _lineage(old, head, spec), told)
    return made.report


def check_apart(old: Bundle, to: Opened) -> None:
    """Refuse a change to the same backbone.

    Raises:
        RefitError: there is nothing to do.
    """
    if old.backbone_digest == to.digest:
        raise RefitError(
            f"both have the backbone {to.digest[:12]}, so their rows are in one space already and there is nothing to "
            "do; use `breadcrumbs refit`"
        )


def _past(old: Bundle) -> Mapping[str, Any]:
    """The spec that the old head was fitted with; empty: there is none."""
    return {} if old.manifest.lineage is None else old.manifest.lineage.spec


def _divided(old: Bundle, to: Opened, head: LinearHead, looks: Sequence[Snapshot], seed: int, share: float) -> Division:
    """What each row is used for, under the names that classes have now."""
    became = with_past(RefitSpec(), _past(old), head.classes).aliases
    own = {name: c for c, name in enumerate(head.classes)}
    place = {**own, **{name: own[new] for name, new in became.items() if new in own}}
    stored, holdout = old.snapshots(), old.holdout()
    digests = (old.backbone_digest, to.digest)
    dims = dict(zip(digests, (old.manifest.feature_dim, to.feature_dim), strict=True))
    for snapshot in (*stored, *looks):
        wanted = dims.get(snapshot.backbone, snapshot.feature_dim)
        if snapshot.feature_dim != wanted:
            raise RefitError(
                f"a snapshot of backbone {snapshot.backbone[:12]} has features of {snapshot.feature_dim} dimensions, "
                f"expected {wanted}; make it again with that backbone"
            )
    return divided(stored, holdout, looks, digests, head.classes, place, share, seed)


def _map(both: Both, seed: int) -> Map:
    """The map, fitted to pairs in a drawn order; of many pairs to as many as a refit takes."""
    order = torch.randperm(len(both), generator=torch.Generator().manual_seed(seed))[:MOST]
    return chosen_map(both.old.gather(order), both.new.gather(order))


def _moved(line: Map, backbone: str, snapshot: Snapshot) -> Snapshot:
    """A snapshot's rows in the space of another backbone, with lineage `mapped`."""
    made = np.empty((len(snapshot.labels), len(line.line[1])), np.float32)
    for start in range(0, len(made), CHUNK):
        part = torch.from_numpy(np.array(snapshot.features[start : start + CHUNK], np.float32))
        made[start : start + CHUNK] = line(part).numpy()
    return replace(snapshot, features=made, backbone=backbone, weight=None, bias=None, lineage=MAPPED)


def _parent(folder: Path, old: Bundle, to: Opened, looks: Sequence[Snapshot], gate: Held) -> Bundle:
    """A bundle of the new backbone and the moved rows, for a refit to stand on; its head is of zeros."""
    classes = old.manifest.classes
    zeros = LinearHead(
        np.zeros((len(classes), to.feature_dim), np.float32), np.zeros(len(classes), np.float32), classes
    )
    files = {"backbone.onnx": to.model, "head.onnx": heads.to_onnx(zeros)}
    if to.half is not None:
        files["backbone-half.onnx"] = to.half
    for name in old.manifest.files:
        if name.startswith("samples/") or name == bundles.TAXONOMY:
            files[name] = (old.folder / name).read_bytes()
    for look in looks:
        refits.add_snapshot(files, look)
    if gate.what != "mapped share of the rows":
        files[bundles.HOLDOUT] = snapshots.to_bytes(gate.rows)
    kept = (*SOURCE, *LOADING, "augmentation")  # where the images are, not how the old backbone was trained
    recipe = {name: value for name, value in old.manifest.recipe.items() if name in kept}
    manifest = old.manifest.model_copy(
        update={
            "architecture": to.name, "preprocess": to.preprocess, "feature_dim": to.feature_dim,
            "space": None, "recipe": recipe, "metrics": {}, "lineage": None, "files": {},
        }
    )  # fmt: skip
    return bundles.write(folder, manifest, files)


def _lineage(old: Bundle, head: LinearHead, spec: RefitSpec) -> Lineage:
    parent = sha256(old.folder / "manifest.json")
    return Lineage(parent=parent, live=head.digest, snapshots=(), holdout=None, spec=spec.model_dump(mode="json"))
