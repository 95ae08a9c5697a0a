"""What a refit tells of itself, part by part, as `models.refit_report` says it.

It computes nothing that the refit has not computed, but for what a reader looks for first: the classes that lost, and
the confusions that came and went. It knows nothing of how the report is shown.

Letters: N held-out rows, C classes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.groups import Group
from breadcrumbs.models.head import LinearHead
from breadcrumbs.models.refit_report import Classes, Interval, RefitReport
from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.training.metrics import evaluate
from breadcrumbs.training.refit.balanced_set import BalancedSet
from breadcrumbs.training.refit.moves import moves, regressions
from breadcrumbs.training.refit.rows import RefitError
from breadcrumbs.training.refit.selection import Chosen, Holdout

TRACE = 1000  # steps of the solver that a report keeps, about

Found = dict[str, Any]
_CHANGE = TypeAdapter(list[Interval | None])


def origin(bundle: Bundle, live: LinearHead, candidate: LinearHead) -> Found:
    """Which head was refitted, and which came of it."""
    return {
        "bundle": bundle.manifest.name,
        "backbone": bundle.backbone_digest,
        "live": live.digest,
        "candidate": candidate.digest,
    }


def look(snapshot: Snapshot, bundle: Bundle) -> Found:
    """One uploaded snapshot."""
    present = snapshot.backbone == bundle.backbone_digest
    return {"epoch": snapshot.epoch, "rows": len(snapshot.labels), "deployed_backbone": present}


def classes(names: Sequence[str], known: Sequence[str], counts: NDArray[np.int64], groups: Sequence[Group]) -> Found:
    """The classes of the new head, those of the live one first."""
    new = list(names[len(known) :])
    return {
        "count": len(names),
        "new": new,
        "names": list(names),
        "train_images": counts.tolist(),
        "groups": list(groups),
    }


def pool(balanced: BalancedSet, target: int, names: Sequence[str], skipped: Sequence[str]) -> Found:
    """The balanced set: features of each class, how many of them are of older snapshots; the classes left out."""
    counts = torch.bincount(balanced.labels, minlength=len(names))
    crumbs = torch.bincount(balanced.labels[balanced.ages > 0], minlength=len(names))
    return {"target": target, "rows": counts.tolist(), "transferred": crumbs.tolist(), "skipped": list(skipped)}


def solver(chosen: Chosen, trace: Sequence[Found]) -> Found | None:
    """How the problem of the new head was solved, and the way there."""
    if chosen.solution is None:
        return None
    names = ("objective", "gradient_norm", "gap_bound", "iterations", "converged")
    told = {name: getattr(chosen.solution, name) for name in names}
    return {**told, "device": chosen.solution.weight.device.type, "trace": thinned(trace)}


def thinned(trace: Sequence[Found]) -> list[Found]:
    """Return at most about TRACE steps, among them the first and the last of every problem."""
    stride = -(-len(trace) // TRACE)
    begins = [i for i in range(len(trace)) if i == 0 or trace[i]["iteration"] <= trace[i - 1]["iteration"]]
    kept = {*range(0, len(trace), stride or 1), *begins, *(i - 1 for i in begins[1:]), len(trace) - 1}
    return [trace[i] for i in sorted(kept) if i >= 0]


def baseline(chosen: Chosen, held: Holdout) -> Found:
    """Another head on the same rows, and what was chosen for it."""
    measured = evaluate(chosen.head.logits(held.features), held.labels, held.groups)
    return {"l2": chosen.l2, "tau": chosen.tau, "prior_offset": chosen.prior_offset, **measured.as_dict()}


def complete(
    found: Found, live: NDArray[np.floating], candidate: NDArray[np.floating], labels: NDArray[np.int64]
) -> RefitReport:
    """Add what changed most between the two heads' logits (N, C) on the labels (N,), and check the whole.

    Raises:
        RefitError: a number is not finite.
    """
    own = Classes.model_validate(found["classes"])
    change = _CHANGE.validate_python(found["change"])
    lost = regressions(own, labels, found["live"]["recall"], found["candidate"]["recall"], change)
    moved = moves(live, candidate, labels, own.names)
    try:
        return RefitReport.model_validate({**found, "regressions": lost, "moves": moved})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise RefitError(f"the report would not be whole: {place} is {first['input']!r:.80}: {first['msg']}") from error
