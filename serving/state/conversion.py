"""Uploads in other formats than safetensors, converted by a child process, one at a time.

The child (`models.snapshots.convert`) has a memory limit and a time limit, since what it reads is not trusted. It knows
nothing of the store or of HTTP.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from breadcrumbs.models.snapshots.convert import COMMAND, REFUSALS
from breadcrumbs.models.snapshots.fields import Given
from breadcrumbs.models.snapshots.snapshot import SnapshotError
from breadcrumbs.serving.processes import child

SECONDS = 600.0
MEMORY = 3 * 2**30
"""Bytes. The child's own limit, which has the better error message, is lower."""


class Converter:
    """Converts one file at a time; others wait.

    Args:
        limit: bytes that a converted snapshot may take.
        command: the program, without its arguments.
        seconds: it may take.
    """

    def __init__(self, limit: int, command: Sequence[str] = COMMAND, seconds: float = SECONDS) -> None:
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
            ending = await child.run(command, _nothing, child.Limits(self._seconds, MEMORY))
        if ending.said.get("event") == "converted" and ending.code == 0:
            return tuple(ending.said["changes"])
        refusal = REFUSALS.get(str(ending.said.get("type")))
        if ending.said.get("event") == "refused" and refusal is not None:
            raise refusal(str(ending.said.get("message")))
        why = ending.broken or f"its process ended with status {ending.code}"
        raise SnapshotError(f"the snapshot could not be converted within the limits of memory and time: {why}")


async def _nothing(_event: dict[str, Any]) -> None:
    return None
