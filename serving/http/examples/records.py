"""Answers and examples as the interface shows them: from what the store keeps to the bodies of `schemas`.

It knows nothing of where they are kept.
"""

import base64
from datetime import UTC, datetime
from typing import Any

from breadcrumbs.serving.http.examples.schemas import AnswerRecord, ExampleRecord
from breadcrumbs.serving.http.schemas import HeadName, Ranked
from breadcrumbs.serving.learning.answer import Answer
from breadcrumbs.serving.learning.example import Said


def told(microseconds: int) -> str:
    """Return a time as ISO 8601, with milliseconds."""
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat(timespec="milliseconds")


def example_record(said: Said) -> ExampleRecord:
    """Return an example as it is shown."""
    fields = {
        "id": said.id, "class": said.label, "by": said.by, "verified": said.verified, "at": told(said.at),
        "source": said.source, "content": said.content, "ref": said.ref, "backbone": said.backbone,
        "owner": said.owner,
    }  # fmt: skip
    return ExampleRecord.model_validate(fields)


def answer_fields(answer: Answer) -> dict[str, Any]:
    """Return the fields of `AnswerRecord`, without a label."""
    origin = answer.origin
    thumbnail = None if answer.thumbnail is None else base64.b64encode(answer.thumbnail).decode()
    return {
        "id": answer.id, "at": told(answer.at), "kind": origin.kind, "content": origin.content, "ref": origin.ref,
        "owner": origin.owner, "backbone": origin.backbone,
        "head": HeadName(version=answer.head, digest=answer.digest),
        "classes": [Ranked.model_validate(one) for one in answer.classes], "thumbnail": thumbnail,
    }  # fmt: skip


def answer_record(answer: Answer, said: Said | None) -> AnswerRecord:
    """Return an answer as it is shown, with its label if it has one."""
    return AnswerRecord(**answer_fields(answer), example=None if said is None else example_record(said))
