"""What a refit's child leaves in its folder, checked like an upload: parsed strictly, and compared with the live head.

`head.safetensors`, `judged.json` and, where there are rows enough, `known.safetensors` are there before the report,
`report.json` and `report.html` at the end. This knows nothing of processes, of the store or of what becomes of a head.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from breadcrumbs.models import known as knowns
from breadcrumbs.models.errors import BreadcrumbsError, FormatError
from breadcrumbs.models.head import LinearHead
from breadcrumbs.models.head import read as read_head
from breadcrumbs.models.known import Known
from breadcrumbs.models.refit_report import Judged, RefitReport
from breadcrumbs.serving.refusals import tell
from breadcrumbs.training.config import RefitSpec
from breadcrumbs.training.refit.edits import edited

LIMIT = 32 * 2**20
"""Largest size of a report, of its page, and of `judged.json`, in bytes."""
Parsed = TypeVar("Parsed", bound=BaseModel)


class RefitFailed(BreadcrumbsError):
    """A refit that failed; `kind` is the type of the child's own error, if it reported one."""

    def __init__(self, message: str, kind: str = "refit") -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, eq=False)
class Made:
    """A new head, what decides on it, the bytes of `judged.json`, and by what it tells how well a feature is known."""

    head: LinearHead
    judged: Judged
    text: bytes
    known: Known | None = None


@dataclass(frozen=True, eq=False)
class Report:
    """The bytes of a report, and its page if there is one."""

    text: bytes
    page: bytes | None


def made(folder: Path, live: LinearHead, spec: RefitSpec) -> Made:
    """Read the head and what decides on it.

    Args:
        folder: what the child was told to write to.
        live: the head that it was to compare with.
        spec: how it was to fit.

    Raises:
        RefitFailed: they are missing or damaged, or do not fit each other, the live head or the edit of its classes.
        EditError: that edit cannot be made.
    """
    text = _bounded(folder / "judged.json")
    judged = _parsed(Judged, text, "judgement")
    try:
        head = read_head(folder / "head.safetensors")
    except (OSError, FormatError, ValueError) as error:
        raise RefitFailed(f"the refit left no head: {error}") from error
    try:
        known = knowns.read(folder / knowns.FILE, head.digest, head.feature_dim)
    except (OSError, FormatError) as error:
        raise RefitFailed(f"the refit left no sound {knowns.FILE}: {error}") from error
    if judged.candidate != head.digest:
        raise RefitFailed(f"the refit judged head {judged.candidate:.12}, and left head {head.digest:.12}")
    if judged.live != live.digest:
        raise RefitFailed(f"the refit compared with head {judged.live:.12}; the live one is {live.digest:.12}")
    if head.feature_dim != live.feature_dim:
        raise RefitFailed(f"the refit's head takes {head.feature_dim} features; the backbone gives {live.feature_dim}")
    expected = edited(live.classes, spec.classes).names
    if head.classes[: len(expected)] != expected:
        raise RefitFailed(
            "the refit's head lost a class or moved one: those of the live head, as edited, must come first, in order"
        )
    return Made(head, judged, text, known)


def report(folder: Path, of: Judged) -> Report:
    """Read the report on a head that was judged.

    Raises:
        RefitFailed: it is missing, damaged or too large, or says other than the judgement.
    """
    text = _bounded(folder / "report.json")
    told = _parsed(RefitReport, text, "report")
    page = folder / "report.html"
    if told.origin.candidate != of.candidate:
        raise RefitFailed(f"the refit's report is of head {told.origin.candidate:.12}, its head is {of.candidate:.12}")
    if told.gate != of.gate:
        raise RefitFailed("the refit's report has another gate than its judgement")
    return Report(text, _bounded(page) if page.exists() else None)


def _parsed(model: type[Parsed], text: bytes, what: str) -> Parsed:
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        raise RefitFailed(f"the refit's {what} is not one: {tell(error)}") from error


def _bounded(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(LIMIT + 1)
    except OSError as error:
        raise RefitFailed(f"the refit left no {path.name}: {error.strerror}") from error
    if len(data) > LIMIT:
        raise RefitFailed(f"the refit's {path.name} has more than {LIMIT} bytes")
    return data
