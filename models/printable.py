"""Text for a terminal, a log or a message: no character that moves the cursor, starts a line or shows text in another
order, and long lists of names cut short.

It knows nothing of where the text comes from.
"""

import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, line separators, bidi embeddings, overrides and isolates, and halves of surrogate pairs."""
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def defect(text: str) -> str | None:
    """Return why a text must not be printed, as words that follow its name; None means it is safe."""
    found = _UNPRINTABLE.search(text)
    if found is None:
        return None
    code = ord(found[0])
    if 0xD800 <= code <= 0xDFFF:
        return "is no Unicode text: it has half a surrogate pair"
    kind = "a control character" if code < 0x2028 else "a line separator" if code < 0x202A else "a bidi control"
    return f"has {kind}, U+{code:04X}; expected printable text"


def _check(text: str) -> str:
    if why := defect(text):
        raise ValueError(why)
    return text


Printable = Annotated[str, AfterValidator(_check)]
"""A field of a model, for text that is shown to people."""


def escaped(text: str) -> str:
    r"""Return a text in one line that any terminal shows as it is; unsafe characters become `\n`, `\x1b`, `\u202e`."""
    return _UNPRINTABLE.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return _SHORT.get(found[0]) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def listed(names: Sequence[str], most: int = 20) -> str:
    """Return names for a sentence, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
