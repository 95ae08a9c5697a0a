"""Starts trials: what is asked for is checked, and becomes a record of the log.

A bake is asked for in the record of an activation, so that going live and being watched are one write; its trial is
started from there, by whoever comes first. It knows nothing of HTTP.
"""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from breadcrumbs.serving.predict.engine import BoundHead
from breadcrumbs.serving.refusals import BadRequest
from breadcrumbs.serving.state.activation_log import Activation, before
from breadcrumbs.serving.state.stop_rules import Bake, StopIf
from breadcrumbs.serving.state.store import Conflict
from breadcrumbs.serving.trials import verdicts
from breadcrumbs.serving.trials.canary import begin_of
from breadcrumbs.serving.trials.trial import By, Mode, Start, TrialSpec, ends_at
from breadcrumbs.serving.trials.trials import Trials

LOG = logging.getLogger("breadcrumbs.trials")
MOST = 8
"""Trials that run side by side, at most; a bake is started beside them."""
LEVEL, MARGIN = 0.05, 0.02
"""By which a refit's head is tried: the level, and how much lower its recall must not be."""


@dataclass(frozen=True, eq=False)
class Wanted:
    """What is fixed of a trial before it has a number; the attributes are those of `Start`."""

    mode: Mode
    head: BoundHead
    against: BoundHead
    activation: int
    until: datetime
    stop_if: StopIf
    actor: str
    reason: str
    margin: float | None = None
    by: By = "random"
    share: float = 0.0


async def start(trials: Trials, spec: TrialSpec, actor: str) -> Start:
    """Start a trial of a head that is not live.

    Args:
        trials: of the store.
        spec: what the trial is to be.
        actor: who starts it.

    Raises:
        BadRequest: its share or its end cannot be, or its rules can never be decided.
        Conflict: the head is live or on trial already, of another backbone, or its share does not fit.
        NotFound: there is no such head.
        StoreError: the store cannot be read or written.
    """
    if (spec.mode == "canary") != (spec.share is not None):
        came = "none" if spec.share is None else f"{spec.share:g}"
        raise BadRequest(f"share: expected one for a canary and none for a shadow, got {came} for a {spec.mode}")
    activation, now = trials.live.activation, datetime.now(UTC)
    if spec.head == activation.head:
        raise Conflict(f"head {spec.head} is live: a trial takes another head; one that goes live is watched by a bake")
    until = ends_at(spec.until, now)
    head, against = await trials.live.named(spec.head), await trials.live.named(activation.head)
    outlook = await trials.outlook(head, against, (until - now).total_seconds())
    verdicts.check(spec.stop_if, spec.margin, outlook)
    wanted = Wanted(
        spec.mode, head, against, activation.number, until, spec.stop_if, actor, spec.reason, spec.margin, spec.by,
        spec.share or 0.0,
    )  # fmt: skip
    return await _begin(trials, wanted)


async def of_refit(trials: Trials, until: str, version: int, compared: int, actor: str) -> Start:
    """Start the trial of a head that a refit made, which goes live by itself when labels say that it may.

    Where this refit has started one, that one is returned: a server may have died before it could say so.

    Args:
        trials: of the store.
        until: as `TrialSpec.until`.
        version: of the head.
        compared: the head that it was compared with.
        actor: who started the refit.

    Raises:
        BadRequest, Conflict, StoreError: as `start`; or another head is live than was compared with.
    """
    await trials.catch_up()
    for known in trials.log.starts.values():
        if (known.head, known.actor) == (version, actor):
            return known
    live = trials.live.head.version
    if live != compared:
        raise Conflict(f"head {live} is live; expected head {compared}: someone else was first")
    rules = StopIf(worse=LEVEL)
    return await start(trials, TrialSpec(head=version, until=until, stop_if=rules, margin=MARGIN), actor)


