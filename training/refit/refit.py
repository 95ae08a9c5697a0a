"""A new head from feature snapshots: no images, no backbone, no retraining.

    read -> transfer -> choose -> solve -> judge            the head can go live here
         -> baselines -> certificate -> report

It knows nothing of files: what is read and what is left on disk is `training.refit.files`'s, what the report holds is
`models.refit_report`'s.

Letters: N rows, D feature dimensions, C classes, I images.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.head import LinearHead
from breadcrumbs.models.known import Known
from breadcrumbs.models.refit_report import Judged
from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.training.config import RefitDevice, RefitSpec
from breadcrumbs.training.known import Points, points
from breadcrumbs.training.pairs import Pairs, pairs
from breadcrumbs.training.refit import device as devices
from breadcrumbs.training.refit import facts
from breadcrumbs.training.refit.completion import Refit, Solved, Tell, completed, fit_part, fit_quickly
from breadcrumbs.training.refit.deployment import check_deployment, log_deployment
from breadcrumbs.training.refit.edits import edited_logits
from breadcrumbs.training.refit.gate import comparison, judged
from breadcrumbs.training.refit.holdout import Source
from breadcrumbs.training.refit.looks import Looks, chosen_looks
from breadcrumbs.training.refit.material import Material, read
from breadcrumbs.training.refit.members import Fitter
from breadcrumbs.training.refit.rows import RefitError
from breadcrumbs.training.refit.scale import begin
from breadcrumbs.training.refit.selection import Part, average, average_logits, choose, given, usual
from breadcrumbs.training.refit.validation import Hear, Validation
from breadcrumbs.training.temperature import UNKNOWN, Temperature, calibrated, fit_temperature, with_temperature

NEVER = -1e9  # the logit of a class that a head does not know


@dataclass(frozen=True, eq=False)
class Candidate:
    """The new head, judged; it can go live before the rest of its report is made.

    Attributes:
        head: the new head.
        judged: what decides whether it goes live.
        known: by what it tells how well a feature is known; None: there are too few rows.
        complete: makes baselines, certificate and report.
    """

    head: LinearHead
    judged: Judged
    known: Known | None
    complete: Callable[[], Refit]


@devices.full_is_told()
def refit(
    bundle: Bundle,
    live: LinearHead,
    uploads: Sequence[Snapshot],
    holdout: Snapshot | None,
    spec: RefitSpec,
    tell: Tell = lambda _: None,
    device: RefitDevice = "cpu",
    source: Source = "snapshot",
    answers: Floats | None = None,
) -> Candidate:
    """Fit a head to snapshots and judge it beside the live one.

    Args:
        bundle: the deployed backbone: its digest, training counts and stored snapshots.
        live: the head to be replaced.
        uploads: snapshots of this backbone, or of other epochs or versions of it, the newest last.
        holdout: rows of the deployed backbone to judge on; None means those that the bundle carries, and without them a
            share of the images.
        spec: how.
        tell: hears of stages and progress.
        device: where to solve.
        source: whose the hold-out is, for the report.
        answers: logits (N, C) of the live head for the hold-out's N rows, where it is a head of another backbone's
            features, so that it cannot answer for rows of this one; there must be a hold-out, and no uploads then.

    Raises:
        RefitError: the snapshots do not fit the bundle, each other or the hold-out; or the device cannot be used,
            or has no room.
    """
    devices.check(device)
    tell({"event": "stage", "stage": "read"})
    own = bundle.holdout() if holdout is None else None
    material = read(
        bundle, live, uploads, holdout or own, "bundle" if holdout is None else source, spec,
        elsewhere=answers is not None,
    )  # fmt: skip
    classes = material.classes
    check_deployment(spec, classes)
    trace: list[dict[str, float]] = []
    progress = _progress(tell, trace)
    tell({"event": "stage", "stage": "transfer"})
    hear = _progress(tell, [])  # the way to a choice is told, and not kept
    looks = chosen_looks(material, spec, device, hear)
    pool = looks.pool(material.fit)
    if not len(pool):
        raise RefitError(
            "there is no row that can be fitted: no labelled image was seen by the deployed backbone, and rows of "
            "others need at least eight images that both have seen"
        )
    log_prior = pool.log_prior(len(classes))
    tell({"event": "stage", "stage": "choose"})
    apart = material.apart(spec.min_rows)
    made = begin(
        looks, pool, lambda own: _choose(material, own, log_prior, spec, device, hear, alone=not apart)
    )  # fmt: skip
    looks, parts, validation = made.looks, made.parts, made.validation
    pool = replace(pool, toward=looks.toward)
    tell({"event": "stage", "stage": "solve"})
    fitter = Fitter(pool, len(classes), spec.max_memory, device)
    fit = fit_part
    if spec.gap == "auto" and validation is not None and not validation.thorough:
        fit = partial(fit_quickly, share=validation.share)
    fitted = {part.member: fit(fitter, part, spec, progress) for part in parts if part.share}
    # The solver's proof is of the members' problems; what follows scales and shifts their average, in this order.
    temperature = _temperature(parts, validation, log_prior)
    deployment = log_deployment(spec, classes, log_prior)
    plain = average([(part, fitted[part.member]) for part in parts if part.share], log_prior, classes)
    head = calibrated(plain, temperature.value, deployment)
    tell({"event": "stage", "stage": "judge"})
    rows = material.judged
    both = _logits(live, material, answers), head.logits(rows.features)
    measured = comparison(*both, rows.labels, material.groups, spec.seed)
    counts = pairs(*both, rows.labels)
    left_out = _left_out(parts, validation, material, deployment, temperature)
    if left_out is not None:
        counts += left_out.without(range(material.known))
    taught = {c: 0 if left_out is None else int(left_out.rows[c]) for c in apart}
    decision = judged(
        counts, material.groups, classes, material.known, spec.tolerance, spec.min_rows, mapped=rows.mapped,
        apart=taught,
    )  # fmt: skip
    found: dict[str, Any] = {
        "gate": asdict(decision.gate),
        "new_classes": facts.new_classes(decision, material),
        "notes": [*material.notes, *made.notes, *looks.without_rows(pool), *facts.taught(apart, left_out, classes)],
        "judged_examples": rows.examples,
    }

    near = _points(material, spec.seed)
    done = Solved(
        bundle, live, head, uploads, spec, device, material, looks, pool, parts, fitter, fitted, log_prior, temperature,
        deployment, trace, both, decision, {**found, **measured}, near,
    )  # fmt: skip
    told = Judged.model_validate(
        {"candidate": head.digest, "live": live.digest, "candidate_metrics": measured["candidate"], **found}
        | {"rows": len(rows.labels), "holdout": rows.source}
    )
    return Candidate(head, told, done.known, partial(completed, done, tell))


def _points(material: Material, seed: int) -> Points | None:
    """By what the head tells how well a feature is known: the fitted rows of the deployed backbone."""
    rows = material.base.take(material.fit[material.base.images] & (material.base.labels >= 0))
    return points(rows.gather, rows.labels, material.groups, material.images.examples[rows.images], seed)


def _choose(
    material: Material, looks: Looks, log_prior: Tensor, spec: RefitSpec, device: RefitDevice, hear: Hear, *,
    alone: bool,
) -> tuple[list[Part], Validation | None]:  # fmt: skip
    """The members of the head. Nothing is validated where there is nothing to choose and, `alone`, nothing to judge."""
    classes = len(material.classes)
    fixed = given(spec)
    if fixed is not None and classes == material.known and material.named is None and alone:
        return [fixed], None
    validation = looks.validation(spec.max_memory, device, hear)
    return (choose(validation, spec, log_prior) if len(validation.labels) else [usual(spec)]), validation


def _temperature(parts: Sequence[Part], validation: Validation | None, log_prior: Tensor) -> Temperature:
    """T of the parts' average, whose logits are the average of theirs, from rows that they were not fitted to."""
    if validation is None or not len(validation.labels):
        return UNKNOWN
    found = fit_temperature(average_logits(parts), validation.labels, log_prior)
    # A backbone that was trained on these images has made them easier than new ones: they may not make a head surer.
    return replace(found, value=max(1.0, found.value), high=max(1.0, found.high))


