"""What is noted on a request for its log line, its span and the metrics, by whatever answers it.

It knows nothing of who reads the notes.
"""

from typing import Any

from starlette.types import Scope

NOTES = "breadcrumbs.notes"
"""Where a scope has its notes."""


def note(scope: Scope, **fields: Any) -> None:
    """Note fields on a request.

    Args:
        scope: of the request.
        fields: numbers and names for its log line; `problem`, the type of its error; `told`, the status and the problem
            of an answer that the connection gave before the app did.
    """
    scope.setdefault(NOTES, {}).update(fields)


def notes(scope: Scope) -> dict[str, Any]:
    """Return a copy of what is noted on a request."""
    return dict(scope.get(NOTES, {}))
