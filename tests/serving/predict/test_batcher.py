"""The batcher, with plain numbers for items and a gate for the engine."""

import asyncio
import math
import os
import threading
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from patience import PATIENCE

from breadcrumbs.serving.predict.batcher import Answer, Batcher
from breadcrumbs.serving.refusals import Overloaded

PLUG = -1


class Machine:
    """Doubles numbers; holds a batch with PLUG in it until told; fails a batch with a multiple of 13 in it."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.held = threading.Event()
        self.free = threading.Event()

    def compute(self, items: list[int]) -> list[int]:
        self.batches.append(items)
        if PLUG in items:
            self.held.set()
            assert self.free.wait(10)
        if any(item % 13 == 0 for item in items):
            raise ValueError("thirteen")
        return [2 * item for item in items]


Body = Callable[[Batcher[int, int], Machine], Awaitable[None]]


def run(body: Body, max_batch: int = 4, queue: int = 100, workers: int = 1, longest: float = math.inf) -> Machine:
    """Run a test's body with a batcher, and close the batcher after it."""
    machine = Machine()

    async def main() -> None:
        batcher = Batcher(machine.compute, max_batch, queue, workers, longest=longest)
        try:
            await body(batcher, machine)
        finally:
            machine.free.set()
            await asyncio.to_thread(batcher.close)

    asyncio.run(main())
    return machine


async def plug(batcher: Batcher[int, int], machine: Machine) -> asyncio.Task[list[Answer[int]]]:
    """Occupy the engine, so that what follows waits."""
    task = asyncio.create_task(batcher.submit([PLUG], 10))
    await asyncio.to_thread(machine.held.wait, 10)
    return task


async def waiting(
    batcher: Batcher[int, int], items: list[int], deadline: float = PATIENCE
) -> asyncio.Task[list[Answer[int]]]:
    """Submit and return once the items are in the queue."""
    task = asyncio.create_task(batcher.submit(items, deadline))
    await asyncio.sleep(0)
    return task


def test_an_idle_engine_computes_a_single_item_at_once() -> None:
    """Nothing waits for company."""

    async def body(batcher: Batcher[int, int], _: Machine) -> None:
        (answer,) = await batcher.submit([21], 10)

        assert (answer.result, answer.batch_size) == (42, 1)
        assert answer.queued >= 0
        assert answer.computed >= 0

    assert run(body).batches == [[21]]


def test_what_waits_is_computed_together_in_order() -> None:
    """All that came while the engine was busy goes into full batches, first come first."""

    async def body(batcher: Batcher[int, int], machine: Machine) -> None:
        first = await plug(batcher, machine)
        others = [await waiting(batcher, [n]) for n in range(1, 7)]
        machine.free.set()

        assert [(await task)[0].result for task in others] == [2, 4, 6, 8, 10, 12]
        assert [answer.batch_size for answer in await first] == [1]

    assert run(body).batches == [[PLUG], [1, 2, 3, 4], [5, 6]]


def test_what_comes_in_one_turn_of_the_loop_is_computed_together() -> None:
    """An idle worker is woken when the turn ends, not by the first of three that come at once."""

    async def body(batcher: Batcher[int, int], _machine: Machine) -> None:
        async def come(item: int) -> list[Answer[int]]:
            for _ in range(1000):
                os.sched_yield()  # the loop goes on with its turn, but other threads may run
            return await batcher.submit([item], 10)

        answers = await asyncio.gather(*(come(item) for item in (1, 2, 3)))
        assert [answer.result for (answer,) in answers] == [2, 4, 6]

    assert run(body).batches == [[1, 2, 3]]


@pytest.mark.parametrize(("longest", "batches"), [(1e-9, [[1, 2], [3, 4], [6, 7]]), (1e9, [[1, 2, 3, 4, 6, 7]])])
def test_a_batch_is_no_longer_than_it_should_take(longest: float, batches: list[list[int]]) -> None:
    """By what the batch before took, two images at least."""

    async def body(batcher: Batcher[int, int], _machine: Machine) -> None:
        await batcher.submit([5], 10)
        answers = await batcher.submit([1, 2, 3, 4, 6, 7], 10)
        assert [answer.result for answer in answers] == [2, 4, 6, 8, 12, 14]

    assert run(body, max_batch=8, longest=longest).batches == [[5], *batches]


def test_a_full_queue_refuses_at_once_and_keeps_what_it_has() -> None:
    """Refusal names the numbers, and takes all of a request or none."""

    async def body(batcher: Batcher[int, int], machine: Machine) -> None:
        await plug(batcher, machine)
        kept = await waiting(batcher, [1, 2])
        with pytest.raises(Overloaded, match="2 images are waiting and 2 came; the limit is 3") as refusal:
            await batcher.submit([3, 4], 10)
        machine.free.set()

        assert refusal.value.retry_after >= 0
        assert [answer.result for answer in await kept] == [2, 4]

    assert run(body, queue=3).batches == [[PLUG], [1, 2]]


def test_an_abandoned_item_is_never_computed_and_frees_its_place() -> None:
    """A caller that is cancelled takes its items out of the queue."""

    async def body(batcher: Batcher[int, int], machine: Machine) -> None:
        await plug(batcher, machine)
        gone = await waiting(batcher, [1, 2])
        gone.cancel()
        await asyncio.wait([gone])
        assert batcher.pending == 0
        kept = await waiting(batcher, [3, 4])
        machine.free.set()

        assert [answer.result for answer in await kept] == [6, 8]

    assert run(body, queue=2).batches == [[PLUG], [3, 4]]


