"""What `serving.limits` does with clients that go away, without a network in between."""

import asyncio

import pytest
from fastapi import Request
from starlette.types import Message

from serving.limits import Abandoned, Held, read_body, while_connected


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
