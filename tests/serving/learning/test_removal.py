"""Removals that a killed server left are finished; their marks go when nothing needs them; damage is told."""

import asyncio
import os
import time
from pathlib import Path

import pytest
from labelling import feature, holding, label

from breadcrumbs.serving.learning.answers import Answers
from breadcrumbs.serving.learning.bounds import Bounds
from breadcrumbs.serving.learning.examples import Examples
from breadcrumbs.serving.learning.removal import Removal
from breadcrumbs.serving.state import erasure
from breadcrumbs.serving.state.store import Store, StoreError
from breadcrumbs.serving.upkeep import verify


def opened(folder: Path) -> tuple[Store, Examples, Removal]:
    """The parts of a store."""
    store = Store.open(folder)
    examples = Examples(store)
    return store, examples, Removal(store, Answers(store, Bounds(10, 30, 2**30, images=False), {}), examples)


@pytest.mark.parametrize("old", [True, False])
def test_an_old_mark_is_carried_out_and_goes(tmp_path: Path, old: bool) -> None:
    """A younger one stays, since a write in progress may need it."""

    async def walk() -> None:
        store, examples, removal = opened(tmp_path)
        await examples.add([label(1), label(2)])
        await erasure.mark(store, [label(1).said.id])
        (mark,) = (tmp_path / "erased").iterdir()
        if old:
            os.utime(mark, (time.time() - 3700,) * 2)
        await removal.finish()
        assert mark.exists() is not old
        assert bool(holding(tmp_path, feature(1).tobytes())) is not old
        assert [one.content for one in await examples.current()] == [label(2).said.content]

    asyncio.run(walk())


@pytest.mark.parametrize("noted", [b"{", b"[]", b'{"ids": 1}', b"null"])
def test_a_damaged_note_of_a_refit_is_an_error(tmp_path: Path, noted: bytes) -> None:
    """By name: else a head that was fitted with the example would not be named. Nothing is removed then."""

    async def walk() -> None:
        _, examples, removal = opened(tmp_path)
        await examples.add([label(1)])
        record = '{"version": 2, "digest": "d", "backbone": "b", "feature_dim": 4, "classes": 3, "created": "now", '
        for name, data in (
            ("heads/000002/head.json", (record + '"lineage": {"refit": "r"}}').encode()),
            ("refits/r/examples.json", noted),
        ):
            (tmp_path / name).parent.mkdir(parents=True)
            (tmp_path / name).write_bytes(data)
        with pytest.raises(StoreError, match=r"refits/r/examples.json is damaged: expected an object with ids"):
            await removal.carry_out(await removal.of_example(label(1).said.id))
        assert len(await examples.current()) == 1

    asyncio.run(walk())


def test_a_damaged_segment_is_found_and_named(tmp_path: Path) -> None:
    """By `store verify`, and by whoever reads it."""

    async def walk() -> None:
        store, examples, _ = opened(tmp_path)
        await examples.add([label(1)])
        assert (await verify(store)).sound
        (segment,) = (tmp_path / "examples").iterdir()
        segment.write_bytes(segment.read_bytes()[:-1])
        (finding,) = (await verify(store)).findings
        assert (finding.kind, finding.name) == ("damaged", f"examples/{segment.name}")
        with pytest.raises(StoreError, match=f"examples/{segment.name} is damaged"):
            await examples.current()

    asyncio.run(walk())
