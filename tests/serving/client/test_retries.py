"""What is repeated and what is not, against a real server that fails first; how long the waits are."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from flaky import RESET, Flaky, Step, flaky

from breadcrumbs.serving.client.async_client import AsyncClient
from breadcrumbs.serving.client.calls import (
    activate,
    delete_snapshot,
    features,
    predict,
    put_snapshot,
    refit,
    restart,
    rollback,
)
from breadcrumbs.serving.client.client import Client, Retries, ServerError
from breadcrumbs.serving.client.retries import Attempts, refusal, retry_after

QUICK = Retries(most=3, first=0.001, longest=0.002)
HEADS = {"live": 1, "heads": []}
JOB = {"id": "j", "request": {}, "created": "2026-01-01"}
CHANGE = {
    "number": 2, "head": 1, "digest": "d", "kind": "activate", "actor": "api", "reason": "", "at": "2026-01-01",
    "previous": None,
}  # fmt: skip
RECORD = {
    "sha256": "a" * 64, "rows": 1, "feature_dim": 4, "epoch": 1, "backbone": "b" * 64, "deployed": True, "classes": {},
    "groups": {}, "created": "2026-01-01", "stored": "2026-01-01", "converted": [],
}  # fmt: skip

Ask = Callable[..., Any]


def ask_here(server: Flaky, name: str, *arguments: Any, retries: Retries | int = QUICK, **more: Any) -> Any:
    """Call a method of the client that waits."""
    with Client(server.url, retries=retries) as client:
        return getattr(client, name)(*arguments, **more)


def ask_async(server: Flaky, name: str, *arguments: Any, retries: Retries | int = QUICK, **more: Any) -> Any:
    """Call a method of the client for asyncio."""

    async def ask() -> Any:
        async with AsyncClient(server.url, retries=retries) as client:
            return await getattr(client, name)(*arguments, **more)

    return asyncio.run(ask())


both = pytest.mark.parametrize("ask", [ask_here, ask_async])
FAILURES = [RESET, (502, {}), (503, {"Retry-After": "0"}), (504, {})]


@both
@pytest.mark.parametrize("step", FAILURES, ids=str)
def test_what_may_be_repeated_is(ask: Ask, step: Step) -> None:
    """After a connection that broke and after 502, 503 and 504; the answer is as if nothing had been."""
    with flaky(step, step, answer=HEADS) as server:
        assert ask(server, "heads").live == 1
        assert len(server.heard) == 3


@both
@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422, 500, 507])
def test_an_answer_that_would_be_the_same_is_not_asked_for_again(ask: Ask, status: int) -> None:
    """A refusal is raised at once, in the server's words."""
    with flaky((status, {}), answer=HEADS) as server:
        with pytest.raises(ServerError, match=rf"the queue is full \({status}\)"):
            ask(server, "heads")
        assert len(server.heard) == 1


