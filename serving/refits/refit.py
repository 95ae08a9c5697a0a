"""One refit from its inputs to a verdict. The child process makes a head; this module stores it and activates it.

The head is stored, and live if it may be, while the child still makes its report. `serving.refits.outputs` checks what
it leaves. This knows nothing of queues, of other refits or of HTTP.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.files import write_whole
from breadcrumbs.models.head import LinearHead, to_bytes
from breadcrumbs.models.near_names import suggestion
from breadcrumbs.models.refit_report import Gate, Judged
from breadcrumbs.serving.learning.examples import Examples
from breadcrumbs.serving.processes import child
from breadcrumbs.serving.processes.scratch import scratch
from breadcrumbs.serving.refits import examples, outputs
from breadcrumbs.serving.refits.examples import Taken, Which
from breadcrumbs.serving.refits.outputs import Made, RefitFailed, Report
from breadcrumbs.serving.refits.pinned import Pinned
from breadcrumbs.serving.refusals import BadRequest
from breadcrumbs.serving.state import heads, snapshots
from breadcrumbs.serving.state.activation_log import Activation
from breadcrumbs.serving.state.heads import HeadRecord, Lineage
from breadcrumbs.serving.state.keys import NO_KEY, owner_of
from breadcrumbs.serving.state.line_names import DEFAULT, LineName
from breadcrumbs.serving.state.live_head import Live
from breadcrumbs.serving.state.priors import Priors
from breadcrumbs.serving.state.store import Conflict, NotFound, Store
from breadcrumbs.serving.trials.trial import Start
from breadcrumbs.training.config import PRIORS, RefitSpec
from breadcrumbs.training.refit.edits import with_past

LOG = logging.getLogger("breadcrumbs.refit")

Say = Callable[[dict[str, Any]], Awaitable[None]]
Take = Callable[[Made], Awaitable[None]]
First = Callable[[int, int, str], Awaitable[Start]]
"""Starts the trial of a head: its version, that of the head it was compared with, and who asked."""


class RefitRequest(BaseModel):
    """What to refit from; the JSON of `POST /v1/refit`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    snapshots: list[str] = []
    """sha256 of the snapshots to fit to."""
    examples: Which | None = None
    """Which examples to fit to, of those that people labelled by `POST /v1/labels`: `verified`, `all` or `none`; if
    absent, `verified` where no snapshot is named, else `none`. One in five verified examples is judged on and never
    fitted."""
    holdout: str | None = None
    """sha256 of the snapshot to judge on, unless the server has pinned one (`gate_holdout`); if absent, the bundle's
    hold-out, or a share of the images where it has none."""
    line: LineName | None = None
    """Line whose live head it is compared with, and where its head may go live; if absent, the first one of the key, or
    the default one."""
    spec: RefitSpec = RefitSpec()
    """How to fit, and when to go live."""

    @property
    def which(self) -> Which:
        """Which examples it takes."""
        return self.examples or ("none" if self.snapshots else "verified")


class Verdict(BaseModel):
    """What became of a refit."""

    compared: int = Field(description="version of the head it was compared with")
    head: int = Field(description="version of the new head")
    gate: Gate
    judged_examples: int = Field(default=0, description="verified examples among the rows that it was judged on")
    activated: bool
    activation: int | None = Field(default=None, description="number of the activation that made it live")
    note: str = Field(description="why it is live, or why not")


async def whole(request: RefitRequest, store: Store, compared: int, live: LinearHead) -> RefitRequest:
    """Return a request whose spec also knows what earlier refits made of class names, and a stored prior's weights.

    Raises:
        StoreError: the record of the live head, or the prior, cannot be read.
        NotFound: there is no prior of that name.
        BadRequest: the prior is a list of classes.
    """
    past = (await heads.record(store, compared)).lineage.spec
    spec = with_past(request.spec, past, live.classes)
    if isinstance(spec.deployment_prior, str) and spec.deployment_prior not in PRIORS:
        weights = await deployment_weights(Priors(store, follow=0), spec.deployment_prior)
        spec = spec.model_copy(update={"deployment_prior": weights})
    return request.model_copy(update={"spec": spec})


async def deployment_weights(priors: Priors, name: str) -> dict[str, float]:
    """Return the weights of a stored prior that a head is to have as its own.

    Raises:
        NotFound: there is none of that name; what is near is told.
        BadRequest: it is a list of classes, which weighs none of them.
        StoreError: it is damaged.
    """
    try:
        stored = await priors.record(name)
    except NotFound as error:
        near = suggestion(name, await priors.names()) or "; PUT /v1/priors/NAME stores one"
        raise NotFound(f"deployment_prior: {error}{near}") from error
    if stored.weights is None:
        raise BadRequest(
            f"deployment_prior: prior {name} lists classes; expected a prior of weights, since every class of a head "
            "has one, and a request can name the prior"
        )
    return stored.weights


