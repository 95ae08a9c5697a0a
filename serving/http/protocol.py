"""Uvicorn's HTTP protocol with limits on what clients send, and on how long they take.

A head has `grace` seconds and `HEAD` bytes; a body keeps the pace of `serving.http.arrival`. What is neither head nor
body (chunk sizes and extensions, trailers, empty lines between requests) is counted and dropped. A client that exceeds
a limit loses the connection. It knows nothing of routes; the timers cost a request about a microsecond.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any, ClassVar
from urllib.parse import urlsplit

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from breadcrumbs.serving.http import errors
from breadcrumbs.serving.http.arrival import ARRIVAL, Arrival, Pace
from breadcrumbs.serving.http.disconnect import DISCONNECT, Disconnect
from breadcrumbs.serving.http.notes import note

HEAD = 65_536
"""Largest size of a request's line and headers, and of anything else between two pieces of a body, in bytes."""
FRAMING = 2**20
"""Bytes of chunk sizes, chunk extensions and trailers that a body may have beyond its own size."""
DRAIN = 64 * 2**20
"""Bytes of a body that are read and dropped after the answer, for clients that send everything before they read."""
PIPELINED = 1_000
"""Requests on one connection that may wait for the answer to an earlier one."""
LINGER = 1.0
"""Seconds before a refused connection is closed, so that the client can read why; what it sends meanwhile is
dropped."""
LOST = 4 * 2**20
"""Largest number of bytes that are dropped in that time."""


