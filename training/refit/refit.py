"""A new head from feature snapshots: no images, no backbone, no retraining.

    read -> hold out -> present means -> EMANATE transfer -> balanced set -> solve -> compare -> certificate -> report

It knows nothing of files: what is read and what is left on disk is `training.refit.files`'s, what the report holds is
`models.refit_report`'s.

Letters: N rows, D feature dimensions, C classes, n the balanced target.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.groups import GROUPS, Group, groups
from breadcrumbs.models.head import LinearHead
from breadcrumbs.models.refit_report import RefitReport
from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.training.config import RefitDevice, RefitSpec
from breadcrumbs.training.emanate import balanced_target
from breadcrumbs.training.metrics import evaluate
from breadcrumbs.training.refit import device as devices
from breadcrumbs.training.refit import facts
from breadcrumbs.training.refit.balanced_set import (
    balanced,
    newest_first,
    newest_means,
    present_means,
    skip_without_mean,
    split,
    target_classes,
)
from breadcrumbs.training.refit.certificate import certify
from breadcrumbs.training.refit.gate import comparison, judge
from breadcrumbs.training.refit.means import shrunk
from breadcrumbs.training.refit.rows import RefitError, Rows, merged, rows_of
from breadcrumbs.training.refit.selection import FLOAT, Chosen, Holdout, Progress, choose, with_offset, with_tau
from breadcrumbs.training.refit.without_training import NEVER, nearest_class_mean
from breadcrumbs.training.solver.solver import solve

CERTIFICATE_L2 = 1e-3
CERTIFICATE_SHARE, CERTIFICATE_ROWS = 0.5, 20  # of n, or rows where that is less: of a class in each snapshot

Tell = Callable[[dict[str, Any]], None]
"""Hears each event of a refit: a stage begun, or the solver's progress."""


@dataclass(frozen=True, eq=False)
class Refit:
    """The new head, what is known of it, and the heads it was compared with besides the live one."""

    head: LinearHead
    report: RefitReport
    baselines: dict[str, LinearHead]


@dataclass(frozen=True, eq=False)
class _Material:
    """What a refit stands on, read and checked."""

    classes: tuple[str, ...]
    counts: NDArray[np.int64]  # training images of each class (C,)
    pool: list[Rows]  # what may be fitted
    present: list[Rows]  # what the deployed backbone made: where the present means come from
    held: Holdout
    skipped: list[str]  # classes without a present mean, left out


@devices.full_is_told()
def refit(
    bundle: Bundle,
    live: LinearHead,
    uploads: Sequence[Snapshot],
    holdout: Snapshot | None,
    spec: RefitSpec,
    tell: Tell = lambda _: None,
    device: RefitDevice = "cpu",
) -> Refit:
    """Fit a head to snapshots and compare it with the live one.

    Args:
        bundle: the deployed backbone: its digest, training counts and stored snapshots.
        live: the head to be replaced.
        uploads: snapshots of this backbone, or of other epochs or versions of it.
        holdout: rows of the deployed backbone to choose and compare on; None means a share of them is held out.
        spec: how.
        tell: hears of stages and progress.
        device: where to solve.

    Raises:
        RefitError: the snapshots do not fit the bundle, each other or the hold-out; or the device cannot be used,
            or has no room.
    """
    devices.check(device)
    tell({"event": "stage", "stage": "read"})
    material = _read(bundle, live, uploads, holdout, spec)
    classes, held = material.classes, material.held
    tell({"event": "stage", "stage": "transfer"})
    means = _target_means(material, spec)
    target = spec.target or balanced_target(int(material.counts.sum()), len(classes))
    pool = balanced(material.pool, means, target, len(classes), spec.seed)
    log_prior = np.log(material.counts / material.counts.sum())
    tell({"event": "stage", "stage": "solve"})
    wanted = replace(held, floor=_floor(live, held, spec.tolerance))
    trace: list[dict[str, float]] = []
    progress = _progress(tell, trace)
    chosen = choose(pool, classes, log_prior, wanted, spec, progress, live, device)
    tell({"event": "stage", "stage": "evaluate"})
    both = _logits(live, held, len(classes)), chosen.head.logits(held.features)
    measured = comparison(*both, held.labels, held.groups, spec.seed)
    room = min(spec.max_memory, pool.size * FLOAT)  # what the new head's set took
    baselines = _baselines(bundle, material, wanted, log_prior, spec.model_copy(update={"max_memory": room}), device)
    tell({"event": "stage", "stage": "certificate"})
    certificate = _certificate(material, target, spec, device)
    tell({"event": "stage", "stage": "report"})
    report = {
        "origin": facts.origin(bundle, live, chosen.head),
        "spec": spec.model_dump(mode="json"),
        "snapshots": [facts.look(s, bundle) for s in uploads],
        "classes": facts.classes(classes, live.classes, material.counts, held.groups),
        "pool": facts.pool(pool, target, classes, material.skipped),
        "chosen": {"l2": chosen.l2, "prior_offset": chosen.prior_offset},
        "solver": facts.solver(chosen, trace),
        "holdout": {"source": "split" if holdout is None else "snapshot", "groups": bundle.manifest.groups},
        **measured,
        "gate": asdict(judge(measured, classes, spec.tolerance)),
        "baselines": {name: facts.baseline(chosen, held) for name, chosen in baselines.items()},
        "certificate": certificate,
    }
    whole = facts.complete(report, *both, held.labels)
    return Refit(chosen.head, whole, {name: chosen.head for name, chosen in baselines.items()})


