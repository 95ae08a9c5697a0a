"""A child process: started, listened to, stopped. It knows nothing of heads, snapshots or the store.

The child prints JSON objects, one a line, on its standard output. It is not trusted to end, to be brief, to be modest
or to speak JSON: it runs in a process group of its own, as `serving.processes.launch` sets it up, under limits of time
and memory; lines, their number and what is kept of its standard error are bounded.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

from breadcrumbs.serving.processes import launch

T = TypeVar("T")
LINE = 65_536
"""Bytes of one line at most."""
TAIL = 8_192
"""Bytes of standard error that are kept, its end."""
PATIENCE = 0.5
"""Seconds between asking the child to stop and stopping it."""
ENDED = 0.01
"""Seconds between two checks whether the child has ended."""
POLL = 0.2
"""Seconds between two checks of its memory."""


@dataclass(frozen=True)
class Limits:
    """What a child may take.

    Attributes:
        seconds: from its start to its end.
        memory: bytes of its own; what it maps from files does not count.
        cpu: what is idle, or a share of a busy machine's time too.
    """

    seconds: float
    memory: int
    cpu: launch.Cpu = "share"


@dataclass(frozen=True)
class Ending:
    """How a child ended.

    Attributes:
        code: its exit status, negative for a signal; none: it was stopped for breaking a limit.
        said: the last object that it printed.
        stderr: the end of its standard error.
        broken: the limit that it broke.
    """

    code: int | None
    said: dict[str, Any]
    stderr: str
    broken: str = ""


Process = subprocess.Popen[bytes]
Hear = Callable[[dict[str, Any]], Awaitable[None]]
Run = Callable[[Sequence[str], Hear, Limits], Awaitable[Ending]]
"""As `run` does: here, or on another machine."""


async def run(command: Sequence[str], hear: Hear, limits: Limits) -> Ending:
    """Run a child to its end. Being cancelled stops the child first.

    Args:
        command: program and arguments.
        hear: told every object that it prints.
        limits: what it may take.
    """
    if shutil.which(command[0]) is None:
        return Ending(None, {}, "", f"it could not be started: there is no program {command[0]}")
    try:
        process = _start(command, limits)
    except OSError as error:
        return Ending(None, {}, "", f"it could not be started: {error}")
    said: dict[str, Any] = {}

    async def listen(event: dict[str, Any]) -> None:
        said.clear()
        said.update(event)
        await hear(event)

    pipes = contextlib.ExitStack()
    try:  # to the end: of a pipe that is cancelled while it is connected, uvloop leaves the file open
        output, errors = await to_the_end(_readers(process, pipes))
    except BaseException:  # cancelled before anything was heard
        process.kill()
        process.wait()
        await to_the_end(_close(pipes))
        raise
    tail = bytearray()
    reading = asyncio.ensure_future(_tail(errors, tail))
    seen: dict[int, str] = {}
    watch = asyncio.ensure_future(_watch(process, limits.memory, seen))
    broken = ""
    try:
        async with asyncio.timeout(limits.seconds):
            await _lines(output, listen)
            await _ended(process)
    except TimeoutError:
        broken = f"it took longer than {limits.seconds:g} s"
    except ValueError as error:
        broken = str(error)
    finally:
        if watch.done():
            broken = f"it took more than {limits.memory} bytes of memory, which is the limit"
        watch.cancel()
        try:
            await to_the_end(_stop(process, reading, seen))
        finally:
            await to_the_end(_close(pipes))
    return Ending(None if broken else process.returncode, said, tail.decode(errors="replace"), broken)


def _start(command: Sequence[str], limits: Limits) -> Process:
    """Start a child with pipes for what it prints.

    Not by asyncio: uvloop runs Python's own code between fork and exec, where a lock that another thread had at the
    fork, as those of the store do, is never let go: child and server would wait for ever.
    """
    return subprocess.Popen(
        [sys.executable, "-I", launch.__file__, str(os.getpid()), limits.cpu, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",  # and not that of whoever has started the server, which may have modules of any name in it
    )


async def to_the_end(work: Awaitable[T]) -> T:
    """Run something to its end, however often whoever waits for it is cancelled meanwhile; that is raised after it."""
    task, cancelled = asyncio.ensure_future(work), False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
    return task.result()


async def _ended(process: Process) -> None:
    """Wait until a process has ended, whoever may have its pipes."""
    while process.poll() is None:  # noqa: ASYNC110 - nobody else tells
        await asyncio.sleep(ENDED)


async def _readers(process: Process, pipes: contextlib.ExitStack) -> tuple[asyncio.StreamReader, asyncio.StreamReader]:
    """Read what a child prints on its two pipes; `pipes` closes them, also where others still have their other ends."""
    return await _reader(process.stdout, pipes), await _reader(process.stderr, pipes)


async def _reader(pipe: IO[bytes] | None, pipes: contextlib.ExitStack) -> asyncio.StreamReader:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=LINE)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    pipes.callback(transport.close)
    return reader


async def _close(pipes: contextlib.ExitStack) -> None:
    """Close the pipes; a transport closes its file in the loop's next turn, which there may not be later."""
    pipes.close()
    for _ in range(2):
        await asyncio.sleep(0)


async def _lines(stream: asyncio.StreamReader, listen: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
    while True:
        try:
            line = await stream.readline()
        except ValueError as error:
            raise ValueError(f"it printed a line of more than {LINE} bytes") from error
        if not line:
            return
        try:
            event = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"it printed what is no JSON: {line[:80]!r}") from error
        await listen(_event(event, line))


def _event(value: object, line: bytes) -> dict[str, Any]:
    if isinstance(value, dict) and isinstance(value.get("event"), str):
        return value
    raise ValueError(f"it printed what is no object with an event: {line[:80]!r}")


async def _tail(stream: asyncio.StreamReader, kept: bytearray) -> None:
    while piece := await stream.read(TAIL):
        kept += piece
        del kept[:-TAIL]


async def _watch(process: Process, memory: int, seen: dict[int, str]) -> None:
    """Kill the child when it has more memory than it may; `seen` keeps the processes that it has started."""
    while True:
        own = family(process.pid)
        seen.update({pid: began(pid) for pid in own[1:] if pid not in seen})
        if sum(map(_memory, own)) > memory:
            break
        await asyncio.sleep(POLL)
    _signal(process, signal.SIGKILL)


def family(pid: int) -> list[int]:
    """Return a process and all its descendants; on systems without Linux's /proc the process alone."""
    found = [pid]
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += family(int(child))
    return found


def began(pid: int) -> str:
    """When a process began, as the machine counts; empty: it has ended, or nobody can tell."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    return ""


def _memory(pid: int) -> int:
    """Bytes that a process has for itself; 0 where nobody can tell."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return 1024 * int(line.split()[1])
    return 0


async def _stop(process: Process, reading: "asyncio.Future[None]", seen: dict[int, str]) -> None:
    """End the child and whatever it has started, also what has left its group and keeps its pipes."""
    if process.poll() is None:
        seen.update({pid: began(pid) for pid in family(process.pid)[1:]})
        _signal(process, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(_ended(process), PATIENCE)
    if process.poll() is None:
        seen.update({pid: began(pid) for pid in family(process.pid)[1:]})
    _signal(process, signal.SIGKILL)
    for pid, start in seen.items():
        if start and began(pid) == start:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
    await _ended(process)
    await asyncio.wait([reading], timeout=PATIENCE)
    reading.cancel()


def _signal(process: Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            if process.poll() is None:  # it has not made its group yet
                process.send_signal(number)
