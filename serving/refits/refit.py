"""One refit from its inputs to a verdict. The child process makes a head; this module checks it, stores it and
activates it.

The child's files are checked like uploads: parsed strictly, and compared with the live head. It knows nothing of
queues, of other refits or of HTTP.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.errors import BreadcrumbsError, FormatError
from breadcrumbs.models.files import write_whole
from breadcrumbs.models.head import LinearHead, to_bytes
from breadcrumbs.models.head import read as read_head
from breadcrumbs.models.refit_report import Gate, RefitReport
from breadcrumbs.serving.processes import child
from breadcrumbs.serving.processes.scratch import scratch
from breadcrumbs.serving.refusals import tell
from breadcrumbs.serving.state import heads, snapshots
from breadcrumbs.serving.state.activation_log import Activation
from breadcrumbs.serving.state.heads import HeadRecord, Lineage
from breadcrumbs.serving.state.keys import NO_KEY, owner_of
from breadcrumbs.serving.state.live_head import Live
from breadcrumbs.serving.state.store import Conflict, Store
from breadcrumbs.training.config import RefitSpec

LOG = logging.getLogger("breadcrumbs.refit")
REPORT_LIMIT = 32 * 2**20
"""Largest size of a report, and of its page, in bytes."""

Say = Callable[[dict[str, Any]], Awaitable[None]]


class RefitFailed(BreadcrumbsError):
    """A refit that failed; `kind` is the type of the child's own error, if it reported one."""

    def __init__(self, message: str, kind: str = "refit") -> None:
        super().__init__(message)
        self.kind = kind


class RefitRequest(BaseModel):
    """What to refit from; the JSON of `POST /v1/refit`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    snapshots: list[str] = []
    """sha256 of the snapshots to fit to."""
    holdout: str | None = None
    """sha256 of the snapshot to compare on; if absent, a share of the others is held out."""
    spec: RefitSpec = RefitSpec()
    """How to fit, and when to go live."""


@dataclass(frozen=True, eq=False)
class Made:
    """A child's output: a head, its report, the report's bytes, and its page if there is one."""

    head: LinearHead
    report: RefitReport
    text: bytes
    page: bytes | None


class Verdict(BaseModel):
    """What became of a refit."""

    compared: int = Field(description="version of the head it was compared with")
    head: int = Field(description="version of the new head")
    gate: Gate
    activated: bool
    activation: int | None = Field(default=None, description="number of the activation that made it live")
    note: str = Field(description="why it is live, or why not")


async def make(
    job: str, request: RefitRequest, store: Store, bundle: Bundle, live: LinearHead, command: Sequence[str],
    limits: child.Limits, say: Say, run: child.Run = child.run,
) -> Made:  # fmt: skip
    """Run the child by `run`, and return its output.

    Raises:
        RefitFailed: it reported an error, died, or left no valid head that fits the live one.
    """
    with scratch("refit") as folder:
        arguments = await _inputs(folder, request, store, bundle, live)
        ending = await run([*command, *arguments], say, limits)
        if ending.code != 0 or ending.said.get("event") != "done":
            raise _failure(job, ending)
        return await asyncio.to_thread(_outputs, folder / "out", live)


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


def _failure(job: str, ending: child.Ending) -> RefitFailed:
    told = ending.said.get("error")
    if ending.code == 2 and isinstance(told, dict):
        return RefitFailed(str(told.get("message", ""))[:2000], str(told.get("type", "refit"))[:80])
    how = ending.broken or (
        f"it ended with exit status {ending.code}" if ending.code else "it ended without saying that it was done"
    )
    LOG.error("refit %s: its process failed: %s; the end of what it wrote: %s", job, how, ending.stderr)
    return RefitFailed(f"the refit's process failed: {how}; the server's log has what it wrote")


def _outputs(folder: Path, live: LinearHead) -> Made:
    try:
        data = _bounded(folder / "report.json")
        page = _bounded(folder / "report.html") if (folder / "report.html").exists() else None
        report = RefitReport.model_validate_json(data)
        head = read_head(folder / "head.safetensors")
    except ValidationError as error:
        raise RefitFailed(f"the refit's report is not one: {tell(error)}") from error
    except (OSError, FormatError, ValueError) as error:
        raise RefitFailed(f"the refit left no head or no report: {error}") from error
    if report.origin.candidate != head.digest:
        raise RefitFailed(f"the refit's report is of head {report.origin.candidate:.12}, its head is {head.digest:.12}")
    if head.feature_dim != live.feature_dim:
        raise RefitFailed(f"the refit's head takes {head.feature_dim} features; the backbone gives {live.feature_dim}")
    if head.classes[: len(live.classes)] != live.classes:
        raise RefitFailed(
            "the refit's head lost a class or moved one: those of the live head must come first, in order"
        )
    return Made(head, report, data, page)


def _bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(REPORT_LIMIT + 1)
    if len(data) > REPORT_LIMIT:
        raise RefitFailed(f"the refit's {path.name} has more than {REPORT_LIMIT} bytes")
    return data


async def settle(
    job: str, request: RefitRequest, store: Store, bundle: Bundle, live: Live, compared: int, head: LinearHead,
    report: RefitReport, actor: str = NO_KEY,
) -> Verdict:  # fmt: skip
    """Store the head. Activate it if the spec and the gate allow it and the compared head is still live."""
    lineage = Lineage(
        parent=compared,
        snapshots=request.snapshots,
        holdout=request.holdout,
        refit=job,
        spec=request.spec.model_dump(mode="json"),
        owner=owner_of(actor),
    )
    record = await heads.add(store, head, bundle, lineage, report.candidate.model_dump(mode="json"))
    activation, note = await _go_live(job, request.spec.activate, report.gate, live, compared, record, actor)
    return Verdict(
        compared=compared,
        head=record.version,
        gate=report.gate,
        activated=activation is not None,
        activation=activation,
        note=note,
    )


async def _go_live(
    job: str, when: Literal["never", "if_better", "always"], gate: Gate, live: Live, compared: int, record: HeadRecord,
    actor: str,
) -> tuple[int | None, str]:  # fmt: skip
    if when == "never":
        return None, "not activated: the spec says never"
    if when == "if_better" and gate.answer != "yes":
        return None, f"not activated: the gate says {gate.words}"
    reason = "the gate says yes" if gate.answer == "yes" else f"the spec says always; the gate says {gate.answer}"
    try:
        asked = "" if actor == NO_KEY else f" by {actor}"
        activation = await live.activate(record.version, f"refit {job}{asked}", reason, compared)
    except Conflict as error:
        return None, f"not activated: compared with head {compared}, but {error}"
    return activation.number, f"activated: {reason}"


def concluded(record: HeadRecord, report: bytes, log: Sequence[Activation]) -> Verdict | None:
    """Return the verdict on a refit whose server stopped before it wrote one. None means that its report is invalid."""
    try:
        gate = RefitReport.model_validate_json(report).gate
    except ValidationError:
        return None
    live = next((one.number for one in log if one.head == record.version and one.digest == record.digest), None)
    note = "activated" if live else "not activated: the server ended before it came to that; activate it if you want it"
    return Verdict(
        compared=record.lineage.parent or 0,
        head=record.version,
        gate=gate,
        activated=live is not None,
        activation=live,
        note=note,
    )