async def check_bake(trials: Trials, version: int, until: str, stop_if: StopIf) -> Bake:
    """Return how a head is to be watched after it goes live.

    Args:
        trials: of the store.
        version: of the head.
        until: as `TrialSpec.until`.
        stop_if: what brings the head before it back.

    Raises:
        BadRequest: there is no rule, one can never be decided, or the end cannot be.
        Conflict, NotFound, StoreError: the head cannot go live.
    """
    if stop_if.none:
        raise BadRequest("bake: expected a rule in stop_if, got none: worse, disagreement, errors or unknown")
    now = datetime.now(UTC)
    end = ends_at(until, now)
    head = await trials.live.named(version)
    if version != trials.live.head.version:  # what is live already is refused by the activation
        verdicts.check(stop_if, None, await trials.outlook(head, trials.live.head, (end - now).total_seconds()))
    return Bake(until=end.isoformat(timespec="seconds"), stop_if=stop_if)


def bake_due(trials: Trials, activation: Activation) -> bool:
    """Whether an activation asks for a bake that is neither over nor started."""
    bake = activation.bake
    if bake is None or datetime.fromisoformat(bake.until) <= datetime.now(UTC):
        return False
    return _bake_of(trials, activation) is None


def _bake_of(trials: Trials, activation: Activation) -> Start | None:
    starts = trials.log.starts.values()
    return next((one for one in starts if one.mode == "bake" and one.activation == activation.number), None)


async def bake(trials: Trials, activation: Activation) -> None:
    """Start the trial that an activation asks for, unless it asks for none or that is there.

    Raises:
        StoreError: the store cannot be read or written, or the head to compare with is damaged.
    """
    if not bake_due(trials, activation) or activation.bake is None:
        return
    version = before([record for record in await trials.live.log() if record.number <= activation.number])
    if version is None:
        return
    wanted = Wanted(
        "bake", await trials.live.named(activation.head), await trials.live.named(version), activation.number,
        datetime.fromisoformat(activation.bake.until), activation.bake.stop_if, activation.actor, activation.reason,
    )  # fmt: skip
    await _begin(trials, wanted)


async def _begin(trials: Trials, wanted: Wanted) -> Start:
    """Append the start of a trial, or return that of the bake that another server has started."""

    def make(number: int, previous: str | None) -> Start:
        running = trials.log.running
        if wanted.mode != "bake":
            _check_beside(wanted, running)
        elif any(one.mode == "bake" and one.activation == wanted.activation for one in trials.log.starts.values()):
            raise Conflict(f"the bake of activation {wanted.activation} is started: another server was first")
        return _record(wanted, running, number, previous)

    started = cast(Start, await trials.log.append(make))
    await trials.take_up()
    LOG.info(
        "trial %d: %s of head %d against head %d until %s, by %s: %s", started.number, started.mode, started.head,
        started.against, started.until, started.actor, started.reason,
    )  # fmt: skip
    return started


def _check_beside(wanted: Wanted, running: list[Start]) -> None:
    for one in running:
        if wanted.head.version == one.head:
            raise Conflict(f"head {one.head} is on trial already: end trial {one.number} before another one starts")
    if len(running) >= MOST:
        raise Conflict(f"{len(running)} trials run; the limit is {MOST}: end one")


def _record(wanted: Wanted, running: list[Start], number: int, previous: str | None) -> Start:
    canaries = [one for one in running if one.mode == "canary"]
    return Start(
        number=number,
        head=wanted.head.version,
        digest=wanted.head.head.digest,
        against=wanted.against.version,
        against_digest=wanted.against.head.digest,
        mode=wanted.mode,
        by=wanted.by,
        begin=begin_of(wanted.share, wanted.by, canaries) if wanted.mode == "canary" else 0.0,
        share=wanted.share,
        salt=canaries[0].salt if canaries else number,
        until=wanted.until.isoformat(timespec="seconds"),
        stop_if=wanted.stop_if,
        margin=wanted.margin,
        activation=wanted.activation,
        actor=wanted.actor,
        reason=wanted.reason,
        at=datetime.now(UTC).isoformat(timespec="microseconds"),
        previous=previous,
    )
