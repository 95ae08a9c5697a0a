"""Clients that go away: the work for them is cancelled, so that nothing is computed for nobody.

The server's own protocol tells it; under another one, such as a test's, the connection's next message does. It knows
nothing of what the work is.
"""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from starlette.requests import Request

from breadcrumbs.serving.refusals import Abandoned

T = TypeVar("T")


class Disconnect:
    """Tells who listens that a connection's client has gone, for less than a task that asks for the next message."""

    def __init__(self) -> None:
        self.gone = False
        self._listeners = set[Callable[[], None]]()

    def tell(self) -> None:
        """The client has gone; told once."""
        if self.gone:
            return
        self.gone = True
        for listener in tuple(self._listeners):
            listener()

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have `listener` called when the client goes; returns what ends that."""
        self._listeners.add(listener)
        return partial(self._listeners.discard, listener)


DISCONNECT = "breadcrumbs.disconnect"
"""Where a scope has its connection's `Disconnect`, if the server's own protocol made it."""


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Await `work`, and cancel it as soon as the client goes away. The body must have been read.

    Raises:
        Abandoned: the client went away first.
    """
    here, waits, gone = asyncio.current_task(), True, False

    def left() -> None:
        nonlocal gone
        if waits and here is not None:
            gone = True
            here.cancel()

    disconnect: Disconnect | None = request.scope.get(DISCONNECT)
    if disconnect is not None and disconnect.gone:
        work.close()
        raise Abandoned("the client left before the work began")
    end = _watch(request, left) if disconnect is None else disconnect.listen(left)
    try:
        return await work
    except asyncio.CancelledError:
        if gone and here is not None and not here.uncancel():
            raise Abandoned("the client left before the answer was there") from None
        raise
    finally:
        waits = False
        end()


def _watch(request: Request, left: Callable[[], None]) -> Callable[[], object]:
    """Have `left` called when the client goes, under a server that tells so in the next message only."""

    def ended(watching: asyncio.Task[None]) -> None:
        if not watching.cancelled():
            left()

    watching = asyncio.ensure_future(_gone(request))
    watching.add_done_callback(ended)
    return watching.cancel


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
