"""Folders for a while, in the system's temporary one; those of a process that was killed are removed by the next.

Whoever has a folder holds a lock on it, which the system lets go of however the process ends. So a folder that can be
locked is nobody's, also where several containers share one place. It knows nothing of what is in them.
"""

import contextlib
import fcntl
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

LOG = logging.getLogger("breadcrumbs.folders")
PREFIX = "breadcrumbs-scratch-"
YOUNG = 60.0
"""Seconds in which a folder may be new and not locked yet."""


@contextlib.contextmanager
def scratch(what: str) -> Iterator[Path]:
    """Give an empty folder, and remove it at the end; `what` it is for stands in its name."""
    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory(prefix=f"{PREFIX}{what}-") as name:
        with contextlib.suppress(OSError):  # where folders cannot be locked, none is swept either
            stack.callback(os.close, locked(Path(name)))
        yield Path(name)


def sweep() -> None:
    """Remove the folders of processes that are gone."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another user's, in use, or gone meanwhile
            if time.time() - path.lstat().st_mtime < YOUNG:
                continue
            lock = locked(path)
            try:
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)
            LOG.info("%s was left by a process that was killed: removed", path)


def locked(path: Path, *, shared: bool = False) -> int:
    """Lock a folder until the number that is returned is closed; OSError: somebody else has it, and not `shared`."""
    number = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(number, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError:
        os.close(number)
        raise
    return number
