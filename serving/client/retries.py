"""When a call is sent again, and how long to wait before: the rules of both clients, which `docs/api.md` tells.

It knows nothing of what is asked, and neither sends nor sleeps.
"""

import contextlib
import email.utils
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx

from breadcrumbs.models.errors import BreadcrumbsError

LOG = logging.getLogger("breadcrumbs.client")

BROKEN = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)
"""The connection was refused, or broke before there was an answer. A server that is slow (`ReadTimeout`) is not asked
again: it may still be at work."""
LATER = (502, 503, 504)
"""Statuses that may be others a moment later."""


class ServerError(BreadcrumbsError):
    """The server refused, in its own words; or there is none.

    Attributes:
        status: HTTP status; 0 where no answer came.
        kind: the type that the server gives the error.
    """

    def __init__(self, message: str, status: int = 0, kind: str = "unreachable") -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind


@dataclass(frozen=True)
class Retries:
    """How often and how long a call is repeated that may be.

    The wait doubles from `first` to `longest` seconds, of which a random half is left out, so that clients that were
    refused together do not come back together. A `Retry-After` of the server is waited for in full.

    Attributes:
        most: repeats; 0: none.
        first: seconds before the first one.
        longest: seconds before any of them, `Retry-After` apart.
        total: seconds after the first attempt within which the last repeat begins.
    """

    most: int = 3
    first: float = 0.25
    longest: float = 10.0
    total: float = 60.0


RETRIES = Retries()


class Attempts:
    """The attempts at one call.

    Args:
        retries: how often and how long.
        repeatable: whether the call may be sent again at all.
        lost: what to say where no answer came.
        broken: the errors of a connection after which it is.
        clock: seconds.
        draw: a random number in 0 … 1.
    """

    def __init__(
        self, retries: Retries, repeatable: bool, lost: str, broken: tuple[type[httpx.TransportError], ...] = BROKEN,
        clock: Callable[[], float] = time.monotonic, draw: Callable[[], float] = random.random,
    ) -> None:  # fmt: skip
        self._retries, self._repeatable, self._lost, self._broken = retries, repeatable, lost, broken
        self._clock, self._draw = clock, draw
        self._began = clock()
        self.repeats = 0

    def wait(self, failure: Exception | httpx.Response) -> float:
        """Return the seconds to wait before the next attempt.

        Raises:
            ServerError: there is none: the call may not be repeated, this failure would come again, or it was tried
                often and long enough.
        """
        passing = (
            failure.status_code in LATER if isinstance(failure, httpx.Response) else isinstance(failure, self._broken)
        )
        seconds: float = min(self._retries.longest, self._retries.first * 2**self.repeats) * (1 + self._draw()) / 2
        if isinstance(failure, httpx.Response):
            seconds += retry_after(failure)
        if (
            not (passing and self._repeatable)
            or self.repeats >= self._retries.most
            or self._clock() - self._began + seconds > self._retries.total
        ):
            raise self._error(failure) from (failure if isinstance(failure, Exception) else None)
        self.repeats += 1
        LOG.warning("%s; trying again in %.1f s", self._error(failure), seconds)
        return seconds

    def _error(self, failure: Exception | httpx.Response) -> ServerError:
        if isinstance(failure, httpx.Response):
            return refusal(failure)
        return ServerError(f"{self._lost}: {str(failure) or type(failure).__name__}")


def retry_after(answer: httpx.Response) -> float:
    """Return the seconds that an answer's `Retry-After` asks for, given as a number or as a date; 0: it does not."""
    text = answer.headers.get("retry-after", "")
    if text.isdecimal():
        return float(text)
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, (email.utils.parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    return 0.0


def refusal(answer: httpx.Response) -> ServerError:
    """Return an answer that is an error as one of ours; its body must have been read."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        error = answer.json()["error"]
        return ServerError(str(error["message"]), answer.status_code, str(error["type"]))
    return ServerError(f"the server answered {answer.status_code}: {answer.text[:200]!r}", answer.status_code, "http")
