"""A new head from feature snapshots: no images, no backbone, no retraining.

    read -> hold out -> present means -> EMANATE transfer -> balanced set -> solve -> compare -> certificate -> report

It knows nothing of HTTP, jobs or the store: the command line, and through it the server's child process, call `refit`.

Letters: N rows, D feature dimensions, C classes, n the balanced target.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models import bundle as bundles
from models import head as heads
from models.bundle import Bundle
from models.door import open_snapshot
from models.files import write_whole
from models.groups import GROUPS, Group, groups
from models.head import LinearHead
from models.snapshot import Snapshot
from training.certificate import certify
from training.config import RefitSpec
from training.emanate import balanced_target
from training.evaluate import evaluate
from training.gate import comparison, judge
from training.means import shrunk
from training.pool import (
    BalancedSet,
    RefitError,
    Rows,
    balanced,
    merged,
    newest_first,
    present_means,
    rows_of,
    skip_without_mean,
    split,
    target_classes,
)
from training.posthoc import NEVER, nearest_class_mean
from training.selection import Chosen, Holdout, choose, with_offset, with_tau
from training.solver import Progress, solve

CERTIFICATE_L2 = 1e-3

Tell = Callable[[dict[str, Any]], None]
"""Hears each event of a refit: a stage begun, or the solver's progress."""


@dataclass(frozen=True, eq=False)
class Refit:
    """The new head, what is known of it, and the heads it was compared with besides the live one."""

    head: LinearHead
    report: dict[str, Any]
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


def refit(
    bundle: Bundle,
    live: LinearHead,
    uploads: Sequence[Snapshot],
    holdout: Snapshot | None,
    spec: RefitSpec,
    tell: Tell = lambda _: None,
) -> Refit:
    """Fit a head to snapshots and compare it with the live one.

    Args:
        bundle: the deployed backbone: its digest, training counts and stored snapshots.
        live: the head to be replaced.
        uploads: snapshots of this backbone, or of other epochs or versions of it.
        holdout: rows of the deployed backbone to choose and compare on; none: a share of the images is held out.
        spec: how.
        tell: hears of stages and progress.

    Raises:
        RefitError: the snapshots do not fit the bundle, each other or the hold-out.
    """
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
    chosen = choose(pool, classes, log_prior, wanted, spec.l2, spec.prior_offset, spec.gradient_norm, _progress(tell))
    tell({"event": "stage", "stage": "evaluate"})
    measured = comparison(
        _logits(live, held, len(classes)), chosen.head.logits(held.features), held.labels, held.groups, spec.seed
    )
    baselines = _baselines(bundle, material, wanted, log_prior, spec)
    report = {
        "spec": spec.model_dump(mode="json"),
        "snapshots": [_describe(s, bundle) for s in uploads],
        "classes": {"count": len(classes), "new": list(classes[len(live.classes) :])},
        "pool": {**_describe_pool(pool, target, classes), "skipped": material.skipped},
        "chosen": {"l2": chosen.l2, "prior_offset": chosen.prior_offset},
        "solver": _describe_solution(chosen),
        "holdout": {"source": "split" if holdout is None else "snapshot", "groups": bundle.manifest.groups},
        **measured,
        "gate": asdict(judge(measured, classes, spec.tolerance)),
        "baselines": {name: _describe_baseline(chosen, held) for name, chosen in baselines.items()},
    }
    tell({"event": "stage", "stage": "certificate"})
    report["certificate"] = _certificate(material, spec)
    tell({"event": "stage", "stage": "report"})
    return Refit(chosen.head, report, {name: chosen.head for name, chosen in baselines.items()})


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
    """The means (C, D) that old features are moved to; none if they stay where they are."""
    if spec.target_mean == "none":
        return None
    means = present_means(material.pool, material.present, material.classes)
    if spec.target_mean == "newest":
        return means
    newest = material.present[0].known()
    older = [part for part in material.pool if not part.is_same_look(newest)]
    return shrunk(means, [newest], older)[0]


def _logits(live: LinearHead, held: Holdout, classes: int) -> NDArray[np.float32]:
    known = live.logits(held.features)
    return np.pad(known, ((0, 0), (0, classes - known.shape[1])), constant_values=NEVER)


def _floor(live: LinearHead, held: Holdout, tolerance: float) -> dict[Group, float]:
    """The recall of each group below which the gate will refuse."""
    measured = evaluate(_logits(live, held, len(held.groups)), held.labels, held.groups)
    recalls = {group: getattr(measured, group) for group in GROUPS}
    return {group: recall - tolerance for group, recall in recalls.items() if recall is not None}


