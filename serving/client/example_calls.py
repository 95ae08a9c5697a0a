"""The requests about remembered answers, labels and examples; the others are in `calls`.

It knows nothing of connections or of waiting.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from operator import add
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from breadcrumbs.serving.client.call import Call, Sent, Upload
from breadcrumbs.serving.http.examples.schemas import (
    AnswerRecord,
    BroughtRows,
    ClassList,
    Erased,
    ExampleDetail,
    ExampleList,
    ExampleRecord,
    LabelBody,
    LabelsResponse,
    Queue,
    SuspectExample,
    SuspectExamples,
)
from breadcrumbs.serving.learning.example_files import FileFormat
from breadcrumbs.serving.learning.worth import Strategy
from breadcrumbs.serving.state.pages import MOST

Answer = TypeVar("Answer")


def _get(path: str, read: Callable[[bytes], Answer], **more: Any) -> Call[Answer]:
    return Call("GET", path, read, more, repeatable=True)


def answer(answer: str) -> Call[AnswerRecord]:
    """Return what is remembered of an answer, by its id."""
    return _get(f"/v1/answers/{quote(answer, safe='')}", AnswerRecord.model_validate_json)


def queue(strategy: Strategy = "mixed", n: int = 100) -> Call[Queue]:
    """List at most `n` answers without a label that are worth one."""
    return _get("/v1/queue", Queue.model_validate_json, params={"strategy": strategy, "n": n})


def classes() -> Call[ClassList]:
    """List every class of the live head, and those that only examples name, with their images and examples."""
    return _get("/v1/classes", ClassList.model_validate_json)


def labels(said: Sequence[LabelBody]) -> Call[LabelsResponse]:
    """Keep labels, all of them or none; retried, since the same label again changes nothing."""
    body = {"labels": [one.model_dump(by_alias=True, exclude_none=True) for one in said]}
    return Call("POST", "/v1/labels", LabelsResponse.model_validate_json, {"json": body}, repeatable=True)


def examples(
    cls: str | None = None, by: str | None = None, verified: bool | None = None, since: datetime | None = None
) -> Call[list[ExampleRecord]]:
    """List examples, those labelled last first, however many pages they take.

    Args:
        cls: only of this class.
        by: only labels of this author.
        verified: only those that are verified, or are not. None means all.
        since: only labels that came then or later.
    """
    wanted = {"class": cls, "by": by, "verified": verified, "since": since.isoformat() if since else None}
    params = {"limit": MOST} | {name: value for name, value in wanted.items() if value is not None}
    return Call(
        "GET", "/v1/examples", lambda data: ExampleList.model_validate_json(data).examples, {"params": params},
        repeatable=True, join=add,
    )  # fmt: skip


def example(example: str) -> Call[ExampleDetail]:
    """Return an example with all its labels."""
    return _get(f"/v1/examples/{quote(example, safe='')}", ExampleDetail.model_validate_json)


def example_suspects(n: int = 100) -> Call[list[SuspectExample]]:
    """List at most `n` examples whose class is likely wrong, the likeliest first."""
    return _get(
        "/v1/examples/suspects", lambda data: SuspectExamples.model_validate_json(data).suspects, params={"n": n}
    )


def export_examples(kind: FileFormat = "parquet") -> Call[bytes]:
    """Return all examples with their features as a file."""
    return _get("/v1/examples", bytes, params={"format": kind})


def import_examples(path: Path, sent: Sent = lambda _done, _all: None) -> Call[BroughtRows]:
    """Send a file of examples, as it is read; retried, since the same file again changes nothing.

    Args:
        path: of the file.
        sent: called with the bytes sent so far and the size of the file.

    Raises:
        OSError: there is no such file.
    """
    size = path.stat().st_size
    more = {"headers": {"Content-Length": str(size)}}
    upload = Upload(path, size, sent)
    return Call("POST", "/v1/examples", BroughtRows.model_validate_json, more, upload, repeatable=True)


def erase(answer: str) -> Call[Erased]:
    """Remove a remembered answer and the example of it, for good; tell which heads were fitted with that."""
    return Call("DELETE", f"/v1/answers/{quote(answer, safe='')}", Erased.model_validate_json)


def erase_example(example: str) -> Call[Erased]:
    """Remove an example with all its labels, for good; tell which heads were fitted with it."""
    return Call("DELETE", f"/v1/examples/{quote(example, safe='')}", Erased.model_validate_json)
