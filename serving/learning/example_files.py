"""Files of examples: Parquet, as data tools read it, and JSON lines. Written and read a part at a time.

    id, class, by, verified, at, source, content, ref, backbone, owner, dtype, feature

The features of both are f32 lists; `dtype` says which are f16 in the store, so that no bit is lost. It knows nothing of
stores, or of what rows mean (`portable`).
"""

import io
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from breadcrumbs.models.snapshots.parquet import ExtraMissing
from breadcrumbs.serving.learning.example import Label
from breadcrumbs.serving.learning.portable import FORMAT, ExamplesError, from_rows, to_row

FileFormat = Literal["parquet", "jsonl"]
MAGIC = b"PAR1"
"""How a Parquet file begins."""
ROWS = 512
"""Rows that are read at a time."""
GROUP = 128 * 2**20
"""Bytes of a row group at most, as its file says: one is in memory while it is read."""
LINE = 8 * 2**20
"""Bytes of a line at most."""
TEXTS = ("id", "class", "by", "source", "content", "ref", "backbone", "owner", "dtype")


async def lines(parts: AsyncIterator[Sequence[Label]]) -> AsyncIterator[bytes]:
    """Yield the bytes of a file of JSON lines, an example a line."""
    async for part in parts:
        yield b"".join(json.dumps(_jsonable(to_row(one)), ensure_ascii=False).encode() + b"\n" for one in part)


async def parquet(parts: AsyncIterator[Sequence[Label]]) -> AsyncIterator[bytes]:
    """Yield the bytes of a Parquet file, a row group for each part.

    Raises:
        ExtraMissing: pyarrow is not installed.
    """
    pa = pyarrow()
    from pyarrow import parquet as files

    schema, sink = _schema(pa), io.BytesIO()
    with files.ParquetWriter(sink, schema, compression="zstd") as writer:
        async for part in parts:
            if part:
                writer.write_table(pa.Table.from_pylist([to_row(one) for one in part], schema))
                yield _taken(sink)
    yield _taken(sink)


def pyarrow() -> Any:
    """Return the module that reads and writes Parquet.

    Raises:
        ExtraMissing: it is not installed.
    """
    try:
        import pyarrow as pa
    except ImportError as error:
        raise ExtraMissing(
            "examples as Parquet need pyarrow: pip install 'breadcrumbs-longtail[parquet]', or take format=jsonl"
        ) from error
    return pa


def _schema(pa: Any) -> Any:
    types = {name: pa.string() for name in TEXTS} | {
        "verified": pa.bool_(), "at": pa.timestamp("us", "UTC"), "feature": pa.list_(pa.float32()),
    }  # fmt: skip
    order = ("id", "class", "by", "verified", "at", "source", "content", "ref", "backbone", "owner", "dtype", "feature")
    return pa.schema([(name, types[name]) for name in order], metadata={"format": FORMAT})


def _taken(sink: io.BytesIO) -> bytes:
    """What was written since the last time; the writer counts its own bytes, so the sink keeps its position."""
    data = sink.getvalue()
    sink.seek(0)
    sink.truncate()
    return data


def _jsonable(row: dict[str, Any]) -> dict[str, Any]:
    at: datetime = row["at"]
    return row | {"at": at.isoformat(timespec="microseconds")}


def read(path: Path) -> Iterator[list[Label]]:
    """Yield the examples of a file, some at a time, each checked.

    Raises:
        ExamplesError: it is neither Parquet nor JSON lines, or a row is no example; naming the row.
        ExtraMissing: it is Parquet, and pyarrow is not installed.
        OSError: it cannot be read.
        MemoryError: it takes more than there is; a process of its own should read what is not trusted (`intake`).
    """
    with path.open("rb") as file:
        begins = file.read(len(MAGIC))
    return _from_parquet(path) if begins == MAGIC else _from_lines(path)


def _from_lines(path: Path) -> Iterator[list[Label]]:
    rows: list[dict[str, Any]] = []
    number = size = 0
    with path.open("rb") as file:
        while line := file.readline(LINE + 1):
            number, size = number + 1, size + len(line)
            rows.append(_row(line, number))
            if len(rows) == ROWS or size > LINE:
                yield list(from_rows(rows, number - len(rows) + 1))
                rows, size = [], 0
    yield list(from_rows(rows, number - len(rows) + 1))


def _row(line: bytes, number: int) -> dict[str, Any]:
    if len(line) > LINE:
        raise ExamplesError(f"row {number}: more than {LINE} bytes, which is the limit of a line")
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ExamplesError(f"row {number}: expected a JSON object a line, or a Parquet file: {error!s:.80}") from error
    if not isinstance(values, dict):
        raise ExamplesError(f"row {number}: expected a JSON object, got {type(values).__name__}")
    return values


def _from_parquet(path: Path) -> Iterator[list[Label]]:
    pa = pyarrow()
    from pyarrow import parquet as files

    number = 1
    try:
        with files.ParquetFile(path, memory_map=False, pre_buffer=False) as file:
            _check(pa, file)
            for batch in file.iter_batches(batch_size=ROWS, use_threads=False):
                yield list(from_rows(batch.to_pylist(), number))
                number += batch.num_rows
    except MemoryError:  # also Arrow's
        raise
    except (pa.ArrowException, ValueError, OSError) as error:
        raise ExamplesError(f"damaged Parquet file: {error!s:.200}") from error


def _check(pa: Any, file: Any) -> None:
    """Refuse other columns, and what its metadata says would take much memory."""
    schema, expected = file.schema_arrow, _schema(pa)
    said = {field.name: field.type for field in schema}
    for field in expected:
        if field.name not in said:
            raise ExamplesError(f"column {field.name!r} is missing; expected a file that `examples export` makes")
        found = said.pop(field.name)
        lists = pa.types.is_list(found) and pa.types.is_floating(found.value_type)
        if found != field.type and not (field.name == "feature" and lists):
            raise ExamplesError(f"column {field.name!r}: expected {field.type}, got {found!s:.80}")
    if said:
        raise ExamplesError(f"column {min(said)!r:.80}: expected no more columns than {', '.join(expected.names)}")
    for place in range(file.metadata.num_row_groups):
        size = file.metadata.row_group(place).total_byte_size
        if not 0 <= size <= GROUP:
            raise ExamplesError(f"row group {place + 1} takes {size} bytes; the limit is {GROUP}: write smaller ones")