async def make(
    job: str, request: RefitRequest, store: Store, bundle: Bundle, live: LinearHead, command: Sequence[str],
    limits: child.Limits, say: Say, take: Take, run: child.Run = child.run, pinned: Pinned | None = None,
) -> Report:  # fmt: skip
    """Run the child by `run`, hand over its head as soon as it is judged, and return its report.

    Args:
        job, request, store, bundle: which refit, from what.
        live: the head that it is compared with.
        command: the child, without its arguments.
        limits: what it may take.
        say: told every event of it.
        take: given the head, once, while the child goes on with its report; where its files come back only at its
            end, after that.
        run: runs it, here or on another machine.
        pinned: the hold-out that the operator judges on.

    Raises:
        SnapshotError: the pinned hold-out is not the one that was checked.
        RefitFailed: it reported an error, died, or left no valid head that fits the live one, or no report.
    """
    taken: list[Judged] = []

    async def look(out: Path) -> None:
        made = await asyncio.to_thread(outputs.made, out, live, request.spec)
        await child.to_the_end(take(made))
        taken.append(made.judged)

    with scratch("refit") as folder:
        arguments = await _inputs(folder, request, store, bundle, live)
        arguments += await _examples(folder, job, request, store, bundle)
        if pinned is not None:
            await asyncio.to_thread(pinned.copy, folder / "gate-holdout")
            arguments += ["--gate-holdout", str(folder / "gate-holdout")]
        out = folder / "out"

        async def hear(event: dict[str, Any]) -> None:
            if event["event"] == "judged" and not taken and (out / "judged.json").exists():
                await look(out)
            await say(event)

        ending = await run([*command, *arguments], hear, limits)
        if ending.code != 0 or ending.said.get("event") != "done":
            raise _failure(job, ending)
        if not taken:
            await look(out)
        return await asyncio.to_thread(outputs.report, out, taken[0])


async def _inputs(folder: Path, request: RefitRequest, store: Store, bundle: Bundle, live: LinearHead) -> list[str]:
    """Write a child's inputs to a folder and return its arguments."""
    arguments = ["--bundle", str(bundle.folder.absolute()), "--head", str(folder / "live.safetensors")]
    write_whole(folder / "live.safetensors", to_bytes(live))
    for place, sha in enumerate(request.snapshots):
        await snapshots.fetch(store, sha, folder / f"{place}.safetensors")
        arguments += ["--snapshot", str(folder / f"{place}.safetensors")]
    if request.holdout:
        await snapshots.fetch(store, request.holdout, folder / "holdout.safetensors")
        arguments += ["--holdout", str(folder / "holdout.safetensors")]
    write_whole(folder / "spec.json", request.spec.model_dump_json().encode())
    (folder / "out").mkdir()
    return [*arguments, "--spec", str(folder / "spec.json"), "--out", str(folder / "out"), "--no-new-bundle", "--json"]


async def _examples(folder: Path, job: str, request: RefitRequest, store: Store, bundle: Bundle) -> list[str]:
    """Write the examples that a child is to take, note which they are, and return its arguments."""
    known, backbone = Examples(store), bundle.backbone_digest
    taken, paths = await examples.write(known, request.which, backbone, folder)
    if taken is not None:
        await examples.note(store, job, taken)
    elif request.examples is not None:
        await examples.require(known, request.examples, backbone)
    return [word for path in paths for word in ("--examples", str(path))]


def _failure(job: str, ending: child.Ending) -> RefitFailed:
    told = ending.said.get("error")
    if ending.code == 2 and isinstance(told, dict):
        return RefitFailed(str(told.get("message", ""))[:2000], str(told.get("type", "refit"))[:80])
    how = ending.broken or (
        f"it ended with exit status {ending.code}" if ending.code else "it ended without saying that it was done"
    )
    LOG.error("refit %s: its process failed: %s; the end of what it wrote: %s", job, how, ending.stderr)
    return RefitFailed(f"the refit's process failed: {how}; the server's log has what it wrote")


