"""The load: a closed loop over keep-alive connections, in a process of its own that takes as little CPU as it can.

    python benchmarks/serving/load.py     standard input: a line of JSON, the Spec; standard output: JSON, the rows

The server shares the cores with it, so requests are built before it begins, of an answer only the end is looked for,
and what the answers say is checked when the last one is in. It ends after `seconds`, or when standard input does;
answers under way are waited for then. A row is `[finished, took, verdict]`, in seconds of the system's monotonic clock.

Verdicts: `right`, `wrong`, `unreadable`, `status N`, `closed`, `refused`, `no HTTP`, `no answer`.

It knows nothing of how servers are started or of what is made of the rows.
"""

import asyncio
import gc
import itertools
import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, cast
from urllib.parse import quote

import numpy as np
import uvloop
from wire import FORMS, Classes, Form, request

from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.images.preprocess import Preprocess

PATIENCE = 30.0
"""Seconds that answers under way at the end are waited for."""
AGAIN = 0.05
"""Seconds until a connection that was refused is tried again."""
TOLERANCE = 1e-3
"""Of a probability; on a GPU, which rounds products to TF32, 1e-2."""


@dataclass(frozen=True)
class Spec:
    """What to ask of whom.

    Attributes:
        form: one of `wire.FORMS`.
        port: of the server, on this machine.
        folder: with `photos/` and `bundle/manifest.json`.
        expected: a file of probabilities (N, C), a row a photo, for each version of a head; under "" for a server that
            tells no version.
        concurrency: connections, each with one request at a time.
        seconds: until it ends; none: when standard input does.
        pause: seconds from an answer to the connection's next request.
        tolerance: of a probability.
        query: parameters of every request, as `name=value&…`.
    """

    form: str
    port: int
    folder: str
    expected: dict[str, str]
    concurrency: int
    seconds: float | None = None
    pause: float = 0.0
    tolerance: float = TOLERANCE
    query: str = ""


class Answer(NamedTuple):
    """An HTTP response, and whether the server closes the connection behind it."""

    status: int
    body: bytes
    closes: bool


class Row(NamedTuple):
    """What became of one request; `answer` is the verdict where there was none."""

    finished: float
    took: float
    photo: int
    answer: Answer | str


class Failure(Exception):
    """A request without an HTTP response."""