def _read(
    bundle: Bundle, live: LinearHead, uploads: Sequence[Snapshot], holdout: Snapshot | None, spec: RefitSpec
) -> _Material:
    stored = bundle.snapshots()
    usable = [*uploads, *(stored if spec.use_bundle_snapshots else ())]
    if not usable:
        raise RefitError("there is no snapshot to refit from: name one, or set use_bundle_snapshots")
    classes = target_classes(live.classes, usable, grow=spec.allow_new_classes)
    digest = bundle.backbone_digest
    pool = _looks(usable, classes, live, digest)
    present = [part for part in _looks([*uploads, *stored], classes, live, digest) if part.present]
    if not present:
        raise RefitError("no snapshot was made with the deployed backbone, and the bundle carries none")
    skipped: list[str] = []
    if spec.missing_mean == "skip" and spec.target_mean != "none":
        classes, pool, present, skipped = skip_without_mean(pool, present, classes, len(live.classes))
    counts = _counts(bundle, classes, pool)
    if holdout is None:
        held, pool, present = split(pool, present, len(classes), spec.holdout_fraction, spec.seed)
    else:
        held = _check_holdout(rows_of(holdout, classes, live.feature_dim, digest))
    class_groups = groups(counts.tolist(), bundle.manifest.groups)
    compared = Holdout(held.features.numpy(), held.labels.numpy(), class_groups)
    return _Material(classes, counts, pool, present, compared, skipped)


def _looks(snapshots: Sequence[Snapshot], classes: Sequence[str], live: LinearHead, digest: str) -> list[Rows]:
    """One part for each backbone and epoch, the newest first: a bundle's crumbs may be rows of an upload."""
    looks: dict[tuple[str, int], list[Rows]] = {}
    for snapshot in snapshots:
        rows = rows_of(snapshot, classes, live.feature_dim, digest)
        looks.setdefault((snapshot.backbone, snapshot.epoch), []).append(rows)
    return newest_first([merged(parts) for parts in looks.values()])


def _counts(bundle: Bundle, classes: Sequence[str], pool: Sequence[Rows]) -> NDArray[np.int64]:
    """Training images of each class: the bundle's, or for a class it does not know the most rows of one snapshot."""
    known = dict(zip(bundle.manifest.classes, bundle.manifest.train_counts, strict=True))
    most = torch.stack([torch.bincount(part.labels, minlength=len(classes)) for part in pool]).amax(0).numpy()
    return np.array([known.get(name, 0) or max(1, int(most[i])) for i, name in enumerate(classes)], np.int64)


