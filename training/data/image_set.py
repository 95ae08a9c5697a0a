"""The digest of a set of images, by which ids of two snapshots are known to number the same images.

It is over what identifies the images, in the order of their ids, and not over their labels: who corrects a label has
the same images. It knows nothing of snapshots.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from breadcrumbs.training.data.objects import Span
from breadcrumbs.training.data.split import DataError, Split


def digest(split: Split) -> str:
    """Return the sha256, in hex, of the images of a whole set: of the pixels, or of each file's name and size.

    Names are relative to the folder that all files share, so the set may be moved. Bytes of files are not read: that
    would take as long as an epoch does, for every command, and a picture that is changed hardly keeps its size.

    Raises:
        DataError: a file is gone.
    """
    order = np.argsort(split.ids, kind="stable")
    found = hashlib.sha256(split.ids[order].astype("<i8").tobytes())
    if split.pixels is not None:
        found.update(str(split.pixels.shape[1:]).encode())
        for row in order:
            found.update(np.ascontiguousarray(split.pixels[row]).data)
        return found.hexdigest()
    paths = split.paths or ()
    names = _relative([_parts(path) for path in paths])
    for row in order:
        found.update(f"{names[row]}\0{_size(paths[row])}\n".encode("utf-8", "surrogateescape"))
    return found.hexdigest()


def _parts(path: Path | Span) -> tuple[str, ...]:
    """The folders that lead to an image, and its name: within an archive, after the archive's own."""
    if isinstance(path, Path):
        return path.parts
    return (*path.place.split("/"), *path.member.split("/"))


def _relative(names: Sequence[tuple[str, ...]]) -> list[str]:
    """The names without the folders that all of them share."""
    if not names:
        return []
    low, high = min(names), max(names)  # what these two share, all share
    shared = 0
    while shared < min(len(low), len(high)) - 1 and low[shared] == high[shared]:
        shared += 1
    return ["/".join(name[shared:]) for name in names]


def _size(path: Path | Span) -> int:
    """An image's bytes; −1 for an object in a bucket, which would take a request for each."""
    if isinstance(path, Span):
        return -1 if path.length is None else path.length
    try:
        return path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
