"""Errors for requests that the server refuses.

Every message names the limit and the value that came. It knows nothing of HTTP; the status codes are in
`serving.http.errors`.
"""

import re

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from breadcrumbs.models.errors import BreadcrumbsError


class Refused(BreadcrumbsError):
    """A request that the server refuses."""


class TooLarge(Refused):
    """A request over a named limit."""


class Unsupported(Refused):
    """A request in a form that is not offered."""


class BadRequest(Refused):
    """A request that is incomplete or malformed."""


class Forbidden(Refused):
    """A request for something that is switched off, or that its key may not do."""


class Unauthorized(Refused):
    """A request without a key, or with an unknown one."""


class Abandoned(Refused):
    """A request whose client has disconnected; nobody reads the answer."""


class Overloaded(Refused):
    """A request that would wait too long; the client may retry after `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class OverQuota(Refused):
    """An upload beyond its key's quota of bytes."""


class TooManyJobs(Overloaded):
    """A refit beyond the number that its key may have waiting or running."""


INNER = re.compile(r"(function-(after|before|plain|wrap)|constrained-\w+|nullable|list|dict|union)\[")
"""What pydantic calls one of several types that a field may have; no part of a request is called so."""
LENGTHS = {"too_short": ("at least", "min_length"), "too_long": ("at most", "max_length")}


def tell(error: ValidationError) -> str:
    """Return a sentence about the first error: the field, what was expected, what came."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"] if not INNER.match(str(part)))
    came = "" if first["type"] in {"missing", "json_invalid"} else f", got {first['input']!r:.80}"
    return f"{place + ': ' if place else ''}{_words(first)}{came}"


def _words(error: ErrorDetails) -> str:
    """Of a text that is checked otherwise first, pydantic counts items."""
    bound = LENGTHS.get(error["type"])
    if bound is None or not isinstance(error["input"], str):
        return error["msg"].removeprefix("Value error, ")  # pydantic's words for an error of our own
    words, limit = bound
    return f"expected {words} {error['ctx'][limit]} characters"
