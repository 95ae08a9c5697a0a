"""What stands in Ray's HTTP proxies before our replicas: slow clients end, and what Ray says is said in our words.

A replica that dies with a request in hand leaves the proxy without an answer, and Ray says 500; here that is 503 with
`Retry-After`, which is the truth and which clients take as leave to ask again. Ray imports `middlewares` in each proxy,
by name (`serving.cluster`). It knows nothing of routes, and nothing of Ray.
"""

import asyncio

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.config import HTTP_PROTOCOLS

from breadcrumbs.serving.http import errors
from breadcrumbs.serving.http.arrival import ARRIVAL, Arrival, Pace, pace_of
from breadcrumbs.serving.http.disconnect import DISCONNECT
from breadcrumbs.serving.http.protocol import PatientProtocol
from breadcrumbs.serving.refusals import Overloaded
from breadcrumbs.serving.settings import Settings

LOST = "the replica that had this request was lost, or there is none free; ask again"
SAID_BY_RAY = (429, 500, 503)
"""Statuses that are Ray's own where their body is no JSON: our app says everything in JSON."""


def middlewares() -> list[Middleware]:
    """Return what Ray puts around its proxy, and let the proxy speak HTTP as the server itself does."""
    pace = pace_of(Settings())
    spoken = type("Protocol", (PatientProtocol,), {"pace": pace})
    HTTP_PROTOCOLS["auto"] = spoken  # type: ignore[assignment]  # Ray has no setting for it; uvicorn takes a class too
    return [Middleware(ProxyMiddleware, pace=pace)]


class ProxyMiddleware:
    """Plain ASGI around a proxy.

    Args:
        app: the proxy.
        pace: that a request's body must keep.
    """

    def __init__(self, app: ASGIApp, pace: Pace) -> None:
        self._app = app
        self._pace = pace

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on one request and its answer."""
        if scope["type"] != "http" or scope["path"].startswith("/-/"):
            await self._app(scope, receive, send)
            return
        for own in (DISCONNECT, ARRIVAL):  # they end here: Ray sends the scope to another process
            scope.pop(own, None)
        arriving, answer = _Arriving(receive, self._pace), _Answer(send)
        await self._app(scope, arriving, answer)
        if answer.started:
            return
        if arriving.late:
            slow = f"the request did not arrive {self._pace}; send it faster"
            said: Response = JSONResponse(errors.body("timeout", slow), 408, {"connection": "close"})
        else:
            said = errors.known(Request(scope), Overloaded(LOST))
        await said(scope, receive, send)


class _Arriving:
    """A request's body, against the clock; who is too slow has left."""

    def __init__(self, receive: Receive, pace: Pace) -> None:
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._arrival = Arrival(pace, self._loop.time())
        self._returned = self._loop.time()
        self.late = False

    async def __call__(self) -> Message:
        if self._arrival.whole:
            return await self._receive()
        self._arrival.shift(self._loop.time() - self._returned)  # it is we who did not ask
        try:
            async with asyncio.timeout_at(self._arrival.due):
                message = await self._receive()
        except TimeoutError:
            self.late = True
            return {"type": "http.disconnect"}
        self._returned = self._loop.time()
        self._arrival.came(len(message.get("body", b"")), self._returned)
        if not message.get("more_body", False):
            self._arrival.end()
        return message


class _Answer:
    """An answer on its way out, unless it is Ray's own word for a failure; one request id, not two."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._kept_back = False
        self.started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = {bytes(name).lower(): bytes(value) for name, value in reversed(list(message["headers"]))}
            json = headers.get(b"content-type", b"").startswith(b"application/json")
            self._kept_back = message["status"] in SAID_BY_RAY and not json
            message["headers"] = _once(message["headers"], b"x-request-id")
        if not self._kept_back:
            self.started = True
            await self._send(message)


def _once(headers: list[tuple[bytes, bytes]], name: bytes) -> list[tuple[bytes, bytes]]:
    """Return headers of which one comes once, as it came first."""
    kept, seen = [], False
    for key, value in headers:
        if bytes(key).lower() == name:
            if seen:
                continue
            seen = True
        kept.append((key, value))
    return kept
