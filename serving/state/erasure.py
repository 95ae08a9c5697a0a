"""Marks of what was erased, so that nothing of it comes back while segments are written.

    erased/<name>-<until>      empty; `until`: 16 hex digits, microseconds since 1970

A mark says that every record of that name up to that time is erased. It is left before the records are removed from
their segments, and goes after `UNDER_WAY`: by then every writer that had read one of the records has ended, and has
seen the mark. It knows nothing of what is erased.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from breadcrumbs.serving.state.store import Store

PREFIX = "erased"
UNDER_WAY = timedelta(hours=1)
"""A younger mark may be needed by a write in progress."""
EVER = 2**62
"""The time of a mark that erases records of any time."""
NAME = re.compile(rf"{PREFIX}/(?P<name>[0-9A-Za-z]+)-(?P<until>[0-9a-f]{{16}})")


async def mark(store: Store, names: Iterable[str], until: int = EVER) -> None:
    """Mark names as erased, up to a time in microseconds since 1970."""
    for name in names:
        await store.replace(f"{PREFIX}/{name}-{until:016x}", b"")


async def marks(store: Store) -> dict[str, int]:
    """Return until when each marked name is erased."""
    found: dict[str, int] = {}
    for path in await store.names(PREFIX):
        if told := NAME.fullmatch(path):
            found[told["name"]] = max(found.get(told["name"], 0), int(told["until"], 16))
    return found


def erases(marks: Mapping[str, int], names: Iterable[str], at: int) -> bool:
    """Whether a record of these names and that time is erased."""
    return bool(marks) and any(marks.get(name, -1) >= at for name in names)


async def settled(store: Store, now: datetime | None = None) -> list[str]:
    """Return the objects of the marks that no write in progress needs any more."""
    before = (now or datetime.now(UTC)) - UNDER_WAY
    return [item.name for item in await store.items(PREFIX) if item.written < before]
