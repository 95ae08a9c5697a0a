"""Errors for requests that the server refuses.

Every message names the limit and the value that came. It knows nothing of HTTP; the status codes are in
`serving.http.errors`.
"""

from pydantic import ValidationError

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


def tell(error: ValidationError) -> str:
    """Return a sentence about the first error: the field, what was expected, what came."""
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    came = "" if first["type"] in {"missing", "json_invalid"} else f", got {first['input']!r:.80}"
    return f"{place + ': ' if place else ''}{first['msg']}{came}"
