"""A snapshot from an untrusted Parquet or Arrow file, read by pyarrow; the extra `parquet` installs it.

Row and byte counts that the file's metadata declares are checked before a value is read; what then comes is read some
rows at a time, counted, and written to disk. A file whose pages lie about their size can still make pyarrow ask for
more memory: whoever reads a stranger's file sets a limit on the process, as `models.snapshots.convert` does. It knows
nothing of how the parts become a snapshot.

Letters: N rows, D feature dimensions.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from breadcrumbs.models.errors import BreadcrumbsError, FormatError
from breadcrumbs.models.snapshots.fields import Parts, encoded
from breadcrumbs.models.snapshots.snapshot import rows_told
from breadcrumbs.models.spool import PIECE, Array, FileTooLarge, spool

COLUMNS = ("feature", "label", "id")
SAYS = ("format", "backbone", "epoch", "created", "dataset", "lineage")
ROWS = 8_192
"""The most rows read at a time."""
STRING_LIMIT = 16 * 2**20
"""The most bytes of one metadata string; the class names are one."""


class ExtraMissing(BreadcrumbsError):
    """The file's reader is not installed; the message names the extra that installs it."""


def read_parquet(path: Path, limit: int) -> Parts:
    """Read the parts of a snapshot from a Parquet file; the features are mapped from a nameless file.

    Args:
        path: the file.
        limit: bytes that its features and labels may take.

    Raises:
        ExtraMissing: pyarrow is not installed.
        FormatError: naming the defect.
        FileTooLarge: over `limit`.
    """
    pa = _pyarrow()
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(
            path, memory_map=False, pre_buffer=False, buffer_size=PIECE,
            thrift_string_size_limit=STRING_LIMIT, thrift_container_size_limit=1_000_000,
        ) as file:  # fmt: skip
            schema = file.schema_arrow
            _check_schema(pa, schema)
            _check_declared(file.metadata, limit)
            rows = max(1, min(ROWS, PIECE * file.metadata.num_rows // max(1, _declared(file.metadata))))
            return _collect(pa, schema, file.iter_batches(batch_size=rows, use_threads=False), limit)
    except MemoryError as error:
        raise FileTooLarge(f"Parquet file that takes more memory than this process may have: {error}"[:300]) from error
    except (pa.ArrowException, ValueError, OSError) as error:
        raise FormatError(f"damaged Parquet file: {error}"[:300]) from error


def read_arrow(path: Path, limit: int) -> Parts:
    """Read the parts of a snapshot from an Arrow file (IPC, also known as Feather 2); raises as `read_parquet` does."""
    pa = _pyarrow()
    try:
        with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as file:
            _check_schema(pa, file.schema)
            batches = (_valid(file.get_batch(i)) for i in range(file.num_record_batches))
            return _collect(pa, file.schema, batches, limit)
    except MemoryError as error:
        raise FileTooLarge(f"Arrow file that takes more memory than this process may have: {error}"[:300]) from error
    except (pa.ArrowException, ValueError, OSError) as error:
        raise FormatError(f"damaged Arrow file: {error}"[:300]) from error


def _pyarrow() -> Any:
    try:
        import pyarrow as pa
    except ImportError as error:
        raise ExtraMissing(
            "Parquet and Arrow snapshots need pyarrow: pip install 'breadcrumbs-longtail[parquet]'"
        ) from error
    return pa


def _valid(batch: Any) -> Any:
    """Check that a batch's offsets lie within its buffers: Arrow does not do it by itself."""
    batch.validate(full=True)
    return batch


def _check_schema(pa: Any, schema: Any) -> None:
    names = schema.names
    for name in names:
        if name not in COLUMNS:
            raise FormatError(f"unexpected column '{name[:80]}'; expected only {', '.join(COLUMNS)}")
        if names.count(name) > 1:
            raise FormatError(f"column '{name}' occurs twice")
    for name in COLUMNS[:2]:
        if name not in names:
            raise FormatError(f"column '{name}' is missing")
    types = pa.types
    feature, label = schema.field("feature").type, schema.field("label").type
    listed = types.is_fixed_size_list(feature) or types.is_list(feature) or types.is_large_list(feature)
    if not listed or not types.is_floating(feature.value_type):
        raise FormatError(f"column 'feature': expected a list of float16, float32 or float64, got {feature!s:.80}")
    plain = label.value_type if types.is_dictionary(label) else label
    if not (types.is_integer(label) or types.is_string(plain) or types.is_large_string(plain)):
        raise FormatError(f"column 'label': expected string or integer, got {label!s:.80}")
    if "id" in names and not types.is_integer(schema.field("id").type):
        raise FormatError(f"column 'id': expected integer, got {schema.field('id').type!s:.80}")


def _declared(metadata: Any) -> int:
    """Bytes of all columns, inflated, as a Parquet file's metadata says."""
    return sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))


