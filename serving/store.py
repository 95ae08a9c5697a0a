"""Where the server keeps things: named objects, written whole or not at all, in a folder now and an object store alike.

    heads/000007/{head.safetensors, head.onnx, head.json}   serving.heads
    activations/00000012.json                               serving.activations
    snapshots/<sha256>.{safetensors, json}                  serving.snapshots
    refits/<id>/{request.json, events.jsonl, …}           serving.jobs

Two ways to write: `create`, which succeeds for one writer only, and `replace`. Nothing is ever changed in place. It
knows names and bytes, not what they mean.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, ObjectStore

from models.errors import BreadcrumbsError


class StoreError(BreadcrumbsError):
    """The store cannot be read or written, or what is in it is damaged."""


class NotFound(StoreError):
    """There is no such head, snapshot or refit."""


class Conflict(StoreError):
    """Someone else was first, or the thing is in use."""


class Store:
    """Named objects. Every method raises `StoreError` when the medium fails."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    @classmethod
    def open(cls, folder: Path) -> "Store":
        """Open a folder as a store; it is made if missing."""
        with _telling(str(folder)):
            return cls(LocalStore(folder.absolute(), mkdir=True))

    async def get(self, name: str) -> bytes:
        """Return an object's bytes.

        Raises:
            NotFound: there is none of that name.
        """
        with _telling(name):
            found = await obstore.get_async(self._objects, name)
            return bytes(await found.bytes_async())

    async def create(self, name: str, data: bytes) -> None:
        """Write an object that must not exist yet.

        Raises:
            Conflict: it exists.
        """
        with _telling(name):
            await obstore.put_async(self._objects, name, data, mode="create")

    async def replace(self, name: str, data: bytes) -> None:
        """Write an object, whether it exists or not; a reader sees the old one or the new one."""
        with _telling(name):
            await obstore.put_async(self._objects, name, data)

    async def put_file(self, name: str, path: Path) -> None:
        """Write a file as an object, in pieces, never whole in memory."""
        with _telling(name):
            await obstore.put_async(self._objects, name, path)

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

    async def names(self, prefix: str) -> list[str]:
        """Return the names of all objects under a prefix, sorted."""
        with _telling(prefix):
            return sorted(item["path"] for item in await obstore.list(self._objects, prefix).collect_async())

    async def delete(self, name: str) -> None:
        """Remove an object; none of that name is no error."""
        with contextlib.suppress(NotFound), _telling(name):
            await obstore.delete_async(self._objects, name)


@contextlib.contextmanager
def _telling(name: str) -> Iterator[None]:
    """Turn what the medium raises into this module's errors; its own words go to the first line only."""
    try:
        yield
    except AlreadyExistsError as error:
        raise Conflict(f"{name} exists already") from error
    except FileNotFoundError as error:
        raise NotFound(f"there is no {name} in the store") from error
    except (BaseError, OSError, ValueError) as error:
        raise StoreError(f"store: {name}: {str(error).partition(chr(10))[0][:300]}") from error