def test_a_passed_deadline_is_told_and_never_computed() -> None:
    """The deadline ends the wait even while the engine is stuck."""

    async def body(batcher: Batcher[int, int], machine: Machine) -> None:
        await plug(batcher, machine)
        with pytest.raises(Overloaded, match=r"deadline of 0\.01 s"):
            await batcher.submit([1], 0.01)

        assert batcher.pending == 0

    assert run(body).batches == [[PLUG]]


def test_a_failing_batch_fails_its_own_items_only() -> None:
    """The next batch is computed as if nothing had been."""

    async def body(batcher: Batcher[int, int], machine: Machine) -> None:
        await plug(batcher, machine)
        bad = await waiting(batcher, [1, 13])
        good = await waiting(batcher, [2])
        machine.free.set()
        with pytest.raises(ValueError, match="thirteen"):
            await bad

        assert (await good)[0].result == 4

    assert run(body, max_batch=2).batches == [[PLUG], [1, 13], [2]]


def test_free_workers_share_what_waits() -> None:
    """Two workers take half of a request each, side by side; one that is busy takes nothing."""
    meeting = threading.Barrier(2)

    def compute(items: list[int]) -> list[int]:
        meeting.wait(10)  # passed by both or by none
        return items

    async def main() -> None:
        batcher = Batcher[int, int](compute, 8, 10, workers=2)
        try:
            answers = await batcher.submit([1, 2, 3, 4, 5], 10)
        finally:
            await asyncio.to_thread(batcher.close)

        assert [answer.result for answer in answers] == [1, 2, 3, 4, 5]
        assert sorted({answer.batch_size for answer in answers}) == [2, 3]

    asyncio.run(main())


def test_an_item_can_fail_alone() -> None:
    """A result that is an exception is that item's; its neighbours have their answers."""

    async def main() -> None:
        batcher = Batcher[int, int](lambda items: [ValueError(f"{i}") if i < 0 else i for i in items], 8, 10)
        good, bad = (asyncio.create_task(batcher.submit([item], 10)) for item in (5, -6))
        try:
            assert (await good)[0].result == 5
            with pytest.raises(ValueError, match="-6"):
                await bad
        finally:
            await asyncio.to_thread(batcher.close)

    asyncio.run(main())


def test_a_wrong_number_of_results_is_told_as_a_bug() -> None:
    """No item gets another item's result."""

    async def main() -> None:
        batcher = Batcher[int, int](lambda items: items[1:], 4, 10)
        try:
            with pytest.raises(RuntimeError, match="0 results for 1 items; this is a bug"):
                await batcher.submit([1], 10)
        finally:
            await asyncio.to_thread(batcher.close)

    asyncio.run(main())


def test_closing_computes_what_waits_and_refuses_what_comes() -> None:
    """Nothing that was admitted is lost."""

    async def body(batcher: Batcher[int, int], machine: Machine) -> None:
        await plug(batcher, machine)
        kept = await waiting(batcher, [1, 2, 3, 4, 5])
        closing = asyncio.create_task(asyncio.to_thread(batcher.close))
        machine.free.set()
        await closing

        assert [answer.result for answer in await kept] == [2, 4, 6, 8, 10]
        with pytest.raises(Overloaded, match="stopping"):
            await batcher.submit([6], 10)

    run(body)


Plan = st.lists(
    st.tuples(st.lists(st.integers(1, 60), min_size=1, max_size=5), st.sampled_from(["wait", "leave", "expire"])),
    max_size=20,
)


@hypothesis_settings(max_examples=60)
@given(plan=Plan, max_batch=st.integers(1, 6), queue=st.integers(1, 40))
def test_any_mix_of_arrivals_departures_and_failures(
    plan: list[tuple[list[int], str]], max_batch: int, queue: int
) -> None:
    """Who waits gets his own result or his own batch's failure; who left is not computed; no bound is broken."""
    kept: list[int] = []

    async def body(batcher: Batcher[int, int], machine: Machine) -> None:
        await plug(batcher, machine)
        tasks = []
        for items, fate in plan:
            room = batcher.pending + len(items) <= queue
            task = await waiting(batcher, items, 0.0 if fate == "expire" else 10)
            if not room:
                with pytest.raises(Overloaded):
                    await task
            elif fate == "wait":
                tasks.append((items, task))
                kept.extend(items)
            else:
                task.cancel()
                await asyncio.wait([task])
            assert batcher.pending <= queue
        machine.free.set()
        for items, task in tasks:
            try:
                assert [answer.result for answer in await task] == [2 * item for item in items]
            except ValueError:
                failed = [batch for batch in machine.batches if any(item % 13 == 0 for item in batch)]
                assert any(set(items) & set(batch) for batch in failed)
        for items, task in tasks:
            if task.exception() is None:
                assert not any(item % 13 == 0 for item in items)

    machine = run(body, max_batch, queue)

    assert machine.batches[0] == [PLUG]
    assert all(len(batch) <= max_batch for batch in machine.batches)
    computed = [item for batch in machine.batches[1:] for item in batch]
    assert set(computed) <= set(kept)
    if not any(item % 13 == 0 for item in kept):
        assert computed == kept


@pytest.mark.parametrize("workers", [1, 3])
def test_many_threads_of_arrivals_lose_nothing(workers: int) -> None:
    """Free-running arrivals and departures, without a gate: every answer belongs to its question."""

    async def body(batcher: Batcher[int, int], _: Machine) -> None:
        async def ask(n: int) -> None:
            item = n * 13 + 1
            task = asyncio.create_task(batcher.submit([item], 10))
            if n % 3 == 0:
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
                return
            assert (await task)[0].result == 2 * item

        await asyncio.gather(*(ask(n) for n in range(300)))

        assert batcher.pending == 0

    run(body, max_batch=7, queue=1000, workers=workers)