async def settle(
    job: str, request: RefitRequest, store: Store, bundle: Bundle, live: Live, compared: int, made: Made,
    actor: str = NO_KEY, pinned: Pinned | None = None, first: First | None = None,
) -> Verdict:  # fmt: skip
    """Store the head, and activate it if the spec and the gate allow it and the compared head is still live.

    `first` starts a trial of it, where a trial comes before. None means that none does.

    Raises:
        RefitFailed: an example that it was fitted to was erased meanwhile; no head is left then.
        StoreError: the store cannot be read or written.
    """
    taken = await examples.noted(store, job)
    await _check_erased(store, taken)
    lineage = Lineage(
        parent=compared,
        snapshots=request.snapshots,
        examples=0 if taken is None else len(taken.ids),
        examples_digest=None if taken is None else taken.digest,
        holdout=request.holdout if pinned is None else pinned.sha256,
        holdout_source=made.judged.holdout if pinned is None else "pinned",
        refit=job,
        spec=request.spec.model_dump(mode="json"),
        owner=owner_of(actor),
        line=None if live.line == DEFAULT else live.line,
    )
    gate, metrics = made.judged.gate, made.judged.candidate_metrics
    record = await heads.add(store, made.head, bundle, lineage, metrics.model_dump(mode="json"), made.known)
    try:
        await _check_erased(store, taken)  # again: who erased one before this head could be listed was not told of it
    except RefitFailed:
        await heads.withdraw(store, record.version)
        raise
    activation, note = await _go_live(job, request.spec.activate, gate, live, compared, record, actor, first)
    if pinned is not None:
        note += f"; judged on the server's pinned hold-out {pinned.sha256[:12]}"
        note += ", not on the request's" if request.holdout else ""
    return Verdict(
        compared=compared,
        head=record.version,
        gate=gate,
        judged_examples=made.judged.judged_examples,
        activated=activation is not None,
        activation=activation,
        note=note,
    )


async def _check_erased(store: Store, taken: Taken | None) -> None:
    """Refuse a head that was fitted to what a person has asked to be forgotten."""
    if taken is None:
        return
    gone = await Examples(store).erased(taken.ids, taken.until)
    if gone:
        raise RefitFailed(
            f"{len(gone)} of the {len(taken.ids)} examples that it took were erased while it ran, so its head is not "
            f"kept: start it again",
            "erased",
        )


async def _go_live(
    job: str, when: Literal["never", "if_better", "always"], gate: Gate, live: Live, compared: int, record: HeadRecord,
    actor: str, first: First | None,
) -> tuple[int | None, str]:  # fmt: skip
    if when == "never":
        return None, "not activated: the spec says never"
    if when == "if_better" and gate.answer != "yes":
        return None, f"not activated: the gate says {gate.words}"
    if when == "if_better" and first is not None and live.line != DEFAULT:
        return None, "not activated: this server tries heads first, and trials are of the default line; activate it"
    if when == "if_better" and first is not None:
        return None, await _on_trial(job, first, compared, record, actor)
    reason = "the gate says yes" if gate.answer == "yes" else f"the spec says always; the gate says {gate.answer}"
    try:
        asked = "" if actor == NO_KEY else f" by {actor}"
        activation = await live.activate(record.version, f"refit {job}{asked}", reason, compared)
    except (Conflict, NotFound) as error:
        return None, f"not activated: compared with head {compared}, but {error}"
    return activation.number, f"activated: {reason}"


async def _on_trial(job: str, first: First, compared: int, record: HeadRecord, actor: str) -> str:
    """Start the trial that comes before, and say so; where it was started, it is not started again."""
    asked = "" if actor == NO_KEY else f" by {actor}"
    try:
        started = await first(record.version, compared, f"refit {job}{asked}")
    except BreadcrumbsError as error:
        return f"not activated: it must be tried first, and no trial could start: {error}"
    return f"on trial {started.number} until {started.until}: the gate says yes, and a trial comes first"


async def concluded(
    job: str, request: RefitRequest, record: HeadRecord, judged: bytes, log: Sequence[Activation], actor: str,
    first: First | None,
) -> Verdict | None:  # fmt: skip
    """Return the verdict on a refit whose server stopped before it wrote one. None means that `judged` is invalid.

    A trial that comes before its head may go live is started, if that was not done; an activation is left to people.

    Args:
        job, request, actor: which refit, of what, and who asked.
        record: of its head, which is stored.
        judged: what the gate said of it.
        log: of activations.
        first: as `settle`.
    """
    try:
        told = Judged.model_validate_json(judged)
    except ValidationError:
        return None
    live = next((one.number for one in log if one.head == record.version and one.digest == record.digest), None)
    note = "activated" if live else "not activated: the server ended before it came to that; activate it if you want it"
    asked = request.spec.activate == "if_better" and request.line in {None, DEFAULT}  # trials are of the default line
    if not live and first is not None and asked and told.gate.answer == "yes":
        note = await _on_trial(job, first, record.lineage.parent or 0, record, actor)
    return Verdict(
        compared=record.lineage.parent or 0,
        head=record.version,
        gate=told.gate,
        judged_examples=told.judged_examples,
        activated=live is not None,
        activation=live,
        note=note,
    )


def without_report(verdict: Verdict, why: str) -> Verdict:
    """Return the verdict on a refit that came to nothing after its head was stored."""
    return verdict.model_copy(update={"note": f"{verdict.note}; there is no report: {why}"})
