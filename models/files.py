"""Files that are whole or absent: written under a temporary name, then renamed; and their sha256.

It knows nothing of what is in them.
"""

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import IO

KINDS = {stat.S_IFIFO: "a FIFO", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket"}


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading; others, such as a FIFO or a device, may never end and are refused.

    Raises:
        OSError: it is not there, cannot be read, or is not a regular file; `strerror` says which.
    """
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # O_NONBLOCK: do not wait for a FIFO's writer
    kind = os.fstat(number).st_mode
    if not stat.S_ISREG(kind):
        os.close(number)
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        came = KINDS.get(stat.S_IFMT(kind), "something else")
        raise OSError(errno.EINVAL, f"expected a regular file, got {came}", str(path))
    return os.fdopen(number, "rb")


def read_regular(path: Path) -> bytes:
    """Return the bytes of a file; raises as `open_regular` does."""
    with open_regular(path) as file:
        return file.read()


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader sees the old file or the new one, never a part."""
    with writing_whole(path) as file:
        file.write(data)


@contextlib.contextmanager
def writing_whole(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file to write. It replaces `path` on success; after an error `path` is unchanged."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hex, reading it in pieces; raises as `open_regular` does."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
