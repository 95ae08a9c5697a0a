"""Around every request: its id, its one log line, its numbers, and the answer to what nobody foresaw.

Routes put what they want on the line into `note`. It is plain ASGI, outside of everything else, so that the duration
is the whole one; it knows nothing of what a request is about.
"""

import logging
import re
import time
from functools import cache
from os import urandom
from typing import Any

from pydantic_core import to_json
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving import problems
from serving.metrics import Metrics
from serving.traces import Traces

LOG = logging.getLogger("breadcrumbs.access")
SERVER = logging.getLogger("breadcrumbs.server")
_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


def note(request: Request, **numbers: Any) -> None:
    """Put numbers on a request's log line."""
    request.scope["breadcrumbs.notes"].update(numbers)


class Access:
    """The middleware.

    Args:
        app: what it wraps.
        metrics: where requests are counted.
        log: whether to write a line for each.
        traces: where each is sent as a span, if anywhere.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, log: bool, traces: Traces | None = None) -> None:
        self._app = app
        self._metrics = metrics
        self._requests = cache(metrics.requests.labels)
        self._durations = cache(metrics.duration.labels)
        self._log = log
        self._traces = traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, request_id, status, whole = time.perf_counter(), _request_id(scope), 0, False
        scope["breadcrumbs.notes"] = {}

        async def answer(message: Message) -> None:
            nonlocal status, whole
            whole = message["type"] == "http.response.body" and not message.get("more_body", False)
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, answer)
        except Exception:
            SERVER.exception("request %s failed", request_id)
            scope["problem"] = "internal"
            if status and not whole:
                raise  # half an answer is out: only a broken connection can say so
            if not status:
                await problems.internal(Request(scope))(scope, receive, answer)
        finally:
            self._count(scope, status, time.perf_counter() - began, request_id)

    def _count(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        self._requests(route, str(status)).inc()
        self._durations(route).observe(seconds)
        if "problem" in scope:
            self._metrics.rejected.labels(scope["problem"]).inc()
        if not self._log and self._traces is None:
            return
        line = {"method": scope["method"], "route": route, "status": status, "ms": round(seconds * 1000, 2)}
        line |= scope["breadcrumbs.notes"] | {"request_id": request_id}
        if "problem" in scope:
            line["problem"] = scope["problem"]
        if self._log:
            LOG.info(to_json(line).decode())
        if self._traces is not None:
            parent = dict(scope["headers"]).get(b"traceparent", b"").decode("latin-1")
            ended = time.time_ns()
            self._traces.record(parent, ended - round(seconds * 1e9), ended, line)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _ID.fullmatch(value):
            return str(value, "ascii")
    return urandom(16).hex()
