"""How a request's body arrives: how long the server still waits for it, and how far it is behind.

A body starts with `grace` seconds. Each second costs one, each `rate` bytes give one back, and it never has more than
`grace`. So a fast start does not allow a later pause; only the recent rate counts. A pause may take `idle` seconds. It
knows nothing of HTTP.
"""

from collections.abc import Callable
from dataclasses import dataclass

from breadcrumbs.serving.settings import Settings

STALLED = 3.0
"""Seconds behind, after which a body loses its place when another request needs it."""
ARRIVAL = "breadcrumbs.arrival"
"""Key in a scope of its body's `Arrival`, if the server's own protocol made it."""


@dataclass(frozen=True)
class Pace:
    """How fast a body must arrive.

    Attributes:
        grace: seconds for the head, and the most that a body may fall behind.
        idle: seconds between two pieces of a body.
        rate: bytes a second.
    """

    grace: float = 30.0
    idle: float = 10.0
    rate: int = 65_536

    def __str__(self) -> str:
        return f"in {self.grace:g} s, with {self.rate} bytes a second and no pause of {self.idle:g} s"


def pace_of(settings: Settings) -> Pace:
    """Return how fast requests must arrive."""
    return Pace(settings.receipt, settings.receipt_idle, settings.receipt_rate)


class Arrival:
    """One body on its way.

    Args:
        pace: that it must keep.
        now: the time, as the event loop tells it.
        cut: ends the request and its connection; returns False if the server itself has paused reading.
    """

    __slots__ = ("_last", "_pace", "_until", "cut", "whole")

    def __init__(self, pace: Pace, now: float, cut: Callable[[], bool] | None = None) -> None:
        self._pace = pace
        self.cut = cut
        self.whole = False
        self._last, self._until = now, now + pace.grace

    def shift(self, seconds: float) -> None:
        """Do not count a time in which the server did not read."""
        self._last += seconds
        self._until += seconds

    def came(self, size: int, now: float) -> None:
        """Count bytes of the body."""
        self._last = now
        self._until = min(self._until + size / self._pace.rate, now + self._pace.grace)

    def end(self) -> None:
        """The whole body is there."""
        self.whole, self.cut = True, None

    @property
    def due(self) -> float:
        """Time at which the body is late unless more comes."""
        return min(self._until, self._last + self._pace.idle)

    def behind(self, now: float) -> float:
        """Return the seconds that the body is behind its pace."""
        return 0.0 if self.whole else now + self._pace.grace - self._until
