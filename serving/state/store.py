"""The store: named objects, written completely or not at all, in a folder or an object store.

    heads/000007/{head.safetensors, head.onnx, known.safetensors, head.json}   serving.state.heads
    activations/00000012.json                               serving.state.activation_log
    snapshots/<sha256>.{safetensors, json}                  serving.state.snapshots
    priors/<name>.json                                      serving.state.priors
    refits/<id>/{request.json, events.jsonl, …}             serving.refits.jobs
    leases/<name>/00000001.json                             serving.state.lease
    pairs/<old>-<new>/<count>-<token>.{old, new}.safetensors serving.state.pairs
    answers/<segment>                                       serving.learning.answers
    indexes/<segment>                                       serving.learning.indexes
    examples/<segment>                                      serving.learning.examples
    erased/<mark>                                           serving.state.erasure

There are two ways to write: `create`, which succeeds for one writer only, and `replace`. Nothing is changed in place.
In a folder, data is on the disk when the call returns. It knows names and bytes, not what they mean.
"""

import asyncio
import contextlib
import errno
import hashlib
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.serving.state import durable

SCHEMES = ("s3", "gs", "az")
RECOUNT = 60.0
"""Seconds before the total size is counted again; until then, what this server adds is added to it."""
AT_ONCE = 16
"""Number of objects that are read at the same time."""
FULL = {errno.ENOSPC, errno.EDQUOT}


class StoreError(BreadcrumbsError):
    """The store cannot be read or written, or what is in it is damaged."""


class StoreFull(StoreError):
    """There is no room left; nothing was stored."""


class NotFound(StoreError):
    """There is no such head, snapshot, refit or example."""


class Conflict(StoreError):
    """Someone else was first, or the thing is in use."""


@dataclass(frozen=True)
class Item:
    """An object: name, bytes, and when it was written."""

    name: str
    size: int
    written: datetime


