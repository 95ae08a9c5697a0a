"""Rows whose labels are likely wrong, of a stored snapshot or of examples: listed by a child process, and remembered.

One list is made at a time; who asks for another meanwhile is refused at once. A list is of content that never changes,
by its sha256, so it is made once. It knows nothing of HTTP, of who may see rows, or of how a label is judged.
"""

import asyncio
import contextlib
import hashlib
import sys
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from breadcrumbs.models.snapshots import examples as labelled
from breadcrumbs.models.snapshots import snapshot as snapshot_files
from breadcrumbs.models.snapshots.snapshot import SnapshotError
from breadcrumbs.serving.learning.example import Example
from breadcrumbs.serving.processes import child
from breadcrumbs.serving.processes.scratch import scratch
from breadcrumbs.serving.refusals import Overloaded, TooLarge
from breadcrumbs.serving.state import snapshots
from breadcrumbs.serving.state.store import Conflict, Store

COMMAND = (sys.executable, "-P", "-m", "breadcrumbs.training.inspect.suspect_list")
MOST = 1_000
"""Rows of a list."""
CACHE = 32
"""Lists that are remembered."""


class SuspectRow(BaseModel):
    """A row whose given class is less likely than another, by a head that was fitted without the row."""

    model_config = ConfigDict(frozen=True)

    row: int = Field(description="its number in the snapshot; 0 is the first")
    image: int | None = Field(default=None, description="number of the image in its data set, where that is known")
    given: str = Field(description="the class that its label says")
    given_probability: float = Field(description="of that class")
    suggested: str = Field(description="the most probable other class")
    suggested_probability: float = Field(description="of that class")


class Suspects:
    """Makes and remembers the lists.

    Args:
        store: where the snapshots are.
        limits: what a child may take.
        command: the child, without its arguments.
    """

    def __init__(self, store: Store, limits: child.Limits, command: Sequence[str] = COMMAND) -> None:
        self._store, self._limits, self._command = store, limits, tuple(command)
        self._known: OrderedDict[str, list[SuspectRow]] = OrderedDict()
        self._busy = False

    async def of_snapshot(self, sha: str) -> list[SuspectRow]:
        """Return the suspects of a stored snapshot, the likeliest first.

        Raises:
            NotFound: there is no such snapshot.
            Conflict: it has too few rows.
            TooLarge: it has too many, or takes more than the limits of a refit.
            Overloaded: another list is being made.
            StoreError: it is damaged.
        """
        if sha in self._known:
            return self._remembered(sha)
        with self._turn(), scratch("suspects") as folder:
            path = folder / "rows.safetensors"
            await snapshots.fetch(self._store, sha, path)
            return await self._made(sha, path)

    async def of_examples(self, examples: Sequence[Example]) -> list[tuple[Example, SuspectRow]]:
        """Return the suspects among examples of one feature space, the likeliest first; raises as `of_snapshot`."""
        if not examples:
            raise Conflict("there is no example that this key may see: label some by POST /v1/labels")
        words = "\n".join(f"{one.id} {one.label} {one.content}" for one in examples)
        key = hashlib.sha256(words.encode()).hexdigest()
        if key not in self._known:
            with self._turn(), scratch("suspects") as folder:
                path = folder / "rows.safetensors"
                await asyncio.to_thread(_write, path, examples)
                await self._made(key, path)
        return [(examples[one.row], one) for one in self._remembered(key)]

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """The turn of one list; refused at once while another has it."""
        if self._busy:
            raise Overloaded("suspects of other rows are being looked for; one list is made at a time", 5)
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    def _remembered(self, key: str) -> list[SuspectRow]:
        self._known.move_to_end(key)
        return self._known[key]

    async def _made(self, key: str, path: Path) -> list[SuspectRow]:
        rows: list[SuspectRow] = []

        async def hear(event: dict[str, Any]) -> None:
            if event["event"] == "suspect" and len(rows) < MOST:
                rows.append(SuspectRow.model_validate(event))

        ending = await child.run([*self._command, str(path), str(MOST)], hear, self._limits)
        if ending.said.get("event") == "refused":
            message = str(ending.said.get("message"))
            raise {"too_few": Conflict, "too_large": TooLarge}.get(str(ending.said.get("type")), SnapshotError)(message)
        if ending.code != 0 or ending.said.get("event") != "done":
            why = ending.broken or f"its process ended with status {ending.code}"
            raise TooLarge(f"the rows could not be scored within the limits of memory and time of a refit: {why}")
        self._known[key] = rows
        if len(self._known) > CACHE:
            self._known.popitem(last=False)
        return rows


def _write(path: Path, examples: Sequence[Example]) -> None:
    """Write examples as a snapshot whose row numbers are their places."""
    features = np.stack([one.feature for one in examples])
    names = [one.id for one in examples]
    snapshot_files.write(
        path, labelled.snapshot(features, [one.label for one in examples], names, examples[0].backbone, verified=False)
    )
