"""The names of a setting: its flag, its environment variable, and both in an error message.

It knows nothing of which settings there are.
"""

import contextlib
from collections.abc import Iterator

from breadcrumbs.models.errors import BreadcrumbsError

PREFIX = "BREADCRUMBS_"
"""Prefix of every environment variable that is a setting."""


def flag(name: str) -> str:
    """Return the flag of a setting, as `--max-batch`."""
    return f"--{name.replace('_', '-')}"


def variable(name: str) -> str:
    """Return the environment variable of a setting, as `BREADCRUMBS_MAX_BATCH`."""
    return f"{PREFIX}{name.upper()}"


def both(name: str) -> str:
    """Return flag and variable, for a message to a user of either."""
    return f"{flag(name)} ({variable(name)})"


@contextlib.contextmanager
def about(*names: str) -> Iterator[None]:
    """Add the names of the settings to every error raised inside, as a note that `with_notes` shows."""
    try:
        yield
    except (BreadcrumbsError, OSError) as error:
        error.add_note(f"set by {' and '.join(map(both, names))}")
        raise


def with_notes(error: Exception, words: str = "") -> str:
    """Return an error's message, or `words` in its place, and its notes."""
    return "; ".join((words or str(error), *getattr(error, "__notes__", ())))