def _check_declared(metadata: Any, limit: int) -> None:
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    values = [group.column(i).num_values for group in groups for i in range(group.num_columns)]
    if metadata.num_rows < 0 or min(values, default=0) < 0 or sum(group.num_rows for group in groups) < 0:
        raise FormatError("Parquet metadata: a number of rows or values below 0")
    least = max(8 * metadata.num_rows, 2 * sum(values), _declared(metadata))
    if least > limit:
        raise FileTooLarge(
            f"Parquet file of {metadata.num_rows} rows takes {least} bytes or more; the limit is {limit}"
        )


def _collect(pa: Any, schema: Any, batches: Iterator[Any], limit: int) -> Parts:
    """Read batch by batch: features to disk, labels and ids to memory."""
    dtype = np.dtype(schema.field("feature").type.value_type.to_pandas_dtype())
    width = 0
    start = 0
    labels: list[Array] = []
    ids: list[Array] = []
    words: list[list[str]] = []
    numbers = pa.types.is_integer(schema.field("label").type)

    def pieces() -> Iterator[bytes]:
        nonlocal width, start
        for batch in batches:
            columns = dict(zip(batch.schema.names, batch.columns, strict=True))
            if not batch.num_rows:
                continue
            for name, column in columns.items():
                _check_nulls(name, column, start)
            width = width or len(columns["feature"][0])
            block = _block(columns["feature"], width, start)
            if numbers:
                labels.append(columns["label"].to_numpy(zero_copy_only=False))
            else:
                words.append(columns["label"].to_pylist())
            if "id" in columns:
                ids.append(columns["id"].to_numpy(zero_copy_only=False))
            start += batch.num_rows
            if 8 * start > limit:
                raise FileTooLarge(f"more than {start} rows; the limit is {limit} bytes")
            yield block.tobytes()

    features = spool(pieces(), dtype, limit)
    metadata = _metadata(schema)
    coded, names = (np.concatenate(labels or [np.zeros(0, np.int64)]), None) if numbers else encoded(words)
    return Parts(
        features=features.reshape(start, width),
        labels=coded,
        names=names,
        ids=np.concatenate(ids or [np.zeros(0, np.int64)]) if "id" in schema.names else None,
        says={key: metadata[key] for key in SAYS if key in metadata},
        classes=_classes(metadata.get("classes")),
    )


def _check_nulls(name: str, column: Any, start: int) -> None:
    if column.null_count:
        rows = start + np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))
        raise FormatError(f"column '{name}': null in {rows_told(rows)}")


def _block(column: Any, width: int, start: int) -> Array:
    """Rows of features (M, D) of one batch."""
    if not width:
        raise FormatError(f"column 'feature': expected lists of at least 1 value, got none in row {start}")
    lengths = column.value_lengths().to_numpy(zero_copy_only=False)
    other = np.flatnonzero(lengths != width)
    if len(other):
        raise FormatError(
            f"column 'feature': expected lists of {width} values, got {int(lengths[other[0]])} in row "
            f"{start + int(other[0])}"
        )
    values = column.flatten()
    if values.null_count:
        bad = values.is_null().to_numpy(zero_copy_only=False).reshape(-1, width).any(1)
        raise FormatError(f"column 'feature': nulls inside the lists of {rows_told(start + np.flatnonzero(bad))}")
    block: Array = values.to_numpy(zero_copy_only=False).reshape(-1, width)
    return block


def _metadata(schema: Any) -> dict[str, str]:
    """Our keys in a file's metadata; others, such as those of pandas, are ignored."""
    found = {key.decode("utf-8", "replace"): value for key, value in (schema.metadata or {}).items()}
    try:
        return {key: found[key].decode() for key in (*SAYS, "classes") if key in found}
    except UnicodeDecodeError as error:
        raise FormatError(f"metadata that is no UTF-8: {error}") from error


def _classes(words: str | None) -> tuple[str, ...] | None:
    if words is None:
        return None
    try:
        names = json.loads(words)
    except (ValueError, RecursionError) as error:
        raise FormatError("metadata 'classes': expected a JSON list of names") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise FormatError("metadata 'classes': expected a JSON list of names")
    return tuple(names)
