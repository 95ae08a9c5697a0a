"""Examples in a file, one a row, bit for bit: what is exported from one store and imported into another.

Feature bits, class, author, reference, lineage (`source`, `content`, `backbone`, `owner`), time and `verified` are all
there; of an example's labels only the newest is. It knows nothing of the file formats (`example_files`), or of HTTP.

Letters: D feature dimensions.
"""

import hashlib
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StrictBool, ValidationError

from breadcrumbs.models.errors import FormatError
from breadcrumbs.models.printable import Printable
from breadcrumbs.serving.learning.answer import DTYPES, dtype_name
from breadcrumbs.serving.learning.answer_ids import ID
from breadcrumbs.serving.learning.example import Label, Said, identity
from breadcrumbs.serving.refusals import tell

FORMAT = "breadcrumbs.examples/1"
BEGIN = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
SOON = 60_000_000
"""Microseconds that another server's clock may be ahead."""
SOURCE = re.compile(rf"answer:{ID.pattern}|(image|feature):(?P<sha>[0-9a-f]{{64}})")
Sha = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ExamplesError(FormatError):
    """A file that is not one of examples."""


class Row(BaseModel):
    """An example in a file."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    id: str
    cls: Annotated[Printable, Field(min_length=1, max_length=1000)] = Field(alias="class")
    by: Annotated[Printable, Field(max_length=400)]
    verified: StrictBool
    at: AwareDatetime
    source: str
    content: Sha
    ref: Annotated[Printable, Field(max_length=400)]
    backbone: Sha
    owner: Annotated[Printable, Field(min_length=1, max_length=400)] | None
    dtype: Literal["F16", "F32"]
    feature: list[Annotated[float, Field(strict=True)]] = Field(min_length=1, max_length=65_536)


def to_row(label: Label) -> dict[str, Any]:
    """Return an example as the values of a row; the feature is a list."""
    said = label.said
    return {
        "id": said.id, "class": said.label, "by": said.by, "verified": said.verified,
        "at": BEGIN + said.at * MICROSECOND, "source": said.source, "content": said.content, "ref": said.ref,
        "backbone": said.backbone, "owner": said.owner, "dtype": dtype_name(label.feature),
        "feature": label.feature.tolist(),
    }  # fmt: skip


def from_rows(rows: Sequence[Mapping[str, Any]], start: int) -> Iterator[Label]:
    """Yield what the values of rows say, checked.

    Args:
        rows: as `to_row` makes them, or with `at` as ISO 8601.
        start: number of the first row in its file, from 1, for the error message.

    Raises:
        ExamplesError: naming the row and the field.
    """
    latest = time.time_ns() // 1000 + SOON
    for number, values in enumerate(rows, start):
        try:
            row = Row.model_validate(values)
        except ValidationError as error:
            raise ExamplesError(f"row {number}: {tell(error)}") from error
        yield _label(row, f"row {number}", latest)


def _label(row: Row, name: str, latest: int) -> Label:
    at = (row.at - BEGIN) // MICROSECOND
    if not 0 <= at <= latest:
        raise ExamplesError(f"{name}: at: expected a time from 1970 to now, got {row.at.isoformat()}")
    told = SOURCE.fullmatch(row.source)
    if told is None or told["sha"] not in {None, row.content}:
        raise ExamplesError(
            f"{name}: source: expected answer:ID, image:CONTENT or feature:CONTENT, got {row.source!r:.90}"
        )
    if row.id != identity(row.owner, row.content):
        raise ExamplesError(f"{name}: id: expected {identity(row.owner, row.content)}, that of its owner and content")
    wide = np.array(row.feature, np.float64)
    with np.errstate(over="ignore"):
        feature = wide.astype(DTYPES[row.dtype])
    if not np.isfinite(feature).all() or not np.array_equal(feature.astype(np.float64), wide):
        raise ExamplesError(f"{name}: feature: expected finite numbers that {row.dtype} has exactly")
    if told[1] == "feature" and row.content != hashlib.sha256(feature.astype(np.float32).tobytes()).hexdigest():
        raise ExamplesError(f"{name}: content: expected the sha256 of its feature, since it came as one")
    said = Said(
        row.id, row.cls, row.by, row.verified, row.source, row.content, row.ref, row.backbone, row.owner, at=at
    )  # fmt: skip
    return Label(said, feature)
