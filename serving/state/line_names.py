"""What a line may be called. It knows nothing of what a line is."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from breadcrumbs.serving.refusals import BadRequest

DEFAULT = "default"
"""The line that answers requests that name none."""
NAME = "[A-Za-z0-9][A-Za-z0-9._-]{0,59}"
WORDS = "expected letters, digits, '.', '_' and '-', 60 at most, the first a letter or digit"


def check_name(name: str) -> str:
    """Return a line's name.

    Raises:
        BadRequest: it cannot be one.
    """
    if not re.fullmatch(NAME, name):
        raise BadRequest(f"line {name!r:.80}: {WORDS}")
    return name


def _checked(name: str) -> str:
    if not re.fullmatch(NAME, name):
        raise ValueError(WORDS)
    return name


LineName = Annotated[str, AfterValidator(_checked), Field(description="name of a line")]
"""A field of a model, for the name of a line."""
