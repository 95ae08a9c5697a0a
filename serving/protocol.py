"""Uvicorn's HTTP protocol with a deadline and a bound for what clients send: who breaks one loses its connection.

A request's head has `receipt` seconds; its body that and a second more for every `RATE` bytes that have come. It knows
nothing of routes; the timers cost a request about a microsecond.
"""

import asyncio
import json
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving import problems
from serving.leaving import LEAVING, Leaving

RATE = 65_536
"""Bytes a second that a client must reach in the long run."""
HEAD = 65_536
"""Bytes of a request's line and headers at most."""
LINGER = 1.0
"""Seconds that a client has to read why its head was refused; what it sends meanwhile is dropped."""


class PatientProtocol(HttpToolsProtocol):
    """HTTP/1.1, as far as a client's patience is not abused."""

    receipt: ClassVar[float] = 30.0
    """Seconds; see `Settings.receipt`."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._leaving = Leaving()
        self._timer: asyncio.TimerHandle | None = None
        self._began = 0.0
        self._came = 0
        self._deaf = False  # nothing more is read
        self._in_head = self._in_message = False
        self._fresh = 0  # bytes of the piece that is being parsed, if no other message began before it
        self._head = 0  # bytes of the head that have come; without its first piece where another message ended in that

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a request."""
        super().connection_made(transport)  # type: ignore[arg-type]  # uvicorn narrows it as asyncio itself does
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more, and tell the request under way."""
        self._leaving.tell()
        self._arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse a piece; a head that goes on and on is refused before it ends."""
        if self._deaf:
            return
        self._fresh = 0 if self._in_message else len(data)
        self._head += len(data)
        super().data_received(data)
        if self._in_head and self._head > HEAD:
            self._refuse_head()

    def on_message_begin(self) -> None:
        """Wait for the head."""
        super().on_message_begin()
        self.scope[LEAVING] = self._leaving  # type: ignore[literal-required]
        self._in_head = self._in_message = True
        self._head, self._fresh = self._fresh, 0
        if self._timer is None:
            self._expect()

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser refused, in the one shape of errors, and close."""
        if not self._deaf:
            self.transport.write(_answer(b"400 Bad Request", "bad_request", f"this is no HTTP/1.1: {msg}"))
            self.transport.close()

    def _refuse_head(self) -> None:
        self._arrived()
        message = f"the request's line and headers have more than {HEAD} bytes, which is the limit"
        self.transport.write(_answer(b"431 Request Header Fields Too Large", "too_large", message))
        self._deaf = True
        self.loop.call_later(LINGER, self.transport.close)  # at once, with bytes unread, it would take the answer back

    def on_headers_complete(self) -> None:
        """Count the head, and wait for the body."""
        self._in_head = False
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > HEAD:
            self._refuse_head()
            raise ValueError(f"a head of {size} bytes")  # it ends the parser
        self._arrived()
        self._expect()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count it."""
        self._came += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is there; how long its answer takes is no fault of the client's."""
        self._in_message = False
        self._arrived()
        super().on_message_complete()

    def _expect(self) -> None:
        self._began, self._came = self.loop.time(), 0
        self._timer = self.loop.call_later(self.receipt, self._late)

    def _arrived(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        """Give a body that comes fast enough more time; tell any other client that it is too slow."""
        self._timer = None
        if self.flow.read_paused:  # it is we who do not read
            self._expect()
            return
        left = self._began + self.receipt + self._came / RATE - self.loop.time()
        if left > 0.01:
            self._timer = self.loop.call_later(left, self._late)
            return
        if self.transport.is_closing():
            return
        cycle: Any = self.cycle  # None before the first request, whatever its type says
        if cycle is None or not cycle.response_started or cycle.response_complete:
            message = (
                f"the request did not arrive in {self.receipt:g} s and one more for each {RATE} bytes; send it faster"
            )
            self.transport.write(_answer(b"408 Request Timeout", "timeout", message))
        self.transport.close()


def _answer(status: bytes, kind: str, message: str) -> bytes:
    data = json.dumps(problems.body(kind, message)).encode()
    head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n" % (status, len(data))
    return head + b"connection: close\r\n\r\n" + data
