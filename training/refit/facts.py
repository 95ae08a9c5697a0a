"""What a refit tells of itself, part by part, as `models.refit_report` says it.

It computes nothing that the refit has not computed, but for what a reader looks for first: the classes that lost, and
the confusions that came and went. It knows nothing of how the report is shown.

Letters: N held-out rows, C classes.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.groups import Group
from breadcrumbs.models.head import LinearHead
from breadcrumbs.models.printable import listed
from breadcrumbs.models.refit_report import Classes, RefitReport
from breadcrumbs.models.report_part import Interval
from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.training.config import RefitSpec
from breadcrumbs.training.metrics import evaluate
from breadcrumbs.training.pairs import Pairs
from breadcrumbs.training.refit.gate import Decision
from breadcrumbs.training.refit.holdout import HeldOut
from breadcrumbs.training.refit.material import Material
from breadcrumbs.training.refit.moves import confused, moves, regressions
from breadcrumbs.training.refit.pool import Pool
from breadcrumbs.training.refit.rows import RefitError
from breadcrumbs.training.refit.selection import Part
from breadcrumbs.training.solver.solver import Solution
from breadcrumbs.training.temperature import Temperature

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


def classes(names: Sequence[str], known: int, counts: NDArray[np.int64], groups: Sequence[Group]) -> Found:
    """The classes of the new head, those of the live one first."""
    new = list(names[known:])
    return {
        "count": len(names),
        "new": new,
        "names": list(names),
        "train_images": counts.tolist(),
        "groups": list(groups),
    }


def pool(fitted: Pool, names: Sequence[str]) -> Found:
    """The rows of each class, and how many of them are moved ones."""
    counts = torch.bincount(fitted.labels, minlength=len(names))
    moved = torch.bincount(fitted.labels[fitted.part > 0], minlength=len(names))
    return {"rows": counts.tolist(), "moved": moved.tolist()}


def part(own: Part) -> Found:
    """One member of the head."""
    return {name: getattr(own, name) for name in ("member", "penalty", "prior_offset", "share", "score")}


def calibration(temperature: Temperature, spec: RefitSpec, compared: Found) -> Found:
    """The temperature, and how far probabilities hold before it and after it, by group."""
    told = asdict(temperature)
    wanted = spec.deployment_prior or "uniform"
    return {
        "temperature": {name: told[name] for name in ("value", "low", "high")},
        "fitted_rows": temperature.rows,
        "effective_rows": temperature.effective_rows,
        "prior": wanted if isinstance(wanted, str) else "given",
        "groups": compared,
    }


def new_classes(decision: Decision, material: Material) -> list[Found]:
    """Each class that the live head does not know: its images, and how it was judged."""
    labels = material.images.labels[material.fit]
    images = torch.bincount(labels[labels >= 0], minlength=len(material.classes))[material.known :]
    return [{**asdict(one), "images": int(n)} for one, n in zip(decision.new_classes, images, strict=True)]


def taught(apart: Sequence[int], left_out: Pairs | None, names: Sequence[str]) -> list[str]:
    """What a reader should know of known classes that are judged apart, a sentence for all of them."""
    if left_out is None or not apart:
        return []
    told = [f"{names[c]} {left_out.candidate[c]} of {left_out.rows[c]}" for c in apart if left_out.rows[c]]
    return [f"classes of few images, right on those that were left out: {listed(told)}"] if told else []


def solver(solutions: Sequence[Solution], trace: Sequence[Found]) -> Found:
    """How the problems of the head's members were solved, of several the one that is furthest from its optimum."""
    worst = max(solutions, key=lambda one: one.gap_bound)
    told = {
        name: getattr(worst, name) for name in ("objective", "gradient_norm", "gap_bound", "iterations", "converged")
    }
    return {**told, "device": worst.weight.device.type, "trace": thinned(trace)}


def thinned(trace: Sequence[Found]) -> list[Found]:
    """Return at most about TRACE steps, among them the first and the last of every problem."""
    stride = -(-len(trace) // TRACE)
    begins = [i for i in range(len(trace)) if i == 0 or trace[i]["iteration"] <= trace[i - 1]["iteration"]]
    kept = {*range(0, len(trace), stride or 1), *begins, *(i - 1 for i in begins[1:]), len(trace) - 1}
    return [trace[i] for i in sorted(kept) if i >= 0]


def baseline(head: LinearHead, chosen: Found, rows: HeldOut, class_groups: Sequence[Group]) -> Found:
    """Another head on the same rows, and what was chosen for it."""
    return {**chosen, **evaluate(head.logits(rows.features), rows.labels, class_groups).as_dict()}


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
    rows = np.bincount(labels, minlength=len(own.names)).tolist()
    try:
        more = {"class_rows": rows, "regressions": lost, "moves": moved, "confused": confused(live, candidate, labels)}
        return RefitReport.model_validate(found | more)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise RefitError(f"the report would not be whole: {place} is {first['input']!r:.80}: {first['msg']}") from error