def _logits(live: LinearHead, material: Material, answers: Floats | None) -> NDArray[np.float32]:
    """The live head's logits for the new classes (N, C): as edited, and never one that it does not know."""
    rows = material.judged
    own = live.logits(rows.features) if answers is None else answers[rows.index]
    known = edited_logits(own, material.edit)
    return np.pad(known, ((0, 0), (0, len(material.classes) - known.shape[1])), constant_values=NEVER)


def _left_out(
    parts: Sequence[Part], validation: Validation | None, material: Material, deployment: Tensor | None,
    temperature: Temperature,
) -> Pairs | None:  # fmt: skip
    """The rows of new classes and of others that came after the bundle, each by heads that were fitted without it.

    The live head is counted as right on none: it does not know the former, and may have been fitted to the latter.
    """
    if validation is None:
        return None
    own = torch.tensor(material.later)[validation.labels]
    labels = validation.labels[own].numpy()
    plain = average_logits(parts)[own].reshape(len(labels), len(material.classes))
    logits = with_temperature(plain, temperature.value, deployment).numpy()
    never = np.full_like(logits, NEVER)
    never[np.arange(len(labels)), np.where(labels == 0, 1, 0)] = 0
    return pairs(never, logits, labels)


def _progress(tell: Tell, trace: list[dict[str, float]]) -> Callable[..., None]:
    """Tells the solver's progress and keeps it for the report."""

    def progress(l2: float, iteration: int, norm: float, value: float) -> None:
        step = {"l2": l2, "iteration": iteration, "gradient_norm": norm, "objective": value}
        trace.append(step)
        tell({"event": "progress", **step})

    return progress