class Store:
    """Named objects. Every method raises `StoreError` when the medium fails, `StoreFull` when it has no room.

    Args:
        objects: the medium.
        folder: where it is, if it is a folder.
        most: largest total size of all objects, in bytes; 0 means no limit.
    """

    def __init__(self, objects: ObjectStore, folder: Path | None = None, most: int = 0) -> None:
        self._objects = objects
        self._folder = folder
        self._most = most
        self._sum, self._summed = 0, -RECOUNT

    @property
    def folder(self) -> Path | None:
        """Where it is, if it is a folder."""
        return self._folder

    @classmethod
    def open(cls, place: str | Path, most: int = 0) -> "Store":
        """Open a folder, which is made if missing, or `s3://`, `gs://` or `az://` with a bucket and a prefix.

        An object store's keys and region come from the environment, as its own tools take them (`AWS_…`, `GOOGLE_…`,
        `AZURE_…`).
        """
        scheme, colon, _ = str(place).partition("://")
        with _telling(str(place)):
            if not colon:
                folder = Path(place).absolute()
                if folder.exists() and not folder.is_dir():
                    raise StoreError(f"store {str(place)!r:.200}: expected a folder, got a file")
                try:
                    durable.make_folder(folder)
                except FileNotFoundError as error:  # as below /proc, where nothing can be made
                    raise StoreError(f"store: {folder}: {error.strerror}") from error
                return cls(LocalStore(folder), folder, most)
            if scheme not in SCHEMES:
                raise StoreError(
                    f"store {str(place)!r:.200}: expected a folder or {', '.join(SCHEMES)}://BUCKET/PREFIX"
                )
            return cls(from_url(str(place)), None, most)

    async def get(self, name: str) -> bytes:
        """Return an object's bytes.

        Raises:
            NotFound: there is none of that name.
        """
        with _telling(name):
            found = await obstore.get_async(self._objects, name)
            return bytes(await found.bytes_async())

    async def get_parts(self, name: str, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return parts of an object, each from a first byte, so many bytes.

        Raises:
            NotFound: there is none of that name.
            StoreError: it is shorter.
        """
        asked = [span for span in spans if span[1]]
        with _telling(name):
            starts, sizes = [start for start, _ in asked], [size for _, size in asked]
            found = await obstore.get_ranges_async(self._objects, name, starts=starts, lengths=sizes) if asked else []
        parts = iter(found)
        return [bytes(next(parts)) if size else b"" for _, size in spans]

    async def create(self, name: str, data: bytes) -> None:
        """Write an object that must not exist yet.

        Raises:
            Conflict: it exists.
        """
        with _telling(name):
            if self._folder is None:
                await obstore.put_async(self._objects, name, data, mode="create")
            else:
                await asyncio.to_thread(durable.write, self._folder, self._folder / name, data, exclusive=True)
            self._sum += len(data)

    async def replace(self, name: str, data: bytes) -> None:
        """Write an object, whether it exists or not; a reader sees the old one or the new one."""
        await self._put(name, data, len(data))

    async def put_file(self, name: str, path: Path) -> None:
        """Write a file as an object, in pieces, never whole in memory."""
        await self._put(name, path, await asyncio.to_thread(os.path.getsize, path))

    async def _put(self, name: str, source: bytes | Path, size: int) -> None:
        with _telling(name):
            if self._folder is None:
                await obstore.put_async(self._objects, name, source)
            else:
                await asyncio.to_thread(durable.write, self._folder, self._folder / name, source)
            self._sum += size

    async def move(self, name: str, to: str) -> None:
        """Give an object another name; one that has that name is replaced.

        Raises:
            NotFound: there is none of the first name.
        """
        with _telling(name):
            await obstore.rename_async(self._objects, name, to)
            if self._folder is not None:
                for place in (self._folder / to, self._folder / name):
                    await asyncio.to_thread(durable.flush_folders, self._folder, place.parent)

    async def fetch(self, name: str, path: Path) -> str:
        """Write an object to a file, in pieces, and return its sha256.

        Raises:
            NotFound: there is none of that name.
        """
        state = hashlib.sha256()
        with _telling(name):
            found = await obstore.get_async(self._objects, name)
            with path.open("wb") as file:
                async for chunk in found.stream():
                    await asyncio.to_thread(file.write, chunk)
                    state.update(chunk)
        return state.hexdigest()

    async def sha256(self, name: str) -> str:
        """Return the sha256 of an object, read in pieces; raises as `fetch` does."""
        state = hashlib.sha256()
        with _telling(name):
            async for chunk in (await obstore.get_async(self._objects, name)).stream():
                await asyncio.to_thread(state.update, chunk)
        return state.hexdigest()

    async def get_all(self, names: Iterable[str]) -> dict[str, bytes]:
        """Return the bytes of several objects, a few read at a time; one that is not there is left out."""
        wanted, found = list(names), dict[str, bytes]()

        async def read(name: str) -> None:
            with contextlib.suppress(NotFound):
                found[name] = await self.get(name)

        for start in range(0, len(wanted), AT_ONCE):
            await asyncio.gather(*map(read, wanted[start : start + AT_ONCE]))
        return found

    async def items(self, prefix: str = "") -> list[Item]:
        """Return all objects under a prefix, by name."""
        with _telling(prefix or "the store"):
            found = await obstore.list(self._objects, prefix or None).collect_async()
        return sorted((Item(o["path"], o["size"], o["last_modified"]) for o in found), key=lambda item: item.name)

    async def names(self, prefix: str) -> list[str]:
        """Return the names of all objects under a prefix, sorted."""
        return [item.name for item in await self.items(prefix)]

    async def folders(self, prefix: str) -> list[str]:
        """Return the names of what lies right under a prefix and has objects under it, sorted."""
        with _telling(prefix):
            found = await obstore.list_with_delimiter_async(self._objects, prefix)
        return sorted(path.rpartition("/")[2] for path in found["common_prefixes"])

    async def has(self, name: str) -> bool:
        """Tell whether there is an object of that name."""
        try:
            with _telling(name):
                await obstore.head_async(self._objects, name)
        except NotFound:
            return False
        return True

    async def delete(self, name: str) -> None:
        """Remove an object; none of that name is no error."""
        with contextlib.suppress(NotFound), _telling(name):
            await obstore.delete_async(self._objects, name)
            self._summed = -RECOUNT

    async def check_room(self, size: int) -> None:
        """Refuse what would make the store larger than it may be.

        Raises:
            StoreFull: naming both.
        """
        if not self._most:
            return
        if time.monotonic() - self._summed > RECOUNT:
            self._sum, self._summed = sum(item.size for item in await self.items()), time.monotonic()
        if self._sum + size > self._most:
            raise StoreFull(f"the store has {self._sum} bytes and {size} came; the limit is {self._most}")

    def leftovers(self) -> list[Path]:
        """Return the files that a writer has not finished, or never will; readers never see them."""
        return [] if self._folder is None else list(durable.leftovers(self._folder))

    def prune(self) -> None:
        """Remove the folders of what was deleted; an object store has none."""
        if self._folder is not None:
            durable.prune(self._folder)


@contextlib.contextmanager
def _telling(name: str) -> Iterator[None]:
    """Turn errors of the medium into this module's errors, with the first line of their message."""
    try:
        yield
    except (AlreadyExistsError, FileExistsError) as error:
        raise Conflict(f"{name} exists already") from error
    except FileNotFoundError as error:
        raise NotFound(f"there is no {name} in the store") from error
    except (BaseError, OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        kind = StoreFull if is_full(error) else StoreError
        raise kind(f"store: {name}: {said.partition(chr(10))[0][:300]}") from error


def is_full(error: BaseException) -> bool:
    """Whether an error means that the disk or the quota is full."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in FULL
    found = re.search(r"\(os error ([0-9]+)\)", str(error))  # of the medium, which has no number of its own
    return found is not None and int(found[1]) in FULL
