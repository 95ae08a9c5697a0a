"""Around every request: its id, its log line, its metrics, and the answer to an unexpected error.

Routes add fields to the line with `serving.http.notes`. This is the outermost middleware, so that it measures the whole
duration. It knows nothing of what a request is about, or of the line's format (`serving.logs`).
"""

import logging
import re
import time
from functools import cache
from os import urandom
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from breadcrumbs.serving.http import errors
from breadcrumbs.serving.http.metrics import Metrics
from breadcrumbs.serving.http.notes import note, notes
from breadcrumbs.serving.http.route_names import NameOf
from breadcrumbs.serving.http.traces import Traces
from breadcrumbs.serving.logs import ACCESS, Requests

LOG = logging.getLogger(ACCESS)
SERVER = logging.getLogger("breadcrumbs.server")
PROBES = frozenset({
    *("/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready", "/v2/models/{model}/ready"),
    "/v2/models/{model}/versions/{version}/ready",
})  # fmt: skip
"""Routes that are probed again and again."""
LONGEST = 200
"""Characters of a path, and of an address, that are logged."""
_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_PARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
"""A `traceparent`, as W3C's Trace Context has it."""


class AccessLog:
    """The middleware.

    Args:
        app: what it wraps.
        metrics: where requests are counted.
        name_of: names a request's route, for metrics and lines alike.
        lines: which requests are logged.
        traces: sends each request as a span. None means that no spans are sent.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, name_of: NameOf, lines: Requests, traces: Traces | None = None
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._requests = cache(metrics.requests.labels)
        self._durations = cache(metrics.duration.labels)
        self._name_of = name_of
        self._unlogged = PROBES if lines == "no-probes" else frozenset[str]()
        self._log = lines != "none"
        self._traces = traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, request_id, status, whole = time.perf_counter(), _request_id(scope), 0, False
        method, path = scope["method"], scope["path"]  # before inner middleware changes them

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
            note(scope, problem="internal")
            if status and not whole:
                raise  # part of the answer is sent: only closing the connection shows the error
            if not status:
                await errors.internal(Request(scope))(scope, receive, answer)
        finally:
            self._count(scope, method, path, status, time.perf_counter() - began, request_id)

    def _count(self, scope: Scope, method: str, path: str, status: int, seconds: float, request_id: str) -> None:
        noted = notes(scope)
        problem = noted.pop("problem", None)
        if "told" in noted:
            status, problem = noted.pop("told")
        route = self._name_of(method, path)
        self._requests(route, str(status)).inc()
        self._durations(route).observe(seconds)
        if problem is not None:
            self._metrics.rejected.labels(problem).inc()
        logs = self._log and route not in self._unlogged and LOG.isEnabledFor(logging.INFO)
        if not logs and self._traces is None:
            return
        line = _line(scope, method, path, route) | {"status": status, "ms": round(seconds * 1000, 2)}
        line |= noted | {"request_id": request_id}
        if problem is not None:
            line["problem"] = problem
        parent = dict(scope["headers"]).get(b"traceparent", b"")
        if self._traces is not None:
            ended = time.time_ns()
            trace = self._traces.record(parent.decode("latin-1"), ended - round(seconds * 1e9), ended, line)
            line["trace_id"] = trace
        elif parent and (valid := _PARENT.fullmatch(parent)):
            line["trace_id"] = valid[1].decode()
        if logs:
            LOG.info("%(method)s %(route)s %(status)s", line)


def _line(scope: Scope, method: str, path: str, route: str) -> dict[str, Any]:
    """Return the first fields of a request's line: method, route, path, client, key."""
    line: dict[str, Any] = {"method": method, "route": route}
    if path != route:
        line["path"] = path[:LONGEST]
    if client := scope.get("client"):
        line["client"] = client[0][:LONGEST]  # a proxy may have said anything
    if key := scope.get("breadcrumbs.key"):
        line["key"] = key.name
    return line


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _ID.fullmatch(value):
            return str(value, "ascii")
    return urandom(16).hex()
