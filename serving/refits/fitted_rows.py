"""The rows that a head was fitted to, found by its lineage, as far as they are still there and may be seen.

They are those of the bundle, of the snapshots that its refit named, and the examples that its refit took; of other
backbones' rows there are none. What is erased, deleted or another key's is never told: that is looked up at each
request. It knows nothing of HTTP, or of how near rows are.

Letters: N rows, D feature dimensions.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.snapshots.examples import judges, number
from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.models.snapshots.snapshot import read as read_snapshot
from breadcrumbs.serving.learning.example import Said
from breadcrumbs.serving.learning.examples import Examples
from breadcrumbs.serving.learning.neighbours import Part, bounded
from breadcrumbs.serving.processes.scratch import scratch
from breadcrumbs.serving.refits import examples as taken
from breadcrumbs.serving.state import heads, owners, snapshots
from breadcrumbs.serving.state.renames import Became, Renames
from breadcrumbs.serving.state.store import NotFound, Store

CACHE = 2
"""Heads whose rows are kept open."""

Sees = Callable[[Collection[str]], bool]
"""Whether who asks may see what belongs to these keys."""


@dataclass(frozen=True, eq=False)
class Source:
    """Rows of one origin.

    Attributes:
        part: the rows that are searched, their labels numbering `classes`.
        rows: how many there are of them in all.
        classes: names, as the head knows them.
        snapshot: sha256 of the stored snapshot; empty: the bundle's, or examples.
        ids: int64 (S,), numbers of the images in their data set; None: unknown.
        said: of each example (S,), as it was when the rows were opened; empty: no examples.
    """

    part: Part
    rows: int
    classes: tuple[str, ...]
    snapshot: str = ""
    ids: NDArray[np.int64] | None = None
    said: tuple[Said, ...] = ()


@dataclass(frozen=True, eq=False)
class Visible:
    """The rows that may be seen."""

    sources: list[Source]

    @property
    def rows(self) -> int:
        """How many there are in all."""
        return sum(source.rows for source in self.sources)

    @property
    def parts(self) -> list[Part]:
        """The rows that are searched."""
        return [source.part for source in self.sources]


class FittedRows:
    """The rows of the heads in a store.

    Args:
        store: where heads, snapshots and refits are.
        bundle: that serves.
        examples: of the store.
        renames: of the classes of heads.
    """

    def __init__(self, store: Store, bundle: Bundle, examples: Examples, renames: Renames) -> None:
        self._store, self._bundle, self._examples, self._renames = store, bundle, examples, renames
        self._open: OrderedDict[int, list[Source]] = OrderedDict()
        self._opening = asyncio.Lock()

    async def visible(self, version: int, sees: Sees) -> Visible:
        """Return the rows that a head was fitted to, without those that who asks may not see.

        Raises:
            NotFound: there is no such head.
            StoreError: the store cannot be read.
        """
        async with self._opening:
            if version not in self._open:
                self._open[version] = await self._opened(version)
            self._open.move_to_end(version)
            sources = self._open[version]
            while len(self._open) > CACHE:
                self._open.popitem(last=False)
        newest = await self._examples.newest()
        shown = [await self._shown(source, newest, sees) for source in sources]
        return Visible([source for source in shown if source is not None and len(source.part)])

    async def _shown(self, source: Source, newest: Mapping[str, Said], sees: Sees) -> Source | None:
        """A source without rows that were erased since, or that may not be seen."""
        if source.said:
            there = np.array([one.id in newest and sees(_owners(one)) for one in source.said])
            if there.all():
                return source
            return replace(source, part=source.part.take(there[source.part.rows]), rows=int(there.sum()))
        if not source.snapshot:
            return source
        if not await self._store.has(snapshots.object_name(source.snapshot, "json")):
            return None
        return source if sees(await owners.owners(self._store, source.snapshot)) else None

    async def _opened(self, version: int) -> list[Source]:
        lineage = (await heads.record(self._store, version)).lineage
        became = await self._renames.of(version)
        found: list[Source] = []
        if lineage.spec.get("use_bundle_snapshots", True):
            found += await asyncio.to_thread(self._of_bundle, became)
        for sha in lineage.snapshots:
            try:
                found += await self._of_snapshot(sha, became)
            except NotFound:  # it was deleted since
                continue
        if lineage.refit is not None:
            found += await self._of_examples(lineage.refit, became)
        return await asyncio.to_thread(_searched, found)

    def _of_bundle(self, became: Became) -> list[Source]:
        """The bundle's own rows, each image once."""
        found: list[Source] = []
        seen: dict[str, list[NDArray[np.int64]]] = {}
        for snapshot in self._bundle.snapshots():
            if snapshot.backbone != self._bundle.backbone_digest:
                continue
            known = seen.setdefault(snapshot.dataset, [])
            fresh = np.ones(len(snapshot.labels), np.bool_)
            if snapshot.ids is not None:
                fresh = ~np.isin(snapshot.ids, np.concatenate(known)) if known else fresh
                known.append(snapshot.ids)
            found.append(_source(snapshot, became, fresh))
        return found

    async def _of_snapshot(self, sha: str, became: Became) -> list[Source]:
        with scratch("rows") as folder:  # what is mapped stays readable when its file is gone
            path = folder / "snapshot.safetensors"
            await snapshots.fetch(self._store, sha, path)
            snapshot = await asyncio.to_thread(_read, path)
        if snapshot.backbone != self._bundle.backbone_digest:
            return []
        return [_source(snapshot, became, np.ones(len(snapshot.labels), np.bool_), sha)]

    async def _of_examples(self, job: str, became: Became) -> list[Source]:
        """The examples that a refit fitted to: one in five verified ones judged, and was never fitted."""
        note = await taken.noted(self._store, job)
        if note is None:
            return []
        wanted, newest = set(note.ids), await self._examples.newest()
        own = [
            one
            for one in await self._examples.current()
            if one.id in wanted
            and one.id in newest
            and one.backbone == self._bundle.backbone_digest
            and not (one.verified and judges(number(one.content)))
            and became.get(one.label, one.label) is not None
        ]
        if not own:
            return []
        names = [became.get(one.label, one.label) or "" for one in own]
        classes, labels = np.unique(np.array(names, object).astype(str), return_inverse=True)
        part = Part(np.stack([one.feature for one in own]), np.arange(len(own)), labels.astype(np.int64))
        return [Source(part, len(part), tuple(classes.tolist()), said=tuple(newest[one.id] for one in own))]


def _owners(said: Said) -> Collection[str]:
    return () if said.owner is None else (said.owner,)


def _read(path: Path) -> Snapshot:
    return read_snapshot(path)


def _source(snapshot: Snapshot, became: Became, wanted: NDArray[np.bool_], sha: str = "") -> Source:
    """The rows of a snapshot whose class the head has."""
    names = [became.get(name, name) for name in snapshot.classes]
    there = np.array([name is not None for name in names] + [False])  # the last one is that of label −1
    rows = np.flatnonzero(wanted & there[snapshot.labels])
    classes = tuple(name or "" for name in names)
    return Source(Part(snapshot.features, rows, snapshot.labels[rows]), len(rows), classes, sha, snapshot.ids)


def _searched(sources: list[Source]) -> list[Source]:
    """As many rows of each as are searched, with a sketch of them."""
    parts = bounded([source.part for source in sources])
    return [replace(source, part=part.sketched()) for source, part in zip(sources, parts, strict=True)]
