"""Clients that go away, with and without a network in between."""

import asyncio
import os
import socket
import threading

import pytest
import uvicorn
from fastapi import Request
from patience import PATIENCE
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from breadcrumbs.serving.http.bodies import read_body
from breadcrumbs.serving.http.disconnect import DISCONNECT, Disconnect, while_connected
from breadcrumbs.serving.http.protocol import PatientProtocol
from breadcrumbs.serving.http.shares import Held
from breadcrumbs.serving.refusals import Abandoned


def request(*messages: Message) -> Request:
    """A request whose connection says these things, and then nothing any more."""
    waiting = list(messages)

    async def receive() -> Message:
        if waiting:
            return waiting.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    return Request({"type": "http", "method": "POST", "headers": [], "breadcrumbs.held": Held(100)}, receive)


BODY: Message = {"type": "http.request", "body": b"abc", "more_body": False}
GONE: Message = {"type": "http.disconnect"}


def test_work_is_cancelled_when_the_client_leaves() -> None:
    """It does not run on for nobody."""

    async def main() -> list[str]:
        seen = []

        async def work() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

        one = request(BODY, GONE)
        await read_body(one, 10, "body")
        with pytest.raises(Abandoned, match="the client left before the answer was there"):
            await while_connected(one, work())
        await asyncio.sleep(0)
        return seen

    assert asyncio.run(main()) == ["cancelled"]


def test_work_is_cancelled_when_the_connection_tells_that_its_client_has_gone() -> None:
    """While it runs, or before it could begin; a client that goes afterwards cancels nothing."""

    async def main() -> list[str]:
        seen = list[str]()
        disconnect = Disconnect()

        async def work(name: str) -> str:
            if name == "ends":
                return name
            seen.append(name)
            asyncio.get_running_loop().call_soon(disconnect.tell)
            await asyncio.Event().wait()
            raise AssertionError

        one = request()
        one.scope[DISCONNECT] = disconnect
        assert await while_connected(one, work("ends")) == "ends"
        with pytest.raises(Abandoned, match="the client left before the answer was there"):
            await while_connected(one, work("leaves"))
        with pytest.raises(Abandoned, match="the client left before the work began"):
            await while_connected(one, work("never begins"))
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        return seen

    assert asyncio.run(main()) == ["leaves"]


@pytest.mark.parametrize("protocol", [PatientProtocol, HttpToolsProtocol], ids=["ours", "another server's"])
def test_a_client_that_hangs_up_ends_its_work(protocol: type[asyncio.Protocol]) -> None:
    """Over a real connection, whether the protocol tells it or the next message."""
    begun, ended = threading.Event(), threading.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        one = Request({**scope, "breadcrumbs.held": Held(100)}, receive)

        async def work() -> None:
            begun.set()
            await asyncio.Event().wait()

        await read_body(one, 10, "body")
        try:
            await while_connected(one, work())
        except Abandoned:
            ended.set()

    server = uvicorn.Server(uvicorn.Config(app, http=protocol, port=0, lifespan="off", log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            os.sched_yield()
        with socket.create_connection(server.servers[0].sockets[0].getsockname()[:2], timeout=PATIENCE) as one:
            one.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc")
            assert begun.wait(PATIENCE)
        assert ended.wait(PATIENCE)
    finally:
        server.should_exit = True
        thread.join(PATIENCE)


def test_work_that_ends_first_gives_its_result_or_its_error() -> None:
    """Waiting for the client to leave ends with it."""

    async def main() -> None:
        async def works() -> int:
            return 42

        async def fails() -> int:
            raise KeyError("mine")

        assert await while_connected(request(), works()) == 42
        with pytest.raises(KeyError, match="mine"):
            await while_connected(request(), fails())
        await asyncio.sleep(0)

        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_work_is_cancelled_with_the_request_itself() -> None:
    """As when the server gives a request up at its end."""

    async def main() -> None:
        work = asyncio.create_task(asyncio.Event().wait())
        task = asyncio.create_task(while_connected(request(), work))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task, work])

        assert task.cancelled()
        assert work.cancelled()

    asyncio.run(main())


def test_a_body_that_breaks_off_is_abandoned() -> None:
    """Not taken for a whole one."""

    async def main() -> None:
        with pytest.raises(Abandoned, match="the client left after 3 bytes of body"):
            await read_body(request({"type": "http.request", "body": b"abc", "more_body": True}, GONE), 10, "body")

    asyncio.run(main())
