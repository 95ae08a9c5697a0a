"""Names of classes: which can be used, and which are the same name to a reader.

It knows nothing of where the names come from.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from breadcrumbs.models import printable

LONGEST = 255
"""Characters of a name."""


def plain(name: str) -> str:
    """Return a name in Unicode's composed form (NFC), in which equal names are equal strings."""
    return unicodedata.normalize("NFC", name)


def spaced(name: str) -> str | None:
    """Return why a name cannot be a class's because of its spaces, which nobody sees, or None."""
    if not name.strip():
        return "is empty; name it"
    if name != name.strip():
        return "begins or ends with a space; rename it"
    return None


def fault(name: str) -> str | None:
    """Return why a name cannot be a class's, or None."""
    if any("\ud800" <= letter <= "\udfff" for letter in name):
        return "is not Unicode text; rename it in UTF-8"
    if not name.strip():
        return spaced(name)
    if why := printable.defect(name):
        return f"{why}; rename it"
    if why := spaced(name):
        return why
    if len(name) > LONGEST:
        return f"has {len(name)} characters; expected at most {LONGEST}"
    return None


def faults(names: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for each name that cannot be a class's, and for those that are one name to Unicode."""
    same: dict[str, list[str]] = defaultdict(list)
    for name in names:
        same[plain(name)].append(name)
        if why := fault(name):
            yield f"class {name!a:.300} {why}"
    for group in same.values():
        if len(set(group)) > 1:
            shown = " and ".join(ascii(name) for name in group)
            yield f"classes {shown} are one name, '{plain(group[0])}', to Unicode; put their images together under one"
        elif len(group) > 1:
            yield f"class {group[0]!r:.200} is named {len(group)} times; name it once"


def alike(names: Sequence[str]) -> Iterator[str]:
    """Yield a sentence for names that differ only in case: two classes, but perhaps not meant to be."""
    same: dict[str, list[str]] = defaultdict(list)
    for name in names:
        same[name.casefold()].append(name)
    for group in same.values():
        if len(group) > 1:
            yield f"classes {' and '.join(repr(name) for name in group)} differ only in upper and lower case"


def listed(names: Sequence[str]) -> str:
    """Return names for a message, the first five of them."""
    return ", ".join(f"{name!r:.80}" for name in names[:5]) + (", …" if len(names) > 5 else "")