def _check_holdout(rows: Rows) -> Rows:
    if not rows.present:
        raise RefitError("the hold-out was not made with the deployed backbone, so no head can be compared on it")
    if bool((rows.labels < 0).any()):
        raise RefitError("the hold-out has rows of classes that neither the live head nor the snapshots have")
    return rows


def _target_means(material: _Material, spec: RefitSpec) -> Tensor | None:
    """Return the means (C, D) that old features are moved to; None means they stay."""
    if spec.target_mean == "none":
        return None
    means = present_means(material.pool, material.present, material.classes)
    if spec.target_mean == "newest":
        return means
    newest = material.present[0].known()
    older = [part for part in material.pool if part.look != newest.look]
    return shrunk(means, [newest], older)[0]


def _logits(live: LinearHead, held: Holdout, classes: int) -> NDArray[np.float32]:
    known = live.logits(held.features)
    return np.pad(known, ((0, 0), (0, classes - known.shape[1])), constant_values=NEVER)


def _floor(live: LinearHead, held: Holdout, tolerance: float) -> dict[Group, float]:
    """The recall of each group below which the gate will refuse."""
    measured = evaluate(_logits(live, held, len(held.groups)), held.labels, held.groups)
    recalls = {group: getattr(measured, group) for group in GROUPS}
    return {group: recall - tolerance for group, recall in recalls.items() if recall is not None}


def _progress(tell: Tell, trace: list[dict[str, float]]) -> Progress:
    """Tells the solver's progress and keeps it for the report."""

    def progress(l2: float, iteration: int, norm: float, value: float) -> None:
        step = {"l2": l2, "iteration": iteration, "gradient_norm": norm, "objective": value}
        trace.append(step)
        tell({"event": "progress", **step})

    return progress


def _baselines(
    bundle: Bundle,
    material: _Material,
    held: Holdout,
    log_prior: NDArray[np.float64],
    spec: RefitSpec,
    device: RefitDevice,
) -> dict[str, Chosen]:
    """What else these rows could have become, each with its own offset chosen in the same way."""
    classes = material.classes
    everything = max(len(part.labels) for part in material.pool)
    newest = balanced(material.pool[:1], None, everything, len(classes), spec.seed)
    found = {"crt": choose(newest, classes, log_prior, held, spec, device=device)}
    means, known = newest_means(material.present, len(classes))
    centres = nearest_class_mean(means[known].numpy(), known.nonzero().squeeze(1).numpy(), classes)
    found["nearest_class_mean"] = with_offset(centres, log_prior, held, "auto")
    joint = bundle.joint_head()
    if joint is not None and joint.classes == classes:
        found["joint"] = with_offset(joint, log_prior, held, 0.0)
        found["joint_logit_adjusted"] = with_offset(joint, log_prior, held, "auto")
        found["tau_normalised"] = with_tau(joint, log_prior, held, "auto")
    return found


def _certificate(material: _Material, target: int, spec: RefitSpec, device: RefitDevice) -> dict[str, Any] | None:
    """Lemma 1 between the newest part and the oldest that has as many classes; None if there is only one.

    Each offers half of n rows a class, those of the lowest ids: enough to measure a loss by, and less than the balanced
    set in memory.
    """
    seen = [int((torch.bincount(part.labels) > 0).sum()) for part in material.pool]
    whole = [part for part, count in zip(material.pool, seen, strict=True) if count == max(seen)]
    if len(whole) < 2:
        return None

    def fit(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        counts = torch.bincount(labels, minlength=len(material.classes))
        weights = 1 / (counts[labels] * (counts > 0).sum())
        place = devices.choose(device, features.numel(), len(counts))
        solution = solve(*devices.to(place, (features, labels, weights)), len(counts), CERTIFICATE_L2, gap=spec.gap)
        return solution.weight.cpu(), solution.bias.cpu()

    most = max(CERTIFICATE_ROWS, round(CERTIFICATE_SHARE * target))
    newest, oldest = (part.first_of_each(most) for part in (whole[0], whole[-1]))
    return certify(newest, oldest, material.classes, fit, spec.seed) | {"head": f"class-balanced, l2 {CERTIFICATE_L2}"}
