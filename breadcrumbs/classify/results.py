"""What came of many images: the classes of each, or why there are none; and files of that, whole or absent.

    .csv, .parquet   a row for each of an image's classes: image, rank, class, index, probability, error
    .jsonl           an object for each image: image, classes and, where there is one, node, known and nearest; or image
                     and error

It knows nothing of who computes them.
"""

import contextlib
import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.files import writing_whole
from breadcrumbs.models.head import RankedClass
from breadcrumbs.models.lineages import SureNode
from breadcrumbs.models.snapshots.parquet import ExtraMissing

SUFFIXES = (".csv", ".jsonl", ".parquet")
COLUMNS = ("image", "rank", "class", "index", "probability", "error")
ROWS = 10_000  # of a Parquet file's row group


@dataclass(frozen=True)
class Prediction:
    """One image's classes, the most probable first, and what else was asked for; or an error in words.

    Attributes:
        node: the deepest sure node, if any.
        known: how well the image is known, 0 … 1.
        nearest: the nearest stored rows, as in the API.
    """

    image: Path
    classes: Sequence[RankedClass] = ()
    error: str | None = None
    node: SureNode | None = None
    known: float | None = None
    nearest: Sequence[dict[str, Any]] | None = None

    @property
    def name(self) -> str:
        """The image's path as text that can be written anywhere: what is no Unicode or not printable is escaped."""
        text = str(self.image).encode("utf-8", "backslashreplace").decode()
        return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)

    def as_dict(self) -> dict[str, Any]:
        """The prediction as JSON's own types."""
        if self.error is not None:
            return {"image": self.name, "error": self.error}
        more = {"node": self.node and asdict(self.node), "known": self.known, "nearest": self.nearest}
        asked = {name: value for name, value in more.items() if value is not None}
        return {"image": self.name, "classes": list(self.classes), **asked}

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Yield a row for each class, as `COLUMNS` says; for an error one."""
        if self.error is not None:
            yield self.name, None, None, None, None, self.error
        for rank, one in enumerate(self.classes, 1):
            yield self.name, rank, one["class"], one["index"], one["probability"], None


Write = Callable[[Prediction], None]
Writer = Callable[[IO[bytes]], contextlib.AbstractContextManager[Write]]


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Write]:
    """Give what writes one prediction after the other; if all goes well, the file is there at the end, else not.

    Raises:
        BreadcrumbsError: no file of this name can be written.
        ExtraMissing: pyarrow is not installed.
    """
    writer = _writer(path)
    if path.is_dir():
        raise BreadcrumbsError(f"--out {path}: that is a folder; expected a file")
    with writing_whole(path) as file, writer(file) as write:
        yield write


def _writer(path: Path) -> Writer:
    kinds: dict[str, Writer] = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}
    writer = kinds.get(path.suffix.lower())
    if writer is None:
        raise BreadcrumbsError(f"--out {path}: expected a file that ends with {', '.join(SUFFIXES)}")
    return writer


@contextlib.contextmanager
def _csv(file: IO[bytes]) -> Iterator[Write]:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    yield lambda prediction: rows.writerows(prediction.rows())
    text.flush()
    text.detach()


@contextlib.contextmanager
def _jsonl(file: IO[bytes]) -> Iterator[Write]:
    def write(prediction: Prediction) -> None:
        file.write(json.dumps(prediction.as_dict(), ensure_ascii=False).encode() + b"\n")

    yield write


@contextlib.contextmanager
def _parquet(file: IO[bytes]) -> Iterator[Write]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise ExtraMissing(
            "a Parquet file needs pyarrow, which is not installed: pip install 'breadcrumbs-longtail[parquet]', or "
            "--out with .csv or .jsonl"
        ) from error
    types = (pa.string(), pa.int32(), pa.string(), pa.int32(), pa.float64(), pa.string())
    schema = pa.schema(list(zip(COLUMNS, types, strict=True)))
    waiting: list[tuple[Any, ...]] = []
    with parquet.ParquetWriter(file, schema) as table:

        def flush() -> None:
            columns = zip(*waiting, strict=True) if waiting else ((),) * len(COLUMNS)
            arrays = [pa.array(column, kind) for column, kind in zip(columns, types, strict=True)]
            table.write_batch(pa.record_batch(arrays, schema=schema))
            waiting.clear()

        def write(prediction: Prediction) -> None:
            waiting.extend(prediction.rows())
            if len(waiting) >= ROWS:
                flush()

        yield write
        flush()
