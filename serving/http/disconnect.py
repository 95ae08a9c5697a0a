"""Clients that disconnect: their work is cancelled.

The server's own protocol reports a disconnect. Under another server, such as a test's, the next ASGI message does. It
knows nothing of what the work is.
"""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from starlette.requests import Request

from breadcrumbs.serving.refusals import Abandoned

T = TypeVar("T")


class Disconnect:
    """Calls listeners when a connection's client has gone. This is cheaper than a task that awaits the next message."""

    def __init__(self) -> None:
        self.gone = False
        self._listeners = set[Callable[[], None]]()

    def tell(self) -> None:
        """Call the listeners, once: the client has gone."""
        if self.gone:
            return
        self.gone = True
        for listener in tuple(self._listeners):
            listener()

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` when the client goes; returns a function that removes it."""
        self._listeners.add(listener)
        return partial(self._listeners.discard, listener)


DISCONNECT = "breadcrumbs.disconnect"
"""Key in a scope of its connection's `Disconnect`, if the server's own protocol made it."""


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Await `work`, and cancel it if the client disconnects. The body must have been read.

    Raises:
        Abandoned: the client disconnected first.
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
    """Call `left` when the client goes, under a server that reports it only in the next message."""

    def ended(watching: asyncio.Task[None]) -> None:
        if not watching.cancelled():
            left()

    watching = asyncio.ensure_future(_gone(request))
    watching.add_done_callback(ended)
    return watching.cancel


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
