"""Every request of the HTTP interface as a value, and whether it may be sent twice.

Both clients send these, so that each is described once. It knows nothing of connections or of waiting.
"""

import io
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from operator import add
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.snapshots.fields import Given
from breadcrumbs.models.snapshots.formats import NONE_GIVEN
from breadcrumbs.serving.client import answers
from breadcrumbs.serving.client.answers import Features
from breadcrumbs.serving.client.call import Call, Sent, Upload
from breadcrumbs.serving.client.images import File
from breadcrumbs.serving.http.schemas import (
    ActivateBody,
    ActivationList,
    GoLiveBody,
    HeadList,
    Health,
    JobDetail,
    JobList,
    LineBody,
    LineList,
    LineRecord,
    PredictResponse,
    PriorDetail,
    PriorList,
    PriorSummary,
    Sample,
    SampleList,
    SnapshotList,
    SuspectList,
)
from breadcrumbs.serving.refits.examples import Which
from breadcrumbs.serving.refits.job import Job
from breadcrumbs.serving.refits.refit import RefitRequest
from breadcrumbs.serving.refits.suspects import SuspectRow
from breadcrumbs.serving.state.activation_log import Activation
from breadcrumbs.serving.state.heads import HeadRecord
from breadcrumbs.serving.state.pages import MOST
from breadcrumbs.serving.state.snapshot_record import SnapshotRecord
from breadcrumbs.serving.state.stop_rules import StopIf
from breadcrumbs.training.config import RefitSpec

Answer = TypeVar("Answer")
NOTHING: Mapping[str, Any] = {}


def _get(path: str, read: Callable[[bytes], Answer], **more: Any) -> Call[Answer]:
    return Call("GET", path, read, more, repeatable=True)


def _pages(
    path: str, read: Callable[[bytes], Answer], join: Callable[[Answer, Answer], Answer]
) -> Call[Answer]:  # fmt: skip
    """A list, of which as many pages are asked for as there are."""
    return Call("GET", path, read, {"params": {"limit": MOST}}, repeatable=True, join=join)


def _nothing(_: bytes) -> None:
    return None


def predict(files: Sequence[File], asked: Mapping[str, Any] = NOTHING) -> Call[PredictResponse]:
    """Classify images; `asked` are parameters of the request."""
    more = {"files": _form(files), "params": dict(asked)}
    return Call("POST", "/v1/predict", PredictResponse.model_validate_json, more, repeatable=True)


def predict_features(features: NDArray[np.float32], asked: Mapping[str, Any] = NOTHING) -> Call[PredictResponse]:
    """Classify features (N, D) of the backbone; `asked` are parameters of the request."""
    file = io.BytesIO()
    np.save(file, features, allow_pickle=False)
    more = {"headers": {"Content-Type": "application/x-npy"}, "params": dict(asked)}
    read = PredictResponse.model_validate_json
    return Call("POST", "/v1/predict", read, more, content=file.getvalue(), repeatable=True)


def features(files: Sequence[File]) -> Call[Features]:
    """Return the features of images."""
    more = {"files": _form(files), "params": {"format": "safetensors"}}
    return Call("POST", "/v1/features", answers.features, more, repeatable=True)


def snapshot(
    files: Sequence[File], labels: Sequence[str | int | None], epoch: int, ids: Sequence[int] | None = None,
    dataset: str = "",
) -> Call[bytes]:  # fmt: skip
    """Return the bytes of a snapshot of images; labels are class names or indices, or None for an image without one."""
    words = {"labels": json.dumps(list(labels)), "epoch": str(epoch)}
    if ids is not None:
        words["ids"] = json.dumps(list(ids))
    if dataset:
        words["dataset"] = dataset
    more = {"files": _form(files), "data": words, "params": {"format": "safetensors"}}
    return Call("POST", "/v1/features", bytes, more, repeatable=True)


def put_snapshot(path: Path, given: Given = NONE_GIVEN, sent: Sent = lambda _done, _all: None) -> Call[SnapshotRecord]:
    """Upload a snapshot in any format, as it is read from its file.

    Args:
        path: of the file.
        given: what to take where a file that is not safetensors says nothing.
        sent: called with the bytes sent so far and the size of the file.

    Raises:
        OSError: there is no such file.
    """
    size = path.stat().st_size
    params = {name: value for name, value in asdict(given).items() if value is not None}
    more = {"params": params, "headers": {"Content-Length": str(size)}}
    upload = Upload(path, size, sent)
    return Call("PUT", "/v1/snapshots", SnapshotRecord.model_validate_json, more, upload, repeatable=True)


def snapshots() -> Call[list[SnapshotRecord]]:
    """List all snapshots, those stored last first, however many pages they take."""
    return _pages("/v1/snapshots", lambda data: SnapshotList.model_validate_json(data).snapshots, add)


