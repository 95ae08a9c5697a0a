"""Reading a file that is not trusted, in a child process with limits of memory and time.

The child prints what came of it (`models.snapshots.untrusted`). It knows nothing of what is read.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.serving.processes import child

SECONDS = 600.0
MEMORY = 3 * 2**30
"""Bytes. The child's own limit, which has the better error message, is lower."""


async def read(
    command: Sequence[str],
    refusals: Mapping[str, type[BreadcrumbsError]],
    lost: Callable[[str], BreadcrumbsError],
    seconds: float = SECONDS,
) -> dict[str, Any]:
    """Run a child to its end and return the object that it printed.

    Args:
        command: program and arguments.
        refusals: the errors that it may report, by name.
        lost: makes the error of a child that ended without a word, of the reason.
        seconds: it may take.

    Raises:
        BreadcrumbsError: what it reported, or else that of `lost`.
    """
    ending = await child.run(command, _nothing, child.Limits(seconds, MEMORY))
    said = ending.said
    refusal = refusals.get(str(said.get("type")))
    if said.get("event") == "refused" and refusal is not None:
        raise refusal(str(said.get("message")))
    if said.get("event") in (None, "refused") or ending.code != 0:
        raise lost(ending.broken or f"its process ended with status {ending.code}")
    return said


async def _nothing(_event: dict[str, Any]) -> None:
    return None
