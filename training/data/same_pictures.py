"""Pictures that occur more than once, byte for byte: in two classes, in training and test, or twice in a class.

Files with equal size and equal first and last bytes are candidates; only these are read whole. It knows nothing of
pixels.
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from breadcrumbs.training.data.objects import Span
from breadcrumbs.training.data.split import Split

SHOWN = 3  # examples of each kind
Mark = bytes | None
"""Equal for equal files, and seldom for others; None means that the file is not compared."""


def mark(size: int, head: bytes, tail: bytes) -> Mark:
    """Return a file's mark, from its size and some bytes of both its ends."""
    return hashlib.blake2b(head + tail, digest_size=16, salt=size.to_bytes(8, "little")).digest()


def sentences(splits: Sequence[Split], marks: Iterable[Mark], classes: Sequence[str]) -> Iterator[str]:
    """Yield what is found as sentences.

    Args:
        splits: training and, where there is one, test.
        marks: of the images of all splits, in their order.
        classes: the names.
    """
    places = [(part, row) for part, split in enumerate(splits) for row in range(len(split))]
    alike: dict[bytes, list[int]] = defaultdict(list)
    for number, own in enumerate(marks):
        if own is not None:
            alike[own].append(number)
    found: dict[str, list[list[tuple[int, int]]]] = {"classes": [], "parts": [], "class": []}
    for group in (group for group in alike.values() if len(group) > 1):
        for equal in _equal(splits, [places[number] for number in group]):
            found[_kind(splits, equal)].append(equal)
    for kind, what in (
        ("classes", "in two classes, of which one must be wrong"),
        ("parts", "in training and in test, so that the test is easier than it should be"),
        ("class", "more than once in a class"),
    ):
        if groups := found[kind]:
            shown = "; ".join(_shown(splits, equal, classes) for equal in groups[:SHOWN])
            more = "; …" if len(groups) > SHOWN else ""
            pictures = "1 picture" if len(groups) == 1 else f"{len(groups)} pictures"
            yield f"{pictures} found {what}: {shown}{more}"


def _equal(splits: Sequence[Split], group: Sequence[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """The groups of candidates that are equal."""
    equal: dict[bytes, list[tuple[int, int]]] = defaultdict(list)
    for part, row in group:
        path = (splits[part].paths or ())[row]
        try:
            equal[_digest(path)].append((part, row))
        except OSError:  # the check of the files reports it
            continue
    return (own for own in equal.values() if len(own) > 1)


def _digest(path: Path | Span) -> bytes:
    if isinstance(path, Span):
        return hashlib.sha256(path.read_bytes()).digest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _kind(splits: Sequence[Split], equal: Sequence[tuple[int, int]]) -> str:
    if len({int(splits[part].labels[row]) for part, row in equal}) > 1:
        return "classes"
    return "parts" if len({part for part, _ in equal}) > 1 else "class"


def _shown(splits: Sequence[Split], equal: Sequence[tuple[int, int]], classes: Sequence[str]) -> str:
    """Two of a group of equal pictures, of different classes or parts where there are."""
    first = equal[0]
    other = max(equal[1:], key=lambda place: (_label(splits, place) != _label(splits, first), place[0] != first[0]))
    names = [splits[part].name(row) for part, row in (first, other)]
    root = os.path.commonpath(names) if all(Path(name).is_absolute() for name in names) else ""
    return " = ".join(
        f"{os.path.relpath(name, root) if root not in {'', name} else name} ('{classes[_label(splits, place)]}')"
        for name, place in zip(names, (first, other), strict=True)
    )


def _label(splits: Sequence[Split], place: tuple[int, int]) -> int:
    part, row = place
    return int(splits[part].labels[row])