class PatientProtocol(HttpToolsProtocol):
    """HTTP/1.1 with limits."""

    pace: ClassVar[Pace] = Pace()
    """How fast requests must arrive."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._disconnect = Disconnect()
        self._arrival: Arrival | None = None  # of the body that is coming
        self._timer: asyncio.TimerHandle | None = None
        self._deaf = False  # nothing more is read
        self._in_head = self._in_message = False
        self._fresh = 0  # bytes of the piece that is being parsed, if no other message began before it
        self._gap = 0  # bytes since the last piece of a body, or since a message began or ended
        self._framing = 0  # bytes of the message that are not its body
        self._came = 0  # bytes of the body
        self._dropped = 0  # bytes that were read for nothing: after the answer, or after a refusal

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a request."""
        super().connection_made(transport)  # type: ignore[arg-type]  # uvicorn narrows it as asyncio itself does
        self.flow = _Flow(self.transport, lambda: bool(self.pipeline), self._paused)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timers, and report the disconnect to the requests in progress."""
        self._disconnect.tell()
        self._arrived()
        for cycle, _ in self.pipeline:
            cycle.disconnected = True
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse a piece, and check the limits."""
        if self._deaf:
            self._dropped += len(data)
            if self._dropped > LOST:
                self.transport.close()
            return
        idle = self.timeout_keep_alive_task
        self._fresh = 0 if self._in_message else len(data)
        self._gap += len(data)
        self._framing += len(data)
        super().data_received(data)
        self._bound(idle)

    def _bound(self, idle: asyncio.TimerHandle | None) -> None:
        """Refuse what exceeds a limit; empty lines do not keep an idle connection open."""
        if self._deaf:
            return
        if self._gap > HEAD and not self._in_message:
            self._refuse(b"400 Bad Request", "bad_request", f"more than {HEAD} bytes came that are no request")
        elif self._gap > HEAD and self._in_head:
            self._refuse_head()
        elif self._gap > HEAD or self._framing > FRAMING + self._came:
            message = (
                f"chunk extensions and trailers of a body are limited to {HEAD} bytes in a row, and all that is not "
                f"the body itself to its size and {FRAMING} bytes; send larger chunks, without extensions or trailers"
            )
            self._refuse(b"431 Request Header Fields Too Large", "too_large", message)
        elif idle is not None and self.timeout_keep_alive_task is None and self._is_idle():
            self.timeout_keep_alive_task = self.loop.call_at(idle.when(), self.timeout_keep_alive_handler)

    def on_message_begin(self) -> None:
        """Wait for the head."""
        super().on_message_begin()
        self.scope[DISCONNECT] = self._disconnect  # type: ignore[literal-required]
        self._in_head = self._in_message = True
        self._gap = self._framing = self._fresh
        self._fresh = self._came = self._dropped = 0
        if self._timer is None:
            self._expect_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; a trailer is dropped."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Count the head, and wait for the body."""
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > HEAD:
            self._refuse_head()
            raise ValueError(f"a head of {size} bytes")  # it ends the parser
        if len(self.pipeline) >= PIPELINED:
            message = f"more than {PIPELINED} requests wait on this connection; read the answers first"
            self._refuse(b"429 Too Many Requests", "overloaded", message)
            raise ValueError(f"{PIPELINED} requests wait")
        self._name_host()
        self._arrived()
        self._arrival = Arrival(self.pace, self.loop.time(), self._cut)
        self.scope[ARRIVAL] = self._arrival  # type: ignore[literal-required]
        self._timer = self.loop.call_at(self._arrival.due, self._late)
        super().on_headers_complete()
        self._in_head = False

    def on_body(self, body: bytes) -> None:
        """Count it."""
        self._came += len(body)
        self._framing -= len(body)
        self._gap = 0
        if self._arrival is not None:
            self._arrival.came(len(body), self.loop.time())
        if self.cycle.response_complete:
            self._dropped += len(body)
            if self._dropped > DRAIN:
                self._close()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Stop the timers: the request is complete."""
        self._in_message = False
        self._gap = 0
        self._arrived()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Resume reading if no request waits."""
        super().on_response_complete()
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser refused, in the shape of all errors, and close."""
        if not self._deaf:
            self._refuse(b"400 Bad Request", "bad_request", f"this is no HTTP/1.1: {msg}")

    def _name_host(self) -> None:
        """Let the host of an absolute request target count instead of the header (RFC 9112, 3.2.2)."""
        if not self.url.startswith((b"http://", b"https://", b"HTTP://", b"HTTPS://")):
            if self.url[:1] not in {b"/", b"*"}:
                self._refuse(b"400 Bad Request", "bad_request", "the request target is neither a path nor a URL")
                raise ValueError("request target")
            return
        host = urlsplit(self.url).netloc.rpartition(b"@")[2]
        self.headers[:] = [(b"host", host), *(one for one in self.headers if one[0] != b"host")]

    def _expect_head(self) -> None:
        self._timer = self.loop.call_later(self.pace.grace, self._late)

    def _arrived(self) -> None:
        if self._arrival is not None:
            self._arrival.end()
            self._arrival = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _paused(self, seconds: float) -> None:
        if self._arrival is not None:
            self._arrival.shift(seconds)

    def _late(self) -> None:
        """Give a body that keeps its pace more time; answer 408 to any other client."""
        self._timer = None
        if self.flow.read_paused:  # the server has paused reading, so the client is not late
            self._timer = self.loop.call_later(self.pace.grace, self._late)
            return
        now = self.loop.time()
        if self._arrival is not None and self._arrival.due > now + 0.01:
            self._timer = self.loop.call_at(self._arrival.due, self._late)
            return
        if not self.transport.is_closing():
            message = f"the request did not arrive {self.pace}; send it faster"
            self._say(b"408 Request Timeout", "timeout", message)
            self._close()

    def _cut(self) -> bool:
        """End the request whose body is arriving, because another needs its place."""
        if self.flow.read_paused:
            return False
        message = f"the request fell behind, and another needed its place: it must arrive {self.pace}; send it again"
        self._say(b"408 Request Timeout", "timeout", message)
        self._close()
        return True

    def _refuse_head(self) -> None:
        message = f"the request's line and headers have more than {HEAD} bytes, which is the limit"
        self._refuse(b"431 Request Header Fields Too Large", "too_large", message)

    def _refuse(self, status: bytes, kind: str, message: str) -> None:
        """Answer with the error, unless an earlier answer is still due, and read no more."""
        self._say(status, kind, message)
        self._deaf = True
        self._dropped = 0
        self._end_request()
        self.loop.call_later(LINGER, self.transport.close)  # closing at once with unread bytes would discard the answer

    def _close(self) -> None:
        self._deaf = True
        self._end_request()
        self.transport.close()

    def _end_request(self) -> None:
        """Drop this connection's requests."""
        self._arrived()
        self._disconnect.tell()
        self.pipeline.clear()
        cycle: Any = self.cycle  # None before the first request, whatever its type says
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()

    def _is_idle(self) -> bool:
        cycle: Any = self.cycle
        return not self._in_message and not self.pipeline and cycle is not None and cycle.response_complete

    def _say(self, status: bytes, kind: str, message: str) -> None:
        """Answer in the app's place, unless an answer has begun or is due to an earlier request."""
        cycle: Any = self.cycle
        if cycle is not None and not cycle.response_complete:
            ours = self._in_message and not self._in_head and not self.pipeline and not cycle.response_started
        else:
            ours = cycle is None or self._in_head or not self._in_message
        if ours and not self._deaf and not self.transport.is_closing():
            self.transport.write(_answer(status, kind, message))
            if self._in_message and not self._in_head:
                note(self.scope, told=(int(status[:3]), kind))  # type: ignore[arg-type]  # uvicorn's own type


class _Flow(FlowControl):
    """Pauses reading while requests wait for earlier answers, and reports how long."""

    def __init__(
        self, transport: asyncio.Transport, waiting: Callable[[], bool], told: Callable[[float], None]
    ) -> None:
        super().__init__(transport)
        self._waiting = waiting
        self._told = told
        self._since = 0.0

    def pause_reading(self) -> None:
        if not self.read_paused:
            self._since = asyncio.get_running_loop().time()
        super().pause_reading()

    def resume_reading(self) -> None:
        if self.read_paused and not self._waiting():
            super().resume_reading()
            self._told(asyncio.get_running_loop().time() - self._since)


def _answer(status: bytes, kind: str, message: str) -> bytes:
    data = json.dumps(errors.body(kind, message)).encode()
    head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n" % (status, len(data))
    return head + b"connection: close\r\n\r\n" + data
