"""How far a long piece of work has come: a bar for a person at a terminal, now and then a line in a log.

All of it goes to standard error, so that what a command prints is its result alone. It knows nothing of the work.
"""

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

T = TypeVar("T")  # the generic syntax needs Python 3.12
Told = Callable[[int, int | None], None]
"""Hears how much is done, and of how much, if that is known."""

SECONDS_SILENT = 2.0
"""Work that is done sooner is not worth a line in a log."""
SECONDS_BETWEEN = 10.0
"""Between two lines, whatever they are about."""


def silent(_done: int, _total: int | None) -> None:
    """Show nothing."""


@contextlib.contextmanager
def bar(title: str, *, show: bool = True) -> Iterator[Told]:
    """Give what some work is to tell how far it is, and take the bar away at the end; until it tells, time is shown."""
    if not show:
        yield silent
    elif not sys.stderr.isatty():
        yield Lines(title)
    else:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        with Progress(*columns, TimeRemainingColumn(), transient=True, console=Console(stderr=True)) as shown:
            task = shown.add_task(title, total=None)
            yield lambda done, total: shown.update(task, completed=done, total=total)


@contextlib.contextmanager
def step(title: str) -> Iterator[None]:
    """Show that something goes on whose length nobody knows: the time it takes, or in a log its name."""
    if sys.stderr.isatty():
        with bar(title):
            yield
    else:
        print(f"{title} …", file=sys.stderr, flush=True)  # noqa: T201
        yield


def track(items: Iterable[T], total: int, title: str, *, show: bool = True) -> Iterator[T]:
    """Yield the items, and show how many are done."""
    with bar(title, show=show) as told:
        told(0, total)
        for done, item in enumerate(items, 1):
            yield item
            told(done, total)


class Lines:
    """A line now and then, for work that takes long.

    Args:
        title: of the work.
        clock: seconds.
    """

    said: ClassVar[float] = -math.inf
    """When any work's last line was said."""

    def __init__(self, title: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._title, self._clock = title, clock
        self._began = clock()

    def __call__(self, done: int, total: int | None) -> None:
        """Print how far it is, if that is due."""
        now = self._clock()
        if now >= max(self._began + SECONDS_SILENT, Lines.said + SECONDS_BETWEEN):
            Lines.said = now
            whole = "" if total is None else f" of {total}"
            print(f"{self._title}: {done}{whole}", file=sys.stderr, flush=True)  # noqa: T201
