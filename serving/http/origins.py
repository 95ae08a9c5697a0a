"""Web pages of other sites that may use the server (CORS), and which headers they may send and read.

It runs before the checks of hosts and keys: a preflight has no key, and a page must be able to read a refusal. It knows
nothing of routes.
"""

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

ANY = "*"
"""The origin that stands for all of them."""
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE")
SENT = (
    "authorization",
    "baggage",
    "cache-control",
    "content-encoding",
    "content-type",
    "idempotency-key",
    "if-none-match",
    "inference-header-content-length",
    "last-event-id",
    "range",
    "traceparent",
    "tracestate",
    "x-request-id",
)
"""Headers that a page may send, beyond those that every page may."""
READ = (
    "allow",
    "content-encoding",
    "content-range",
    "etag",
    "inference-header-content-length",
    "location",
    "retry-after",
    "www-authenticate",
    "x-replica",
    "x-request-id",
)
"""Headers of an answer that a page may read, beyond those that every page may."""


def open_to(origins: Sequence[str], app: ASGIApp) -> ASGIApp:
    """Return the app, open to pages of some origins; without origins, the app itself."""
    if not origins:
        return app
    return CORSMiddleware(app, origins, METHODS, SENT, expose_headers=READ)
