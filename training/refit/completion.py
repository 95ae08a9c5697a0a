"""What follows when a refit's head is judged: other heads to compare it with, the certificate, and the report.

The head may be live by then. It knows nothing of how the head was chosen.

Letters: N rows, C classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.head import LinearHead
from breadcrumbs.models.known import Known
from breadcrumbs.models.refit_report import RefitReport
from breadcrumbs.models.rejection import Rejection
from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.training.calibration import compared
from breadcrumbs.training.config import Member, RefitDevice, RefitSpec
from breadcrumbs.training.known import Points, unlike
from breadcrumbs.training.metrics import as_json
from breadcrumbs.training.refit import certificate, facts
from breadcrumbs.training.refit.gate import Decision
from breadcrumbs.training.refit.holdout import HeldOut
from breadcrumbs.training.refit.looks import Looks
from breadcrumbs.training.refit.material import Material
from breadcrumbs.training.refit.members import Fitted, Fitter
from breadcrumbs.training.refit.offset import Labelled, with_offset, with_tau
from breadcrumbs.training.refit.pool import Pool
from breadcrumbs.training.refit.selection import STEP, Part, average
from breadcrumbs.training.refit.validation import ROUGH
from breadcrumbs.training.rejection import rejection
from breadcrumbs.training.temperature import Temperature

STARTS = 0.25  # share of the rows that a head must have been fitted to, to be a start for the head of all

Tell = Callable[[dict[str, Any]], None]
"""Hears each event of a refit: a stage begun, or the solver's progress."""


@dataclass(frozen=True, eq=False)
class Refit:
    """The new head, and what is known of it.

    Attributes:
        head: the new head.
        report: of the refit.
        baselines: the heads it was compared with besides the live one.
        judged: the rows that they were compared on.
        log_prior: log π (C,), of which prior offsets take t times.
        known: by what the head tells how well a feature is known; None: there are too few rows.
    """

    head: LinearHead
    report: RefitReport
    baselines: dict[str, LinearHead]
    judged: HeldOut
    log_prior: NDArray[np.float64]
    known: Known | None = None


@dataclass(frozen=True, eq=False)
class Solved:
    """All that there is when the new head is judged.

    Attributes:
        temperature: of the new head.
        deployment: log π (C,) of the deployment prior; None: all classes are equally frequent.
        both: logits (N, C) of the live head and the new one on the judged rows.
        decision: of the gate.
        found: what the report says of both, ready as it is.
        points: of the new head; None: there are too few rows.
    """

    bundle: Bundle
    live: LinearHead
    head: LinearHead
    uploads: Sequence[Snapshot]
    spec: RefitSpec
    device: RefitDevice
    material: Material
    looks: Looks
    pool: Pool
    parts: Sequence[Part]
    fitter: Fitter
    fitted: dict[Member, Fitted]
    log_prior: Tensor
    temperature: Temperature
    deployment: Tensor | None
    trace: list[dict[str, float]]
    both: tuple[NDArray[np.float32], NDArray[np.float32]]
    decision: Decision
    found: dict[str, Any]
    points: Points | None

    @property
    def known(self) -> Known | None:
        """By what the new head tells how well a feature is known."""
        return None if self.points is None else self.points.known


def completed(done: Solved, tell: Tell) -> Refit:
    """Make baselines, certificate and report."""
    material, classes, rows = done.material, done.material.classes, done.material.judged
    tell({"event": "stage", "stage": "baselines"})
    baselines = _baselines(done)
    tell({"event": "stage", "stage": "certificate"})
    evidence = certificate.measured(material, done.spec, done.device)
    tell({"event": "stage", "stage": "report"})
    report = {
        **done.found,
        "origin": facts.origin(done.bundle, done.live, done.head),
        "classes": facts.classes(classes, material.known, material.counts, material.groups),
        "holdout": {"source": rows.source, "groups": done.bundle.manifest.groups},
        "difference": as_json(done.decision.difference),
        "change": [one and asdict(one) for one in done.decision.change],
        "spec": done.spec.model_dump(mode="json"),
        "snapshots": [facts.look(s, done.bundle) for s in done.uploads],
        "pool": facts.pool(done.pool, classes),
        "transfer": done.looks.tried,
        "members": [facts.part(part) for part in done.parts],
        "solver": facts.solver([own.solution for own in done.fitted.values()], done.trace),
        "baselines": {
            name: facts.baseline(head, chosen, rows, material.groups) for name, (head, chosen) in baselines.items()
        },
        "certificate": evidence,
        "calibration": _calibration(done),
        "unlike": {}
        if done.known is None
        else as_json(unlike(done.known, rows.features, rows.labels, material.groups)),
        "rejection": _rejection(done),
    }
    whole = facts.complete(report, *done.both, rows.labels)
    others = {name: head for name, (head, _) in baselines.items()}
    return Refit(done.head, whole, others, rows, done.log_prior.double().numpy(), done.known)