@both
@pytest.mark.parametrize("step", FAILURES, ids=str)
@pytest.mark.parametrize(
    ("name", "arguments", "more"),
    [("activate", (1,), {}), ("rollback", (), {}), ("restart", ("j",), {}), ("ready", (), {}), ("alive", (), {})],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_may_not_be_repeated_is_not(
    ask: Ask, step: Step, name: str, arguments: tuple[Any, ...], more: dict[str, Any]
) -> None:
    """Whoever does not say which head is live would change it twice; whether a server is ready is about now."""
    with flaky(step, answer=CHANGE) as server:
        with pytest.raises(ServerError):
            ask(server, name, *arguments, **more)
        assert len(server.heard) == 1


@both
@pytest.mark.parametrize(("name", "arguments"), [("activate", (1,)), ("rollback", ())])
def test_a_change_that_says_what_is_live_is_repeated(ask: Ask, name: str, arguments: tuple[Any, ...]) -> None:
    """With `expected_live` the server refuses what was heard before."""
    with flaky(RESET, answer=CHANGE) as server:
        assert ask(server, name, *arguments, expected_live=2).number == 2
        assert len(server.heard) == 2


@both
def test_a_refit_that_is_repeated_is_one_wish(ask: Ask) -> None:
    """Every attempt has the Idempotency-Key that the client made; the next wish has another; a given one is kept."""
    with flaky(RESET, (503, {}), answer=JOB) as server:
        ask(server, "refit", ["a"])
        ask(server, "refit", ["a"])
        ask(server, "refit", ["a"], key="monday")
        keys = [headers["idempotency-key"] for *_, headers in server.heard]

    assert len(keys) == 5
    assert keys[0] == keys[1] == keys[2] != keys[3]
    assert len(keys[0]) == 32
    assert keys[4] == "monday"


@both
def test_a_file_is_opened_anew_for_each_attempt(ask: Ask, tmp_path: Path) -> None:
    """The whole of it arrives, however far the attempts before had come; the progress begins again."""
    data = bytes(range(256)) * 3000
    (tmp_path / "looks.safetensors").write_bytes(data)
    told: list[tuple[int, int]] = []
    with flaky(RESET, (503, {}), answer=RECORD) as server:
        ask(server, "put_snapshot", tmp_path / "looks.safetensors", sent=lambda done, of: told.append((done, of)))

    assert [body == data for _, _, body, _ in server.heard] == [True] * 3
    assert server.heard[0][3]["content-length"] == str(len(data))
    assert told == [(262144, 768000), (524288, 768000), (768000, 768000)] * 3


@both
def test_a_snapshot_that_a_lost_answer_had_deleted_is_deleted(ask: Ask) -> None:
    """404 to a repeat is what was wanted; to the first attempt it is a mistake."""
    with flaky(RESET, (404, {})) as server:
        assert ask(server, "delete_snapshot", "a") is None
    with flaky((404, {})) as server, pytest.raises(ServerError, match="404"):
        ask(server, "delete_snapshot", "a")


@both
def test_it_gives_up(ask: Ask) -> None:
    """After so many repeats, in the words of the last failure; with `retries=0` after the first."""
    with flaky(*[(503, {})] * 9, answer=HEADS) as server:
        with pytest.raises(ServerError, match="the queue is full") as refused:
            ask(server, "heads")
        assert len(server.heard) == 4
        with pytest.raises(ServerError, match="the queue is full"):
            ask(server, "heads", retries=0)
        assert len(server.heard) == 5
    assert (refused.value.status, refused.value.kind) == (503, "overloaded")


@both
def test_a_server_that_comes_late_is_waited_for(ask: Ask) -> None:
    """A refused connection is tried again; here the server starts when the first refusal is told."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    with contextlib.ExitStack() as stack:
        servers: list[Flaky] = []

        class Starting(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                assert "no answer from http://127.0.0.1" in record.getMessage()
                servers.append(stack.enter_context(flaky(answer=HEADS, port=port)))

        log, starting = logging.getLogger("breadcrumbs.client"), Starting()
        log.addHandler(starting)
        stack.callback(log.removeHandler, starting)
        assert ask(Flaky(f"http://127.0.0.1:{port}"), "heads").live == 1
        assert [len(server.heard) for server in servers] == [1]


def attempts(clock: float = 0.0, draw: float = 1.0, **more: Any) -> Attempts:
    """Attempts at a call that may be repeated, at a time that stands still."""
    return Attempts(Retries(**more), repeatable=True, lost="gone", clock=lambda: clock, draw=lambda: draw)


def test_waits_double_up_to_the_longest() -> None:
    """And a random half of each is left out."""
    failure = httpx.ConnectError("refused")
    for draw, share in ((1.0, 1.0), (0.0, 0.5)):
        tries = attempts(draw=draw, most=5, first=1, longest=6)
        waits = [tries.wait(failure) for _ in range(5)]
        assert waits == [share * seconds for seconds in (1, 2, 4, 6, 6)]
        with pytest.raises(ServerError, match="gone: refused"):
            tries.wait(failure)


def test_the_server_says_how_long_to_wait() -> None:
    """`Retry-After` comes on top of the wait, as a number or a date; what is neither says nothing."""
    assert attempts(first=1).wait(httpx.Response(503, headers={"Retry-After": "7"})) == 8
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert 95 < retry_after(httpx.Response(503, headers={"Retry-After": at})) <= 100
    for text in ("soon", "", "-3", "Wed, 21 Oct 2015 07:28:00 GMT", "1.5"):
        assert retry_after(httpx.Response(503, headers={"Retry-After": text})) == 0


def test_nobody_waits_longer_than_the_total() -> None:
    """A server that asks for more time than there is left is not waited for at all."""
    busy = httpx.Response(503, headers={"Retry-After": "61"}, json={"error": {"type": "overloaded", "message": "full"}})

    with pytest.raises(ServerError, match="full"):
        attempts().wait(busy)
    assert attempts(total=90, first=1).wait(busy) == 62


@pytest.mark.parametrize("error", [httpx.ReadTimeout, httpx.PoolTimeout, httpx.WriteTimeout, httpx.UnsupportedProtocol])
def test_a_slow_server_is_not_asked_twice(error: type[httpx.TransportError]) -> None:
    """It may still be at work; and what can never be sent is not sent again."""
    with pytest.raises(ServerError, match="gone"):
        attempts().wait(error("late"))


def test_a_refusal_without_our_shape_is_quoted() -> None:
    """As of a proxy."""
    found = refusal(httpx.Response(502, text="<h1>Bad gateway</h1>"))

    assert (str(found), found.status, found.kind) == ("the server answered 502: '<h1>Bad gateway</h1>'", 502, "http")


def test_which_calls_may_be_repeated(tmp_path: Path) -> None:
    """Pure functions, what has a name of its own, and nothing else that is posted."""
    (tmp_path / "x").touch()
    may = [predict([b""]), features([b""]), refit(), put_snapshot(tmp_path / "x"), delete_snapshot("a")]
    may += [activate(1, expected_live=2), rollback(expected_live=2)]

    assert all(call.repeatable for call in may)
    assert not any(call.repeatable for call in (activate(1), rollback(), restart("j")))
