"""A real HTTP server that fails as it is told, request by request, before it answers."""

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

RESET = "reset"
"""Instead of an answer the connection breaks, after the request was read."""
Step = str | tuple[int, dict[str, str]]
"""RESET, or a status with headers."""


@dataclass
class Flaky:
    """What it will do, one step a request, then answer; and what it heard: method, path, body, headers."""

    url: str = ""
    steps: list[Step] = field(default_factory=list)
    answer: Any = None
    heard: list[tuple[str, str, bytes, dict[str, str]]] = field(default_factory=list)


@contextlib.contextmanager
def flaky(*steps: Step, answer: Any = None, port: int = 0) -> Iterator[Flaky]:
    """Run one; after its steps every request is answered with 200 and `answer` as JSON."""
    told = Flaky(steps=list(steps), answer=answer)

    class Failing(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            told.heard.append((self.command, self.path, body, {k.lower(): v for k, v in self.headers.items()}))
            step = told.steps.pop(0) if told.steps else (200, {})
            if isinstance(step, str):
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # RST
                self.connection.close()
                self.close_connection = True
                return
            status, headers = step
            data = json.dumps(told.answer if status == 200 else problem(status)).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PUT = do_POST = do_DELETE = respond  # noqa: N815 - http.server's names

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

        def finish(self) -> None:
            """Close what a reset has left."""
            with contextlib.suppress(OSError):
                super().finish()

    server = ThreadingHTTPServer(("127.0.0.1", port), Failing)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that leaves is no news
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    told.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def problem(status: int) -> dict[str, Any]:
    """An error in the server's shape."""
    return {"error": {"type": "overloaded" if status == 503 else "other", "message": f"the queue is full ({status})"}}