def parse(data: bytes) -> Answer | None:
    """Return the HTTP response that `data` holds, none while its end is missing.

    Raises:
        ValueError: it is no HTTP response.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = data[:end].lower() + b"\r\n"
    if not head.startswith(b"http/1.1 "):
        raise ValueError(f"no HTTP response: {data[:20]!r}")
    place = head.find(b"\r\ncontent-length:")
    if place >= 0:
        size = int(head[place + 17 : head.index(b"\r\n", place + 17)])
        body = data[end + 4 : end + 4 + size] if len(data) >= end + 4 + size else None
    elif b"\r\ntransfer-encoding: chunked\r\n" in head:
        body = unchunk(data, end + 4)
    else:
        raise ValueError("an HTTP response without a length")
    return None if body is None else Answer(int(head[9:12]), body, b"\r\nconnection: close\r\n" in head)


def unchunk(data: bytes, place: int) -> bytes | None:
    """Return the body whose chunks begin at `place`, none while its end is missing."""
    parts = []
    while (line := data.find(b"\r\n", place)) >= 0:
        size = int(data[place:line].partition(b";")[0], 16)
        if not size:
            return b"".join(parts) if data.endswith(b"\r\n\r\n") else None
        parts.append(data[line + 2 : line + 2 + size])
        place = line + 4 + size
    return None


class Connection(asyncio.Protocol):
    """A keep-alive connection that carries one request at a time."""

    def __init__(self) -> None:
        self.open = True
        self._received = b""
        self._waiting: asyncio.Future[Answer] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop has its own

    def ask(self, data: bytes) -> "asyncio.Future[Answer]":
        """Send a request; its response, or a Failure, comes with the future."""
        self._received = b""
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        return self._waiting

    def data_received(self, data: bytes) -> None:
        self._received = self._received + data if self._received else data
        if self._waiting is None or self._waiting.done():
            return
        try:
            answer = parse(self._received)
        except ValueError:
            self._waiting.set_exception(Failure("no HTTP"))
            self.close()
            return
        if answer is not None:
            self._waiting.set_result(answer)
            if answer.closes:
                self.close()

    def connection_lost(self, _: Exception | None) -> None:
        self.open = False
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(Failure("closed"))

    def close(self) -> None:
        """Ask nothing more on it."""
        self.open = False
        self._transport.close()


class Crowd:
    """Users of one server, each with one request under way until the end.

    Args:
        port: of the server.
        requests: the bytes of a request for each photo.
        pause: seconds from an answer to the user's next request.
    """

    def __init__(self, port: int, requests: list[bytes], pause: float) -> None:
        self._port, self._requests, self._pause = port, requests, pause
        self._photos = itertools.cycle(range(len(requests)))
        self._ending = False
        self.rows: list[Row] = []

    async def run(self, users: int, until: asyncio.Future[None]) -> None:
        """Ask until `until` is done and every answer is in, or PATIENCE is at its end."""
        tasks = [asyncio.create_task(self._user()) for _ in range(users)]
        await until
        self._ending = True
        _, late = await asyncio.wait(tasks, timeout=PATIENCE)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _user(self) -> None:
        connection = None
        while not self._ending:
            photo, began = next(self._photos), time.perf_counter()
            answer: Answer | str = "no answer"  # stays so where the task is cancelled
            try:
                if connection is None or not connection.open:
                    connection = await self._connect()
                answer = await connection.ask(self._requests[photo])
            except Failure as failure:
                answer = str(failure)
            finally:
                now = time.perf_counter()
                self.rows.append(Row(now, now - began, photo, answer))
            if pause := AGAIN if answer == "refused" else self._pause:
                await asyncio.sleep(pause)
        if connection is not None and connection.open:
            connection.close()

    async def _connect(self) -> Connection:
        try:
            _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", self._port)
        except OSError as error:
            raise Failure("refused") from error
        return connection


def verdict(row: Row, form: Form, expected: dict[str, Floats], tolerance: float = TOLERANCE) -> str:
    """Say whether an answer is right, or what is the matter with it."""
    if isinstance(row.answer, str):
        return row.answer
    if row.answer.status != 200:
        return f"status {row.answer.status}"
    try:
        version, classes = form.read(row.answer.body)
        wanted = expected["" if version is None else str(version)][row.photo]
        return "right" if right(classes, wanted, tolerance) else "wrong"
    except (ValueError, LookupError, TypeError):
        return "unreadable"


def right(classes: Classes, expected: Floats, tolerance: float) -> bool:
    """Tell whether the classes are the most probable ones, in order, with the probabilities expected (C,)."""
    if not classes or max(expected) - classes[0][1] > tolerance:
        return False
    given = [probability for _, probability in classes]
    near = all(abs(expected[index] - probability) <= tolerance for index, probability in classes)
    return near and given == sorted(given, reverse=True) and len({index for index, _ in classes}) == len(classes)


def main() -> None:
    """Run a Spec and print the rows."""
    spec = Spec(**json.loads(sys.stdin.readline()))
    folder, form = Path(spec.folder), FORMS[spec.form]
    if spec.query:
        form = replace(form, path=f"{form.path}?{quote(spec.query, safe='=&,')}")
    manifest = json.loads((folder / "bundle" / "manifest.json").read_text())
    transform = Preprocess.model_validate(manifest["preprocess"])
    photos = [path.read_bytes() for path in sorted((folder / "photos").iterdir())]
    requests = [request(form, manifest["name"], form.build(photo, transform)) for photo in photos]
    crowd = Crowd(spec.port, requests, spec.pause)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        until = loop.create_future()
        if spec.seconds is not None:
            loop.call_later(spec.seconds, until.set_result, None)
        else:
            loop.add_reader(sys.stdin, lambda: until.done() or until.set_result(None))
        await crowd.run(spec.concurrency, until)

    gc.freeze()
    gc.disable()  # a collection would be seen in the tail
    uvloop.run(run())
    expected = {version: np.load(path) for version, path in spec.expected.items()}
    json.dump(
        [[row.finished, row.took, verdict(row, form, expected, spec.tolerance)] for row in crowd.rows], sys.stdout
    )


if __name__ == "__main__":
    main()
