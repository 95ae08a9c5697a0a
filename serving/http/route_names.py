"""The name of a path's route in log and metrics: `/v1/heads/{version}`, even if no route was reached.

It asks the routes as Starlette's router does: the first that takes the method, else the first that has the path. It
knows nothing of what they answer.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

from starlette.routing import BaseRoute, Match

UNMATCHED = "unmatched"
"""Name of every path without a route, so that the number of names is bounded."""
LONGEST = 256
"""Characters of a path that is remembered."""

NameOf = Callable[[str, str], str]
"""Returns the name of the route of a method and a path."""


def route_names(routes: Sequence[BaseRoute]) -> NameOf:
    """Return what names the route of a request, from its method and its path."""

    def find(method: str, path: str) -> str:
        scope = {"type": "http", "method": "GET" if method == "HEAD" else method, "path": path, "root_path": ""}
        partial = UNMATCHED
        for route in routes:
            match, _ = route.matches(scope)
            if match is Match.FULL:
                return _path(route)
            if match is Match.PARTIAL and partial == UNMATCHED:
                partial = _path(route)
        return partial

    remembered = lru_cache(maxsize=1024)(find)
    return lambda method, path: (remembered if len(path) <= LONGEST else find)(method, path)


def _path(route: BaseRoute) -> str:
    return str(getattr(route, "path", UNMATCHED))
