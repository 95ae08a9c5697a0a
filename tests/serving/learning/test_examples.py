"""Examples in a store: the newest label of each thing, against a plain dictionary; nothing left of what was erased."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from labelling import feature, holding, label

from breadcrumbs.serving.learning import answer_ids
from breadcrumbs.serving.learning.example import identity
from breadcrumbs.serving.learning.examples import Examples
from breadcrumbs.serving.state import erasure
from breadcrumbs.serving.state.store import NotFound, Store

NAMES = ("oak", "Wollemia nobilis", "名前" * 30)


class Labelling(RuleBasedStateMachine):
    """Two servers on one store label, relabel, erase and merge; a dictionary says what must be there."""

    folder: Path

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        number = len(list(self.folder.iterdir()))
        self.place = self.folder / str(number)
        self.servers = [Examples(Store.open(self.place)) for _ in range(2)]
        self.expected: dict[int, tuple[str, bool]] = {}
        self.labels = 0

    def teardown(self) -> None:
        self.loop.close()

    @rule(
        server=st.integers(0, 1),
        asked=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(NAMES), st.booleans()), min_size=1, max_size=4),
    )
    def say(self, server: int, asked: list[tuple[int, str, bool]]) -> None:
        changes = self.loop.run_until_complete(self.servers[server].add([label(*one) for one in asked]))
        for (thing, name, verified), change in zip(asked, changes, strict=True):
            known = self.expected.get(thing)
            expected = "new" if known is None else "same" if known == (name, verified) else "changed"
            assert change == expected
            self.expected[thing] = (name, verified)
            self.labels += change != "same"

    @rule(server=st.integers(0, 1), thing=st.integers(0, 3))
    def erase(self, server: int, thing: int) -> None:
        self.loop.run_until_complete(self.servers[server].erase([label(thing).said.id]))
        self.expected.pop(thing, None)
        assert not holding(self.place, feature(thing).tobytes())

    @rule(server=st.integers(0, 1))
    def merge(self, server: int) -> None:
        self.loop.run_until_complete(self.servers[server]._segments.merge(2**60, 2**20, 100))

    @invariant()
    def both_tell_what_was_said_last(self) -> None:
        for one in self.servers:
            found = self.loop.run_until_complete(one.current())
            assert {example.id: (example.label, example.verified) for example in found} == {
                label(thing).said.id: told for thing, told in self.expected.items()
            }
            assert [example.id for example in found] == sorted(example.id for example in found)
            newest = self.loop.run_until_complete(one.newest())
            assert {said.id: (said.label, said.verified) for said in newest.values()} == {
                example.id: (example.label, example.verified) for example in found
            }
            for wanted in (True, False):
                some = self.loop.run_until_complete(one.current(verified=wanted))
                assert [example.id for example in some] == [
                    example.id for example in found if example.verified == wanted
                ]


def test_examples_are_what_was_said_last(tmp_path: Path) -> None:
    """Whoever said it on whichever server, whatever was erased and merged between."""
    machine = type("Machine", (Labelling,), {"folder": tmp_path})
    test = machine.TestCase
    test.settings = settings(max_examples=25, stateful_step_count=12, deadline=None)
    test("runTest").runTest()


@pytest.mark.parametrize("dim", [1, 4, 2048])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_feature_is_kept_as_it_came(tmp_path: Path, dim: int, dtype: type) -> None:
    """Of any dimension, in either type; it is given as float32."""

    async def walk() -> None:
        examples = Examples(Store.open(tmp_path))
        await examples.add([label(1, dim=dim, dtype=dtype)])
        (found,) = await Examples(Store.open(tmp_path)).current()
        assert found.feature.dtype == np.float32
        assert np.array_equal(found.feature, feature(1, dim, dtype).astype(np.float32))

    asyncio.run(walk())


def test_the_history_stays(tmp_path: Path) -> None:
    """The oldest first; what says the same again is not in it."""

    async def walk() -> None:
        examples = Examples(Store.open(tmp_path))
        for name in ("oak", "elm", "elm", "oak"):
            await examples.add([label(1, name)])
        history = await examples.history(label(1).said.id)
        assert [said.label for said in history] == ["oak", "elm", "oak"]
        assert [said.at for said in history] == sorted({said.at for said in history})
        with pytest.raises(NotFound, match="there is no example 'x'"):
            await examples.history("x")

    asyncio.run(walk())


def test_a_thousand_classes_in_one_request(tmp_path: Path) -> None:
    """Each with one example."""

    async def walk() -> None:
        examples = Examples(Store.open(tmp_path))
        changes = await examples.add([label(number, f"class {number}") for number in range(1000)])
        assert changes == ["new"] * 1000
        assert len({one.label for one in await examples.current()}) == 1000
        assert len(list((tmp_path / "examples").iterdir())) == 1

    asyncio.run(walk())


def test_a_label_of_an_answer_that_is_erased_meanwhile_leaves_nothing(tmp_path: Path) -> None:
    """The label had the feature before the answer was erased."""

    async def walk() -> None:
        store = Store.open(tmp_path)
        answer = answer_ids.make()
        await erasure.mark(store, [answer])
        examples = Examples(store)
        await examples.add([label(1, answer=answer), label(2)])
        assert [one.content for one in await examples.current()] == [f"{2:064x}"]

    asyncio.run(walk())
    assert not holding(tmp_path, feature(1).tobytes())
    assert holding(tmp_path, feature(2).tobytes())


@given(first=st.text(max_size=20), second=st.text(max_size=20))
def test_two_owners_have_two_examples_of_one_image(first: str, second: str) -> None:
    """And one owner has one."""
    assert (identity(first, "c") == identity(second, "c")) == (first == second)
    assert identity(None, "c") != identity(first or "x", "c")
