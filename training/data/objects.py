"""Bytes of a file or of an object in a bucket, whole or a part; and an image that lies in one, as a path would.

A place is a local path, or a URL (`s3://`, `gs://`, `az://`, `https://`, `http://`) whose keys come from the
environment, as the providers' own tools take them. It knows nothing of images, labels or archives.
"""

import io
import os
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import HTTPStore, ObjectStore, from_url

SCHEMES = ("s3", "gs", "az", "http", "https")


def is_url(place: str) -> bool:
    """Whether a place is an object in a bucket rather than a local file."""
    return place.partition("://")[0] in SCHEMES and "://" in place


def size(place: str) -> int:
    """Return the size in bytes.

    Raises:
        OSError: it does not exist, or cannot be reached.
    """
    if not is_url(place):
        return Path(place).stat().st_size
    store, name = _object(place)
    try:
        return int(obstore.head(store, name)["size"])
    except (BaseError, FileNotFoundError, ValueError) as error:
        raise _said(error) from error


def read(place: str, start: int = 0, length: int | None = None) -> bytes:
    """Return `length` bytes from `start`, or all from there to the end.

    Raises:
        OSError: it is not there, cannot be read, or is shorter.
    """
    if not is_url(place):
        with Path(place).open("rb") as file:
            file.seek(start)
            data = file.read(-1 if length is None else length)
    elif length == 0:
        return b""
    else:
        store, name = _object(place)
        try:
            if length is None and start == 0:
                data = bytes(obstore.get(store, name).bytes())
            else:
                end = {"length": length} if length is not None else {"end": size(place)}
                data = bytes(obstore.get_range(store, name, start=start, **end))
        except (BaseError, FileNotFoundError, ValueError) as error:
            raise _said(error) from error
    if length is not None and len(data) != length:
        raise OSError(f"cut short: {len(data)} bytes from byte {start}, expected {length}")
    return data


def _object(place: str) -> tuple[ObjectStore, str]:
    parts = urlsplit(place)
    if not parts.netloc or not parts.path.strip("/") or parts.query or parts.fragment:
        raise OSError("not the URL of an object: expected SCHEME://BUCKET/NAME without ? and #")
    return _bucket(f"{parts.scheme}://{parts.netloc}"), unquote(parts.path.lstrip("/"))


@lru_cache(maxsize=64)
def _bucket(root: str) -> ObjectStore:
    """A bucket's client, cached for the process."""
    if root.startswith("http"):
        return HTTPStore.from_url(root, client_options={"allow_http": True})
    return from_url(root)


def _said(error: Exception) -> OSError:
    """The first line of a store's error, in the form of a file's error."""
    text = str(error).strip().partition("\n")[0][:300]
    return FileNotFoundError(2, f"not there: {text}") if isinstance(error, FileNotFoundError) else OSError(text)


@dataclass(frozen=True, slots=True)
class Span:
    """An image's bytes, in a bucket or within a file; it can be used in place of a `Path`.

    Attributes:
        place: a path or a URL.
        start, length: the bytes; length None means to the end.
        member: their name within an archive.
    """

    place: str
    start: int = 0
    length: int | None = None
    member: str = ""

    def __str__(self) -> str:
        return f"{self.place}:{self.member}" if self.member else self.place

    @property
    def remote(self) -> bool:
        """Whether it is read over the network."""
        return is_url(self.place)

    def read_bytes(self) -> bytes:
        """All its bytes; raises as `read` does."""
        return read(self.place, self.start, self.length)

    def open(self, mode: str = "rb") -> io.BytesIO:
        """Its bytes as a file; raises as `read` does."""
        if mode != "rb":
            raise ValueError(f"mode {mode!r}: expected 'rb'; this is a bug")
        return io.BytesIO(self.read_bytes())

    def resolve(self) -> "Span":
        """Its single path, as a file has."""
        return self if self.remote else replace(self, place=os.path.realpath(self.place))