def snapshot_record(sha256: str) -> Call[SnapshotRecord]:
    """Return the record of a stored snapshot."""
    return _get(f"/v1/snapshots/{sha256}", SnapshotRecord.model_validate_json)


def snapshot_suspects(sha256: str, n: int = 100) -> Call[list[SuspectRow]]:
    """List at most `n` rows of a stored snapshot whose label is likely wrong, the likeliest first."""
    return _get(
        f"/v1/snapshots/{sha256}/suspects", lambda data: SuspectList.model_validate_json(data).suspects,
        params={"n": n},
    )  # fmt: skip


def delete_snapshot(sha256: str) -> Call[None]:
    """Delete a snapshot."""
    return Call("DELETE", f"/v1/snapshots/{sha256}", _nothing, repeatable=True, done=404)


def refit(
    snapshots: Sequence[str] = (), spec: RefitSpec | None = None, holdout: str | None = None, key: str | None = None,
    examples: Which | None = None, line: str | None = None,
) -> Call[Job]:  # fmt: skip
    """Start a refit from stored snapshots, named by their sha256, and from examples that people labelled.

    Args:
        snapshots: sha256 of the snapshots to fit to.
        spec: how to fit, and when to go live.
        holdout: sha256 of the snapshot to compare on.
        key: the `Idempotency-Key`, under which repeated requests start one job; absent: a random one.
        examples: which examples to fit to: `verified`, `all` or `none`. None means the verified ones where there is no
            snapshot, else none.
        line: whose live head it is compared with. None means the first one of the key, or the default one.
    """
    own = spec or RefitSpec()
    wanted = RefitRequest(snapshots=list(snapshots), examples=examples, holdout=holdout, line=line, spec=own)
    headers = {"Idempotency-Key": key or secrets.token_hex(16)}
    more = {"json": wanted.model_dump(mode="json"), "headers": headers}
    return Call("POST", "/v1/refit", Job.model_validate_json, more, repeatable=True)


def jobs() -> Call[list[Job]]:
    """List all refits, the newest first, however many pages they take."""
    return _pages("/v1/refit", lambda data: JobList.model_validate_json(data).refits, add)


def job(job: str) -> Call[JobDetail]:
    """Return the state of a refit, and its report once it has one."""
    return _get(f"/v1/refit/{job}", JobDetail.model_validate_json)


def report_page(job: str) -> Call[bytes]:
    """Download a refit's report as a page."""
    return _get(f"/v1/refit/{job}/report.html", bytes)


def events(job: str, after: int = 0) -> Call[None]:
    """Follow a refit's events after number `after`; its answer is a stream, line by line (`event`)."""
    return _get(f"/v1/refit/{job}/events", _nothing, headers={"Last-Event-ID": str(after)})


def event(line: str) -> dict[str, Any] | None:
    """Return the event in a line of a stream, if there is one in it."""
    found: dict[str, Any] | None = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else None
    return found


def restart(job: str) -> Call[Job]:
    """Restart an interrupted, failed or cancelled refit, as a new job."""
    return Call("POST", f"/v1/refit/{job}/restart", Job.model_validate_json)


def cancel(job: str) -> Call[Job]:
    """Cancel a queued or running refit."""
    return Call("DELETE", f"/v1/refit/{job}", Job.model_validate_json, repeatable=True)


def heads(line: str | None = None) -> Call[HeadList]:
    """List all heads, the newest first, however many pages they take, and say which is live in a line."""
    more = {"params": {"limit": MOST} | _line(line)}
    return Call("GET", "/v1/heads", HeadList.model_validate_json, more, repeatable=True, join=_more_heads)


def _line(line: str | None) -> dict[str, Any]:
    """The parameter that names a line; without one, the first one of the key, or the default one."""
    return {} if line is None else {"line": line}


def _more_heads(first: HeadList, more: HeadList) -> HeadList:
    return HeadList(live=more.live, heads=[*first.heads, *more.heads])


def head(version: int) -> Call[HeadRecord]:
    """Return a head's metrics and lineage."""
    return _get(f"/v1/heads/{version}", HeadRecord.model_validate_json)


def head_onnx(version: int) -> Call[bytes]:
    """Download a head as ONNX."""
    return _get(f"/v1/heads/{version}/head.onnx", bytes)


def activate(
    version: int, reason: str = "", expected_live: int | None = None, bake: str | None = None,
    stop_if: StopIf | None = None, line: str | None = None,
) -> Call[Activation]:  # fmt: skip
    """Make a head live, provided that `expected_live` is live now; retried only if that is given.

    Args:
        version: of the head.
        reason: recorded in the activation log.
        expected_live: the head that must be live. None means any.
        bake: how long the head is watched then, as `2h`. None means not at all.
        stop_if: what brings the head before it back. None means verified labels, at level 0.05.
        line: where. None means the first one of the key, or the default one.
    """
    body = GoLiveBody(reason=reason, expected_live=expected_live, bake=bake, stop_if=stop_if)
    return _change(f"/v1/heads/{version}/activate", body, line)


