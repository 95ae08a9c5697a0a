"""Text of a request that is shown to people: in one line, of printable characters.

It knows nothing of what the text is about.
"""

from typing import Annotated

from pydantic import AfterValidator

from breadcrumbs.models import printable


def check(text: str) -> str:
    """Return the text.

    Raises:
        ValueError: it has a character that moves the cursor, starts a line or shows text in another order.
    """
    if why := printable.defect(text):
        raise ValueError(why)
    return text


Printable = Annotated[str, AfterValidator(check)]
"""A field for such text."""
