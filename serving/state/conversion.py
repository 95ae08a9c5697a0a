"""Uploads in other formats than safetensors, converted by a child process, one at a time.

The child is `models.snapshots.convert`. It knows nothing of the store or of HTTP.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from breadcrumbs.models.snapshots.convert import COMMAND, REFUSALS
from breadcrumbs.models.snapshots.fields import Given
from breadcrumbs.models.snapshots.snapshot import SnapshotError
from breadcrumbs.serving.processes import reading


class Converter:
    """Converts one file at a time; others wait.

    Args:
        limit: bytes that a converted snapshot may take.
        command: the program, without its arguments.
        seconds: it may take.
    """

    def __init__(self, limit: int, command: Sequence[str] = COMMAND, seconds: float = reading.SECONDS) -> None:
        self._limit, self._command, self._seconds = limit, command, seconds
        self._turn = asyncio.Lock()

    async def convert(self, source: Path, target: Path, given: Given) -> tuple[str, ...]:
        """Write the snapshot in `source` to `target` as safetensors and return what was changed, in words.

        Raises:
            SnapshotError: the file is damaged, lacks what was not given, or cannot be read within the limits.
            FileTooLarge: the result is larger than the limit.
            ExtraMissing: its reader is not installed here.
        """
        words = json.dumps(asdict(given))
        command = [*self._command, str(source), str(target), str(self._limit), words]
        async with self._turn:
            said = await reading.read(command, REFUSALS, _lost, self._seconds)
        return tuple(said["changes"])


def _lost(why: str) -> SnapshotError:
    return SnapshotError(f"the snapshot could not be converted within the limits of memory and time: {why}")
