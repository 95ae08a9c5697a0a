"""Named priors in a store: kept, listed, followed from other servers, and what is damaged."""

import asyncio
import string
from collections.abc import Callable, Coroutine
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import tiny_head

from breadcrumbs.models.prior import PriorError
from breadcrumbs.serving.state.priors import CACHE, Priors, PriorWeights, object_name
from breadcrumbs.serving.state.store import NotFound, Store, StoreError, StoreFull

Test = Callable[..., Coroutine[Any, Any, None]]


def in_a_loop(test: Test) -> Callable[..., None]:
    """A test that is awaited."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


OAK = PriorWeights(classes=("oak",))
ELM = PriorWeights(weights={"elm": 2.0, "oak": 0.0})
NAMES = st.text(string.ascii_lowercase + string.digits + "-", min_size=1, max_size=64)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path)


def possible(prior: object) -> list[int]:
    """The classes of the tiny head that can be."""
    return [place for place, one in enumerate(prior.log(tiny_head())) if one > -1e9]  # type: ignore[attr-defined]


@in_a_loop
async def test_a_prior_is_kept_replaced_and_deleted(store: Store) -> None:
    """Another server reads the same; a name that is gone is not found."""
    priors, other = Priors(store, 0.5), Priors(store, 0.5)

    record, new = await priors.put("bavaria", OAK, "key ann")
    assert (record.classes, record.actor, new) == (("oak",), "key ann", True)
    assert await other.record("bavaria") == record
    assert (await other.put("bavaria", ELM, "api"))[1] is False
    assert possible(await other.named("bavaria")) == [1]
    await priors.delete("bavaria")
    for call in (priors.named, priors.record):
        with pytest.raises(NotFound, match="there is no prior 'bavaria'"):
            await call("bavaria")


@pytest.mark.parametrize("follow", [0.0, 0.01, 3600.0])
@in_a_loop
async def test_what_another_server_changes_is_followed(store: Store, follow: float) -> None:
    """After so many seconds; never with 0. The same bytes leave what was computed."""
    own, other = Priors(store, follow), Priors(store, follow)
    await own.put("bavaria", OAK, "api")
    first = await own.named("bavaria")

    await asyncio.sleep(0.02)
    assert await own.named("bavaria") is first
    await other.put("bavaria", ELM, "api")
    await asyncio.sleep(0.02)
    assert possible(await own.named("bavaria")) == ([1] if follow == 0.01 else [0])
    await other.delete("bavaria")
    await asyncio.sleep(0.02)
    if follow == 0.01:
        with pytest.raises(NotFound):
            await own.named("bavaria")
    else:
        assert await own.named("bavaria") is first


@in_a_loop
async def test_a_store_that_cannot_be_read_leaves_the_copy(store: Store, tmp_path: Path) -> None:
    """And a damaged object does; without a copy it is an error that names it."""
    priors = Priors(store, 1e-9)
    await priors.put("bavaria", OAK, "api")
    (tmp_path / object_name("bavaria")).write_bytes(b"{")

    assert possible(await priors.named("bavaria")) == [0]
    for call in (Priors(store, 1).named, Priors(store, 1).record):
        with pytest.raises(StoreError, match=r"prior bavaria is damaged: .*; PUT it again"):
            await call("bavaria")


@pytest.mark.parametrize(
    "text",
    ['{"name": "a", "actor": "x", "at": "now"}', '{"weights": {"oak": 0}, "name": "a", "actor": "x", "at": "now"}',
     '{"classes": ["oak"], "name": "b", "actor": "x", "at": "now"}', "[]", "\x00"],
)  # fmt: skip
@in_a_loop
async def test_a_damaged_prior_is_left_out_of_the_list(store: Store, tmp_path: Path, text: str) -> None:
    """And told by name where it is asked for."""
    priors = Priors(store, 1)
    await priors.put("b", OAK, "api")
    (tmp_path / object_name("a")).write_text(text)

    assert [one.name for one in (await priors.page(10))[0]] == ["b"]
    with pytest.raises(StoreError, match="prior a is damaged"):
        await priors.named("a")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10, deadline=None)
@given(st.sets(NAMES, max_size=12), st.integers(1, 5))
def test_pages_have_every_prior_once(tmp_path_factory: pytest.TempPathFactory, names: set[str], limit: int) -> None:
    """By name, whatever the limit."""

    async def walk() -> list[str]:
        priors = Priors(Store.open(tmp_path_factory.mktemp("store")), 1)
        for name in names:
            await priors.put(name, OAK, "api")
        found, after = [], None
        while True:
            page, after = await priors.page(limit, after)
            found += [one.name for one in page]
            if after is None:
                return found

    assert asyncio.run(walk()) == sorted(names)


@in_a_loop
async def test_nothing_is_kept_of_what_is_refused(tmp_path: Path) -> None:
    """Neither a prior of zeros nor one without room."""
    store = Store.open(tmp_path, most=10)
    priors = Priors(store, 1)

    with pytest.raises(PriorError, match="all weights"):
        await priors.put("a", PriorWeights(weights={"oak": 0}), "api")
    with pytest.raises(StoreFull):
        await priors.put("a", OAK, "api")
    assert await priors.names() == []
    with pytest.raises(NotFound):
        await priors.named("a")


@pytest.mark.parametrize("name", ["", "../heads/000001/head", "A", "a b", "a" * 65, "ä", "a\n"])
@in_a_loop
async def test_a_name_that_cannot_be_is_not_looked_for(store: Store, name: str) -> None:
    """No path of the store is reached by it."""
    with pytest.raises(NotFound, match="a prior cannot be called"):
        await Priors(store, 1).named(name)


@in_a_loop
async def test_memory_has_so_many_priors_at_most(store: Store) -> None:
    """The ones that were used last."""
    priors = Priors(store, 1)
    for number in range(CACHE + 3):
        await priors.put(str(number), OAK, "api")

    assert len(priors._copies) == CACHE
    assert possible(await priors.named("0")) == [0]


@in_a_loop
async def test_memory_has_so_many_bytes_of_priors_at_most(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large ones push each other out; the last one stays, whatever its size."""
    monkeypatch.setattr("breadcrumbs.serving.state.priors.CACHE_BYTES", 1000)
    priors = Priors(store, 1)
    for number in range(10):
        await priors.put(str(number), PriorWeights(classes=("oak", "n" * 300)), "api")
    assert 1 <= len(priors._copies) <= 3

    await priors.put("large", PriorWeights(classes=("oak", "n" * 3000)), "api")
    assert list(priors._copies) == ["large"]


@in_a_loop
async def test_a_slow_reader_does_not_bring_back_what_was_replaced(store: Store) -> None:
    """It read before the new one was stored, and ends after; deleted, it stays deleted."""
    priors, gate = Priors(store, 0), asyncio.Event()
    await priors.put("a", OAK, "api")
    priors._copies.clear()
    get = store.get

    async def slow(name: str) -> bytes:
        data = await get(name)
        await gate.wait()
        return data

    store.get = slow  # type: ignore[method-assign]
    reading = asyncio.create_task(priors.named("a"))
    await asyncio.sleep(0.05)
    await priors.put("a", ELM, "api")
    gate.set()

    assert possible(await reading) == [1]
    assert possible(await priors.named("a")) == [1]
