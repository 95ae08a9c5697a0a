"""Limits on all requests together, and on one client's share: memory for bodies, and places for uploads.

When a limit is reached, a stalled request is ended first. It knows nothing of what bodies are.
"""

import asyncio
import contextlib
import math
from collections.abc import Iterator, Sequence

from starlette.types import Scope

from breadcrumbs.serving.http.arrival import ARRIVAL, STALLED
from breadcrumbs.serving.refusals import Overloaded

SMALL_BODY = 2**20
"""Bytes of a request that carries only words and numbers, such as the JSON of a refit."""
SHARE = 0.75
"""Share of the memory and of the uploads that one client may have. A client is a key, or an address if there are no
keys."""
BYTES = "breadcrumbs.bytes"
"""Key in a scope of the number of bytes that its body holds."""


class Turnstile:
    """Limits how many requests are inside at a time, of all clients and of each.

    At the limit, the request that is furthest behind is ended, if one has stalled.

    Args:
        most: largest number at a time.
        what: what they are, for the error message.
    """

    def __init__(self, most: int, what: str) -> None:
        self._most, self._what = most, what
        self._inside: list[Scope] = []

    @contextlib.contextmanager
    def enter(self, scope: Scope) -> Iterator[None]:
        """Hold a place inside the `with` block.

        Raises:
            Overloaded: all places are taken, or this client has its share.
        """
        share, who = math.ceil(self._most * SHARE), client(scope)
        own = [one for one in self._inside if client(one) == who]
        if len(self._inside) >= self._most and not self._cut(self._inside):
            raise Overloaded(f"{len(self._inside)} {self._what} are under way, which is the limit", 5)
        if len(own) >= share and not self._cut(own):
            raise Overloaded(f"{len(own)} {self._what} of this client are under way, which is its share", 5)
        self._inside.append(scope)
        try:
            yield
        finally:
            self._leave(scope)

    def _cut(self, among: list[Scope]) -> bool:
        stalled = cut_stalled(among)
        if stalled is not None:
            self._leave(stalled)
        return stalled is not None

    def _leave(self, scope: Scope) -> None:
        self._inside = [one for one in self._inside if one is not scope]


class Held:
    """The bytes that all requests' bodies have in memory.

    Each client has a share for large bodies. At the limit, the body that is furthest behind is ended, if one has
    stalled.

    Args:
        most: largest number of bytes together.
    """

    def __init__(self, most: int) -> None:
        self._most, self._sum = most, 0
        self._holding: dict[int, Scope] = {}

    def take(self, scope: Scope, size: int) -> None:
        """Count bytes for a request.

        Raises:
            Overloaded: there would be too many bytes, of all clients or of this one.
        """
        whole = scope.get(BYTES, 0) + size
        while self._sum + size > self._most:
            if not self._cut(scope, list(self._holding.values())):
                raise Overloaded(f"the bodies of all requests have {self._sum} bytes; the limit is {self._most}")
        if whole > SMALL_BODY:
            self._check_share(scope, size)
        self._sum += size
        self._holding[id(scope)] = scope
        scope[BYTES] = whole

    def _check_share(self, scope: Scope, size: int) -> None:
        share, who = int(self._most * SHARE), client(scope)
        own = [one for one in self._holding.values() if client(one) == who]
        while (held := sum(one.get(BYTES, 0) for one in own)) + size > share:
            if not self._cut(scope, own):
                raise Overloaded(f"the bodies of this client's requests have {held} bytes; its share is {share}")

    def _cut(self, scope: Scope, among: list[Scope]) -> bool:
        stalled = cut_stalled([one for one in among if one is not scope and one.get(BYTES)])
        if stalled is not None:
            self.give(stalled)
        return stalled is not None

    def give(self, scope: Scope) -> None:
        """Release all bytes of a request."""
        self._sum -= scope.pop(BYTES, 0)
        self._holding.pop(id(scope), None)


def client(scope: Scope) -> str:
    """Return whose request it is: the key, or the address without a key."""
    key = scope.get("breadcrumbs.key")
    return str(key.actor) if key is not None else str((scope.get("client") or ("",))[0])


def cut_stalled(among: Sequence[Scope]) -> Scope | None:
    """End the request whose body is furthest behind, and return it. None means that none has stalled."""
    now = asyncio.get_running_loop().time()
    behind = {id(one): one[ARRIVAL].behind(now) for one in among if ARRIVAL in one}
    stalled = [one for one in among if behind.get(id(one), 0.0) >= STALLED]
    for one in sorted(stalled, key=lambda one: -behind[id(one)]):
        if one[ARRIVAL].cut is not None and one[ARRIVAL].cut():
            return one
    return None
