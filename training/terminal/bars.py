"""Progress of long work: a bar at a terminal, a line now and then in a log.

It goes to standard error, so that standard output has only the result of a command. It knows nothing of the work.
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
"""Takes how much is done, and the total; None means that the total is not known."""

SECONDS_SILENT = 2.0
"""Work that ends sooner gets no line in a log."""
SECONDS_BETWEEN = 10.0
"""Shortest time between two lines, over all work."""


def silent(_done: int, _total: int | None) -> None:
    """Show nothing."""


@contextlib.contextmanager
def bar(title: str, *, show: bool = True) -> Iterator[Told]:
    """Show a progress bar and remove it at the end; yield the function that reports progress to it."""
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
    """Show that work of unknown length is going on: the time so far, or its name in a log."""
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
    """Prints a line now and then about work that takes long.

    Args:
        title: of the work.
        clock: returns seconds; tests pass their own.
    """

    said: ClassVar[float] = -math.inf
    """When the last line was printed, for any work."""

    def __init__(self, title: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._title, self._clock = title, clock
        self._began = clock()

    def __call__(self, done: int, total: int | None) -> None:
        """Print the progress, if a line is due."""
        now = self._clock()
        if now >= max(self._began + SECONDS_SILENT, Lines.said + SECONDS_BETWEEN):
            Lines.said = now
            whole = "" if total is None else f" of {total}"
            print(f"{self._title}: {done}{whole}", file=sys.stderr, flush=True)  # noqa: T201
