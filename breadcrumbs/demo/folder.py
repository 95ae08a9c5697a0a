"""The demo's folder: made new, or emptied if an earlier demo made it, and kept from other demos while one runs."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.serving.processes.scratch import locked

MARK = ".breadcrumbs-demo"  # the file that says that a demo made its folder; locked while one runs
MARKED = b"this folder was made by `breadcrumbs demo`, which empties it when it runs again\n"


class DemoFailed(BreadcrumbsError):
    """A step did not do what it says."""


@contextlib.contextmanager
def own(out: Path) -> Iterator[int]:
    """Make the demo's folder, or empty one that an earlier demo made, and keep other demos from it until the end.

    Yields:
        A file descriptor; the folder is in use while any process has it open.

    Raises:
        DemoFailed: the folder is in use, or something else made it; nothing in it was touched.
    """
    try:
        if (out.is_symlink() or out.exists()) and not _is_demos(out):
            raise DemoFailed(
                f"{out} is not empty and was not made by a demo, so it is left as it is; name another folder with --out"
            )
        out.mkdir(parents=True, exist_ok=True)
        mark = os.open(out / MARK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise DemoFailed(f"{error.filename or out}: {error.strerror}; name another folder with --out") from error
    try:
        _empty(out, mark)
        yield mark
    finally:
        os.close(mark)


def _empty(out: Path, mark: int) -> None:
    """Empty the demo's folder but for its mark."""
    with contextlib.ExitStack() as stack:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for used in (out / "bundle", out / "store"):
                if used.is_dir():
                    stack.callback(os.close, locked(used))
        except OSError as error:
            raise DemoFailed(
                f"{out} is in use by another demo or by a server; stop it, or name another folder with --out"
            ) from error
        try:
            for path in out.iterdir():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                elif path.name != MARK:
                    path.unlink()
            os.pwrite(mark, MARKED, 0)
        except OSError as error:
            raise DemoFailed(f"{error.filename or out}: {error.strerror}; name another folder with --out") from error


def _is_demos(out: Path) -> bool:
    """Whether a folder is empty, or has a demo's mark."""
    if out.is_symlink() or not out.is_dir():
        return False
    mark = out / MARK
    return (mark.is_file() and not mark.is_symlink()) or not any(out.iterdir())