def _calibration(done: Solved) -> dict[str, Any]:
    """What the temperature did on the judged rows, both times with the deployment prior."""
    after, labels, count = done.both[1], done.material.judged.labels, len(done.material.classes)
    own = np.zeros(count) if done.deployment is None else done.deployment.double().numpy()
    before = done.temperature.value * (after - own) + own  # T (z / T + log π − log π) + log π
    prior = np.exp(own) / np.exp(own).sum()
    groups = compared(before, after, labels, done.material.groups, prior, done.spec.seed)
    return facts.calibration(done.temperature, done.spec, groups)


def _rejection(done: Solved) -> Rejection | None:
    """Which of the judged rows `known` would reject."""
    rows = done.material.judged
    if done.points is None:
        return None
    return rejection(done.points, rows.features, rows.labels, done.material.groups, done.spec.seed)


def fit_part(
    fitter: Fitter, part: Part, spec: RefitSpec, progress: Callable[..., None] | None, *, rough: bool = False
) -> Fitted:
    """Fit one member, from a head that is close to it; `rough`: near enough to compare with."""
    starts = () if part.start is None else (part.start,)
    hear = progress and partial(progress, part.penalty)
    return fitter.fit(part.member, part.penalty, max(spec.proof, ROUGH) if rough else spec.proof, starts, hear, rough)


def fit_quickly(fitter: Fitter, part: Part, spec: RefitSpec, progress: Callable[..., None], *, share: float) -> Fitted:
    """Fit one member to many rows, without proof.

    Where the choice was made on a good `share` of these rows, its head is the start. A head that was fitted to few of
    them is sure of itself, also where it is wrong, and from there the solver needs more passes than from nothing: then
    it begins with a stronger penalty, as the choice did.
    """
    if share >= STARTS:
        return fit_part(fitter, part, spec, progress, rough=True)
    stronger = fitter.fit(part.member, STEP * part.penalty, ROUGH, (), partial(progress, STEP * part.penalty), True)
    start = (stronger.weight, stronger.bias)
    return fitter.fit(part.member, part.penalty, ROUGH, (start,), partial(progress, part.penalty), True)


def _baselines(done: Solved) -> dict[str, tuple[LinearHead, dict[str, float | None]]]:
    """What else the same rows could have become: each member alone, and the joint head; with what was chosen."""
    found: dict[str, tuple[LinearHead, dict[str, float | None]]] = {}
    material, log_prior = done.material, done.log_prior
    for part in done.parts:
        own = done.fitted.get(part.member) or fit_part(
            done.fitter, part, done.spec, None, rough=True
        )  # to compare with, not to serve
        alone = average([(replace(part, share=1.0), own)], log_prior, material.classes)
        found[part.member] = (alone, {"l2": part.penalty, "tau": None, "prior_offset": part.prior_offset})
    joint = done.bundle.joint_head()
    if joint is not None and joint.classes == material.classes:
        base = material.base.take(material.fit[material.base.images] & (material.base.labels >= 0))
        rows = Labelled(base.features.numpy(), base.labels.numpy())
        prior = log_prior.double().numpy()
        found["joint"] = (joint, {"l2": None, "tau": None, "prior_offset": 0.0})
        head, t = with_offset(joint, prior, rows)
        found["joint_logit_adjusted"] = (head, {"l2": None, "tau": None, "prior_offset": t})
        head, tau, t = with_tau(joint, prior, rows)
        found["tau_normalised"] = (head, {"l2": None, "tau": tau, "prior_offset": t})
    return found
