"""Files of examples that somebody sends: read and checked by a child process, which leaves what the server then keeps.

    python -P -m breadcrumbs.serving.learning.intake SOURCE TARGET LIMIT

Pages of Parquet, and lines of JSON, may take a thousand times their size. The child writes TARGET, segments of records
one after the other, each behind its length; it prints `checked`, or `refused` with the error's type and message. It
knows nothing of the store or of HTTP.
"""

import asyncio
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.snapshots import untrusted
from breadcrumbs.models.snapshots.parquet import ExtraMissing
from breadcrumbs.models.spool import FileTooLarge
from breadcrumbs.serving.learning import example_files
from breadcrumbs.serving.learning.example import Label, label_of, to_record
from breadcrumbs.serving.learning.portable import ExamplesError
from breadcrumbs.serving.processes import reading
from breadcrumbs.serving.state.segment_file import decode, encode

COMMAND = (sys.executable, "-P", "-m", "breadcrumbs.serving.learning.intake")
REFUSALS: dict[str, type[BreadcrumbsError]] = {
    error.__name__: error for error in (ExamplesError, FileTooLarge, ExtraMissing)
}
"""The errors that the child may report, by name."""
LENGTH = 8
"""Bytes of a segment's length before it."""
TOGETHER = 8 * 2**20
"""Bytes of features in a segment, about."""


class Intake:
    """Checks one file at a time; others wait.

    Args:
        limit: bytes that the examples of a file may take.
        command: the program, without its arguments.
        seconds: it may take.
    """

    def __init__(self, limit: int, command: Sequence[str] = COMMAND, seconds: float = reading.SECONDS) -> None:
        self._limit, self._command, self._seconds = limit, command, seconds
        self._turn = asyncio.Lock()

    async def check(self, source: Path, target: Path) -> None:
        """Write the examples of a file, each checked, to `target`, which `checked` reads.

        Raises:
            ExamplesError: it is no file of examples, a row is damaged, or it cannot be read within the limits.
            FileTooLarge: the examples take more than the limit.
            ExtraMissing: it is Parquet, and pyarrow is not installed.
        """
        command = [*self._command, str(source), str(target), str(self._limit)]
        async with self._turn:
            await reading.read(command, REFUSALS, _lost, self._seconds)


def _lost(why: str) -> ExamplesError:
    return ExamplesError(f"the file of examples could not be read within the limits of memory and time: {why}")


def checked(path: Path) -> Iterator[list[Label]]:
    """Yield the examples that `Intake.check` has written, some at a time."""
    with path.open("rb") as file:
        while length := file.read(LENGTH):
            data = file.read(int.from_bytes(length, "little"))
            yield [label_of(record) for record in decode(path.name, data)]


def write(labels: Iterable[Label], target: Path, limit: int) -> None:
    """Write examples as `checked` reads them.

    Raises:
        FileTooLarge: they take more than the limit.
    """
    with target.open("wb") as file:
        for some in _parts(labels):
            data = encode([to_record(one.said, one.feature) for one in some])
            if file.tell() + LENGTH + len(data) > limit:
                raise FileTooLarge(f"the examples of the file take more than {limit} bytes, which is the limit")
            file.write(len(data).to_bytes(LENGTH, "little") + data)


def _parts(labels: Iterable[Label]) -> Iterator[list[Label]]:
    part: list[Label] = []
    size = 0
    for one in labels:
        part.append(one)
        size += one.feature.nbytes
        if size >= TOGETHER or len(part) == example_files.ROWS:
            yield part
            part, size = [], 0
    if part:
        yield part


def _work(source: Path, target: Path, limit: int) -> dict[str, Any]:
    write((one for part in example_files.read(source) for one in part), target, limit)
    return {"event": "checked"}


def main(source: str, target: str, limit: str) -> None:
    """Check a file within the memory limit and print the result."""
    untrusted.report(partial(_work, Path(source), Path(target), int(limit)), Path(source))


if __name__ == "__main__":
    main(*sys.argv[1:])
