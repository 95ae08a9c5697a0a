"""The pace of a body, and who has a place when there are not enough."""

import asyncio
import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from breadcrumbs.serving.http.arrival import ARRIVAL, Arrival, Pace
from breadcrumbs.serving.http.shares import Held, Turnstile
from breadcrumbs.serving.refusals import Overloaded
from breadcrumbs.serving.state.keys import Key

PACE = Pace(30, 10, 65_536)


def ends(pieces: list[tuple[float, int]]) -> float | None:
    """The time at which a body is late whose pieces come after so many seconds each; none: it never is."""
    now, arrival = 0.0, Arrival(PACE, 0.0)
    for pause, size in pieces:
        if now + pause > arrival.due:
            return arrival.due
        now += pause
        arrival.came(size, now)
    return None


@given(st.integers(1, 500), st.floats(0.01, 9), st.integers(0, 2**20))
def test_a_steady_client_has_all_the_time_it_takes(count: int, pause: float, more: int) -> None:
    """At the least rate or above, in pieces of any size, as long as no pause is too long."""
    assert ends([(pause, round(pause * PACE.rate) + 1 + more)] * count) is None


@given(st.integers(0, 2**30), st.floats(0.01, 9.9))
def test_a_fast_start_buys_no_later_silence(burst: int, pause: float) -> None:
    """However much came at once, a byte now and then ends after the grace."""
    found = ends([(0.0, burst)] + [(pause, 1)] * 5_000)

    assert found is not None
    assert found <= PACE.grace + 1


@given(st.integers(0, 2**30))
def test_silence_ends_after_the_pause(burst: int) -> None:
    """Whatever came before."""
    assert ends([(1.0, burst), (60.0, 1)]) == 11.0


@pytest.mark.parametrize("size", [3_000_000, 20_000_000])
def test_a_phone_passes(size: int) -> None:
    """100 kB/s in packets, with a pause of five seconds each megabyte."""
    packets = [(0.014 if place % 700 else 5.0, 1_400) for place in range(size // 1_400)]
    assert ends(packets) is None


def scope(name: str | None, address: str = "192.0.2.1", **more: Any) -> dict[str, Any]:
    """A request of a key or of an address."""
    key = None if name is None else Key(name=name, sha256="0" * 64, scopes=("predict",), created="2026-01-01")
    return {"breadcrumbs.key": key, "client": (address, 1), **more}


def arriving(cuts: list[str], name: str, behind: float) -> dict[str, Any]:
    """A request whose body is so many seconds behind; `cuts` gets its name when it is ended."""
    now = asyncio.get_running_loop().time()

    def cut() -> bool:
        cuts.append(name)
        return True

    return scope(name, **{ARRIVAL: Arrival(PACE, now - behind, cut)})


@given(st.integers(4, 64), st.booleans())
def test_one_client_has_its_share_of_memory(parts: int, keyed: bool) -> None:
    """Three quarters, by key or else by address; others have the rest, and so have small bodies of its own."""

    async def fill() -> None:
        part = 4 * 2**20
        held = Held(parts * part)
        one = ("greedy", "192.0.2.1") if keyed else (None, "192.0.2.1")
        other = ("modest", "192.0.2.1") if keyed else (None, "192.0.2.2")
        for _ in range(parts * 3 // 4):
            held.take(scope(*one), part)
        with pytest.raises(Overloaded, match="its share is"):
            held.take(scope(*one), part)
        held.take(scope(*one), 100_000)
        held.take(scope(*other), part - 100_000)

    asyncio.run(fill())


def test_the_one_furthest_behind_goes() -> None:
    """Where there is no room for another; whoever keeps the pace stays, and so does a body that is whole."""

    async def fill() -> None:
        cuts: list[str] = []
        held = Held(100)
        whole = arriving(cuts, "whole", 9)
        whole[ARRIVAL].end()
        for one in (whole, arriving(cuts, "steady", 0), arriving(cuts, "late", 5), arriving(cuts, "later", 8)):
            held.take(one, 25)
        for _ in range(2):
            held.take(scope("new"), 25)
        assert cuts == ["later", "late"]
        with pytest.raises(Overloaded, match="the bodies of all requests have 100 bytes; the limit is 100"):
            held.take(scope("new"), 25)

    asyncio.run(fill())


def test_places_for_uploads_are_shared_too() -> None:
    """A stalled upload loses its place to the next."""

    async def fill() -> None:
        cuts: list[str] = []
        places, stack = Turnstile(4, "uploads"), contextlib.ExitStack()
        for name, behind in (("a", 0.0), ("b", 4.0), ("c", 6.0), ("d", 0.0)):
            stack.enter_context(places.enter(arriving(cuts, name, behind)))
        for _ in range(2):
            with places.enter(scope("e")):
                pass
        assert cuts == ["c"], "the place of c is free after the first"
        mine = Turnstile(4, "uploads")
        for _ in range(3):
            stack.enter_context(mine.enter(scope("a")))
        with pytest.raises(Overloaded, match="3 uploads of this client are under way, which is its share"):
            stack.enter_context(mine.enter(scope("a")))

    asyncio.run(fill())
