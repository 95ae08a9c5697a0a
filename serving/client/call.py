"""One request of the HTTP interface as a value: what is sent, whether it may be sent twice, what its answer means.

Both clients send it. It knows nothing of connections or of waiting; `serving.client.calls` has them all.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

Answer = TypeVar("Answer")
Sent = Callable[[int, int], None]
"""Hears how many bytes of a file have gone, and how many it has; from the beginning again where it is sent again."""

CHUNK = 2**18
"""Bytes of a file that are sent at a time."""


@dataclass(frozen=True)
class Upload:
    """A file as a body; opened anew for each attempt.

    Attributes:
        path: of the file.
        size: in bytes.
        sent: hears how far it is.
    """

    path: Path
    size: int
    sent: Sent

    def chunks(self) -> Iterator[bytes]:
        """Yield the file's bytes."""
        done = 0
        with self.path.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk
                done += len(chunk)
                self.sent(done, self.size)

    async def chunks_async(self) -> AsyncIterator[bytes]:
        """Yield the file's bytes, read in a thread."""
        own = self.chunks()
        while chunk := await asyncio.to_thread(next, own, b""):
            yield chunk


@dataclass(frozen=True)
class Call(Generic[Answer]):
    """One request.

    Attributes:
        method, path: of the route.
        read: makes the answer of an answer's body.
        more: query, headers and body, as httpx names them.
        upload: a file that is the body; or
        content: its bytes.
        repeatable: whether it may be sent again when nobody knows whether it was heard.
        done: the status that says, of a repeat, that the first one had been heard.
        join: puts the answers of two pages together, where the answer is a list that comes in pages.
    """

    method: str
    path: str
    read: Callable[[bytes], Answer]
    more: Mapping[str, Any] = field(default_factory=dict)
    upload: Upload | None = None
    content: bytes | None = None
    repeatable: bool = False
    done: int | None = None
    join: Callable[[Answer, Answer], Answer] | None = None

    def following(self, data: bytes) -> "Call[Answer] | None":
        """Return the call for the next page of a list, of which `data` is a page; None: it was the last."""
        after = None if self.join is None else json.loads(data).get("next")
        if after is None:
            return None
        params = {**self.more.get("params", {}), "after": after}
        return replace(self, more={**self.more, "params": params})
