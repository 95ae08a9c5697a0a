"""A refit on a server, from files here to files here: uploads, the job, its events, what it left.

It knows the client and nothing of what the server does; how events are shown is the caller's.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from breadcrumbs.models.files import write_whole
from breadcrumbs.models.head import from_onnx, to_bytes
from breadcrumbs.serving.client.client import Client, ServerError
from breadcrumbs.serving.refits.refit import Verdict
from breadcrumbs.training.config import RefitSpec

Tell = Callable[[dict[str, Any]], None]


def refit(
    client: Client,
    snapshots: Sequence[Path],
    holdout: Path | None,
    spec: RefitSpec,
    out: Path | None,
    tell: Tell,
    line: str | None = None,
) -> tuple[dict[str, Any] | None, Verdict]:
    """Upload snapshots, refit from them on the server, wait, and leave head and report in `out`, if there is one.

    A snapshot that the server has already is not kept twice.

    Args:
        client: of the server.
        snapshots: files to fit to.
        holdout: file to compare on.
        spec: how to fit, and when to go live.
        out: folder for head.safetensors, head.onnx, and, where there is a report, report.json and report.html.
        tell: hears of the job's id and of every event of it.
        line: whose live head it is compared with. None means the first one of the key, or the default one.

    Returns:
        The report, and what became of the head. None means that the head is stored, and its report came to nothing; the
        verdict's note says why.

    Raises:
        ServerError: the server refused, is not there, or the refit came to nothing.
    """
    tell({"event": "stage", "stage": "upload"})
    stored = [_upload(client, path, tell) for path in snapshots]
    held = None if holdout is None else _upload(client, holdout, tell)
    job = client.refit(stored, spec, held, line=line).id
    tell({"event": "stage", "stage": f"refit {job}"})
    for event in client.events(job):
        tell(event)
    done = client.job(job)
    if done.state != "succeeded" or done.verdict is None:
        why, kind = ("", done.state) if done.error is None else (f": {done.error.message}", done.error.type)
        raise ServerError(f"refit {job} {done.state}{why}", kind=kind)
    if out is not None:
        _fetch(client, done.id, done.verdict.head, done.report, out)
    return done.report, done.verdict


def _upload(client: Client, path: Path, tell: Tell) -> str:
    """Upload a file, tell of every further percent of it, and return its sha256 there."""
    last = -1

    def sent(done: int, whole: int) -> None:
        nonlocal last
        percent = 100 * done // whole
        if percent != last:
            last = percent
            tell({"event": "upload", "file": path.name, "bytes": done, "of": whole})

    try:
        return client.put_snapshot(path, sent=sent).sha256
    except ServerError as error:
        raise ServerError(f"{path.name}: {error}", error.status, error.kind) from error


def _fetch(client: Client, job: str, version: int, report: dict[str, Any] | None, out: Path) -> None:
    head = client.head_onnx(version)
    write_whole(out / "head.onnx", head)
    write_whole(out / "head.safetensors", to_bytes(from_onnx(head)))
    if report is not None:
        write_whole(out / "report.json", json.dumps(report, indent=1).encode() + b"\n")
        write_whole(out / "report.html", client.report_page(job))