def rollback(reason: str = "", expected_live: int | None = None, line: str | None = None) -> Call[Activation]:
    """Go back to the head that was live before; `expected_live` and `line` as for `activate`."""
    return _change("/v1/heads/rollback", ActivateBody(reason=reason, expected_live=expected_live), line)


def _change(path: str, body: ActivateBody, line: str | None) -> Call[Activation]:
    repeatable = body.expected_live is not None  # what is live has changed by then: a repeat changes nothing
    more = {"json": body.model_dump(exclude_none=True), "params": _line(line)}
    return Call("POST", path, Activation.model_validate_json, more, repeatable=repeatable)


def activations(limit: int = 100, line: str | None = None) -> Call[list[Activation]]:
    """List at most `limit` entries of the activation log of a line, the newest first."""
    return _get(
        "/v1/activations", lambda data: ActivationList.model_validate_json(data).activations,
        params={"limit": limit} | _line(line),
    )  # fmt: skip


def lines() -> Call[list[LineRecord]]:
    """List all lines, the default one first, however many pages they take."""
    return _pages("/v1/lines", lambda data: LineList.model_validate_json(data).lines, add)


def line(name: str) -> Call[LineRecord]:
    """Return what is live in a line."""
    return _get(_place(name), LineRecord.model_validate_json)


def create_line(name: str, head: int | None = None, reason: str = "") -> Call[LineRecord]:
    """Create a line; never retried, since a second one would be refused.

    Args:
        name: letters, digits, `.`, `_` and `-`, 60 at most.
        head: that is live in it. None means the one that is live in the default line.
        reason: recorded in its activation log.
    """
    body = LineBody(head=head, reason=reason).model_dump(exclude_none=True)
    return Call("PUT", _place(name), LineRecord.model_validate_json, {"json": body})


def remove_line(name: str) -> Call[Activation]:
    """Remove a line; its heads and its activation log stay."""
    return Call("DELETE", _place(name), Activation.model_validate_json)


def _place(name: str) -> str:
    return f"/v1/lines/{quote(name, safe='')}"


def put_prior(
    name: str, weights: Mapping[str, float] | None = None, classes: Sequence[str] | None = None,
    allow_unknown: bool = False,
) -> Call[PriorDetail]:  # fmt: skip
    """Store a prior under a name, in place of an older one.

    Args:
        name: a to z, 0 to 9 and hyphens, 64 at most.
        weights: of classes, by name; a class without one cannot be. Or
        classes: those that can be, all with one weight.
        allow_unknown: also store names that the live head does not have.
    """
    given = {"weights": None if weights is None else dict(weights), "classes": None if classes is None else [*classes]}
    body = {key: value for key, value in given.items() if value is not None}
    more = {"json": body, "params": {"allow_unknown": allow_unknown}}
    return Call("PUT", f"/v1/priors/{name}", PriorDetail.model_validate_json, more, repeatable=True)


def priors() -> Call[list[PriorSummary]]:
    """List all priors, by name, however many pages they take."""
    return _pages("/v1/priors", lambda data: PriorList.model_validate_json(data).priors, add)


def prior(name: str) -> Call[PriorDetail]:
    """Return a stored prior, and which of its names the live head does not have."""
    return _get(f"/v1/priors/{name}", PriorDetail.model_validate_json)


def delete_prior(name: str) -> Call[None]:
    """Delete a prior."""
    return Call("DELETE", f"/v1/priors/{name}", _nothing, repeatable=True, done=404)


def samples() -> Call[list[Sample]]:
    """List the sample images that the bundle carries."""
    return _get("/v1/samples", lambda data: SampleList.model_validate_json(data).samples)


def sample(name: str) -> Call[bytes]:
    """Download a sample image, as PNG."""
    return _get(f"/v1/samples/{name}", bytes)


def alive() -> Call[Health]:
    """Check that the process answers; never retried, since the answer is about this moment."""
    return Call("GET", "/healthz", Health.model_validate_json)


def ready() -> Call[Health]:
    """Check that images can be answered now, and raise with the reason if not; never retried."""
    return Call("GET", "/readyz", Health.model_validate_json)


def metrics() -> Call[str]:
    """Return all metrics, in Prometheus' text format."""
    return _get("/metrics", bytes.decode)


def _form(files: Sequence[File]) -> list[tuple[str, File]]:
    return [("image", file) for file in files]
