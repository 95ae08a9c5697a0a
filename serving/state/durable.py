"""Files written durably: flushed before they get their name, and the name flushed before the call returns.

A file is written beside its place, flushed, then renamed or linked there; its folder, and every folder above it up to a
root, is flushed after that. So a crash or a power cut leaves the old file, the new one, or none, and never a part. It
knows nothing of what is in the files.
"""

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

LEFT = re.compile(r"#[0-9]+$")
"""The end of the name of a file that is being written; files of killed writers keep it."""
TRIES = 10
"""Attempts at a write whose empty folder is removed at the same moment."""


def write(root: Path, path: Path, source: bytes | Path, *, exclusive: bool = False) -> None:
    """Write bytes, or a copy of a file, to `path`; its folders are made where they are missing.

    Args:
        root: an existing folder above `path`.
        path: where to.
        source: the bytes, or the file that has them.
        exclusive: whether there must be nothing at `path` yet.

    Raises:
        FileExistsError: `exclusive`, and there is something.
        OSError: it could not be written or flushed. If `exclusive`, there is nothing at `path` then.
    """
    for left in reversed(range(TRIES)):
        try:
            _write(root, path, source, exclusive=exclusive)
        except FileNotFoundError:
            if not left or not (isinstance(source, bytes) or source.exists()):
                raise
        else:
            return


def _write(root: Path, path: Path, source: bytes | Path, *, exclusive: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}#{secrets.randbelow(10**12)}")
    try:
        with temporary.open("xb") as file:
            if isinstance(source, bytes):
                file.write(source)
            else:
                with source.open("rb") as other:
                    shutil.copyfileobj(other, file, 2**20)
            file.flush()
            os.fsync(file.fileno())
        if exclusive:
            os.link(temporary, path)
        else:
            temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    try:
        flush_folders(root, path.parent)
    except OSError:
        if exclusive:  # after an error there must be nothing at this path
            path.unlink(missing_ok=True)
        raise


def make_folder(path: Path) -> None:
    """Make a folder and those above it, and flush each that is new into the one that it is in.

    Raises:
        OSError: it cannot be made, or something else is there.
    """
    missing = [place for place in (path, *path.parents) if not place.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for place in missing:
        with contextlib.suppress(PermissionError):  # of a parent that may be passed through and not read
            flush(place.parent)


def flush_folders(root: Path, folder: Path) -> None:
    """Flush a folder and every one above it up to and with `root`."""
    while True:
        flush(folder)
        if folder == root or root not in folder.parents:
            return
        folder = folder.parent


def flush(place: Path) -> None:
    """Flush a file or a folder to the disk."""
    number = os.open(place, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def leftovers(root: Path) -> Iterator[Path]:
    """Yield the unfinished files of killed writers, and those that are being written now."""
    for folder, _, names in os.walk(root):  # which passes over what goes meanwhile
        yield from (Path(folder, name) for name in names if LEFT.search(name))


def prune(root: Path) -> None:
    """Remove the empty folders two levels below a root, as `refits/<id>` is; a full one stays."""
    for folder in root.glob("*/*/"):
        with contextlib.suppress(OSError):
            folder.rmdir()
