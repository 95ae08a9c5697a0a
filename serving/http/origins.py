"""Web pages of other sites that may ask the server (CORS), and what a browser lets them send and read.

It is outside of the checks of names and keys: a preflight has no key, and a page must be able to read why it was
refused. It knows nothing of routes.
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
    """Let pages of some origins ask; of none, and the app is as it was."""
    if not origins:
        return app
    return CORSMiddleware(app, origins, METHODS, SENT, expose_headers=READ)