def _progress(tell: Tell) -> Progress:
    def progress(iteration: int, norm: float, value: float) -> None:
        tell({"event": "progress", "iteration": iteration, "gradient_norm": norm, "objective": value})

    return progress


def _baselines(
    bundle: Bundle, material: _Material, held: Holdout, log_prior: NDArray[np.float64], spec: RefitSpec
) -> dict[str, Chosen]:
    """What else these rows could have become, each with its own offset chosen in the same way."""
    classes = material.classes
    everything = max(len(part.labels) for part in material.pool)
    newest = balanced(material.pool[:1], None, everything, len(classes), spec.seed)
    found = {"crt": choose(newest, classes, log_prior, held, spec.l2, spec.prior_offset, spec.gradient_norm)}
    means = nearest_class_mean(*_newest_of_each(material.present), classes)
    found["nearest_class_mean"] = with_offset(means, log_prior, held, "auto")
    joint = bundle.joint_head()
    if joint is not None and joint.classes == classes:
        found["joint"] = with_offset(joint, log_prior, held, 0.0)
        found["joint_logit_adjusted"] = with_offset(joint, log_prior, held, "auto")
        found["tau_normalised"] = with_tau(joint, log_prior, held, "auto")
    return found


def _newest_of_each(present: Sequence[Rows]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features (M, D) and labels (M,) of each class in the newest part of the deployed backbone that has it."""
    features: list[Tensor] = []
    labels: list[Tensor] = []
    for part in (part.known() for part in present):
        fresh = ~torch.isin(part.labels, torch.cat([*labels, part.labels[:0]]))
        features.append(part.features[fresh])
        labels.append(part.labels[fresh])
    return torch.cat(features).numpy(), torch.cat(labels).numpy()


def _describe_baseline(chosen: Chosen, held: Holdout) -> dict[str, Any]:
    measured = evaluate(chosen.head.logits(held.features), held.labels, held.groups)
    return {"l2": chosen.l2, "tau": chosen.tau, "prior_offset": chosen.prior_offset, **measured.as_dict()}


def _certificate(material: _Material, spec: RefitSpec) -> dict[str, Any] | None:
    """Lemma 1 between the newest part and the oldest that has as many classes; none if there is only one."""
    seen = [int((torch.bincount(part.labels) > 0).sum()) for part in material.pool]
    whole = [part for part, count in zip(material.pool, seen, strict=True) if count == max(seen)]
    if len(whole) < 2:
        return None

    def fit(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        counts = torch.bincount(labels, minlength=len(material.classes))
        weights = 1 / (counts[labels] * (counts > 0).sum())
        solution = solve(features, labels, weights, len(counts), CERTIFICATE_L2, gradient_norm=spec.gradient_norm)
        return solution.weight, solution.bias

    return certify(whole[0], whole[-1], material.classes, fit, spec.seed) | {
        "head": f"class-balanced, l2 {CERTIFICATE_L2}"
    }


def _describe(snapshot: Snapshot, bundle: Bundle) -> dict[str, Any]:
    present = snapshot.backbone == bundle.backbone_digest
    return {"epoch": snapshot.epoch, "rows": len(snapshot.labels), "deployed_backbone": present}


def _describe_pool(pool: BalancedSet, target: int, classes: Sequence[str]) -> dict[str, Any]:
    counts = torch.bincount(pool.labels, minlength=len(classes))
    crumbs = torch.bincount(pool.labels[pool.ages > 0], minlength=len(classes))
    return {"target": target, "rows": counts.tolist(), "transferred": crumbs.tolist()}


def _describe_solution(chosen: Chosen) -> dict[str, Any] | None:
    if chosen.solution is None:
        return None
    names = ("objective", "gradient_norm", "gap_bound", "iterations", "converged")
    return {name: getattr(chosen.solution, name) for name in names}


def run(
    bundle: Path,
    head: Path | None,
    uploads: Sequence[Path],
    holdout: Path | None,
    spec: RefitSpec,
    out: Path,
    tell: Tell = lambda _: None,
) -> dict[str, Any]:
    """Refit from files to files: `head.safetensors`, `head.onnx` and `report.json` in `out`. Returns the report.

    Raises:
        FormatError: a file is damaged.
        RefitError: as `refit`.
    """
    opened = bundles.read(bundle)
    live = opened.head() if head is None else heads.read(head)
    made = refit(
        opened, live, [open_snapshot(path).snapshot for path in uploads],
        None if holdout is None else open_snapshot(holdout).snapshot, spec, tell,
    )  # fmt: skip
    write_whole(out / "head.safetensors", heads.to_bytes(made.head))
    write_whole(out / "head.onnx", heads.to_onnx(made.head))
    write_whole(out / "report.json", json.dumps(made.report, indent=1).encode() + b"\n")
    return made.report
