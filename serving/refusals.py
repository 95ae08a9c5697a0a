"""Requests that the server will not take: why, as errors.

Every message names the limit and what came. It knows nothing of HTTP; the status codes are in `serving.http.errors`.
"""

from pydantic import ValidationError

from breadcrumbs.models.errors import BreadcrumbsError


class Refused(BreadcrumbsError):
    """A request that the server will not take."""


class TooLarge(Refused):
    """A request over a named limit."""


class Unsupported(Refused):
    """A request in a form that is not offered."""


class BadRequest(Refused):
    """A request that does not say what it wants, or says it wrongly."""


class Forbidden(Refused):
    """A request for something that is switched off here, or that its key may not do."""


class Unauthorized(Refused):
    """A request without a key, or with one that is not known."""


class Abandoned(Refused):
    """A request whose client has gone; nobody reads the answer."""


class Overloaded(Refused):
    """A request that would have to wait too long; try again after `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class OverQuota(Refused):
    """An upload for which its key has no bytes left."""


class TooManyJobs(Overloaded):
    """A refit of a key that has as many waiting or running as it may."""


def tell(error: ValidationError) -> str:
    """Say in a sentence where a model's first defect is and what was expected."""
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    came = "" if first["type"] in {"missing", "json_invalid"} else f", got {first['input']!r:.80}"
    return f"{place + ': ' if place else ''}{first['msg']}{came}"
