"""Several processes on one port and one store, each a whole server; what is live they learn from the store.

The one that is started keeps the others: it holds their sockets, starts them again when they die or no longer answer,
and ends them in order. The kernel spreads connections over the sockets; they stay open over a restart, so whoever
connects meanwhile waits and is not refused. Refits run in the first only. It computes nothing, and knows nothing of
HTTP, models or the store.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path

from prometheus_client import multiprocess

from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.images.budget import Budget
from breadcrumbs.models.machine import cores
from breadcrumbs.serving import environment, logs
from breadcrumbs.serving.http.listening import shared
from breadcrumbs.serving.processes.scratch import scratch
from breadcrumbs.serving.setting_names import with_notes
from breadcrumbs.serving.settings import Settings

LOG = logging.getLogger("breadcrumbs.workers")
PULSE = 2.0
"""Seconds between two questions whether a process still answers."""
PATIENCE = 30.0
"""Seconds that it may take to answer; then it is killed."""
GRACE = 40.0
"""Seconds that it may take to end; a server takes 30 for its requests."""
PAUSE = 0.5
"""Seconds before one that died is started again; twice as long each time, while it does not live for a minute."""


class WorkersError(BreadcrumbsError):
    """The processes cannot be started."""


def run(settings: Settings) -> None:
    """Serve with `settings.workers` processes until SIGTERM or SIGINT, then end them in order.

    Raises:
        AddressError: the address cannot be listened on.
        WorkersError: the first process did not start; it has said why.
    """
    logs.configure(settings.log_format, settings.log_level)
    environment.warn()
    with contextlib.ExitStack() as stack:
        sockets = shared(settings.host, settings.port, settings.workers)
        for one in sockets:
            stack.callback(one.close)
        numbers = stack.enter_context(scratch("metrics"))
        asyncio.run(_keep_all(settings, sockets, numbers))


def share(settings: Settings, index: int) -> Settings:
    """Return the settings of one process: its part of the cores, and refits in the first alone."""
    threads = settings.threads or max(1, cores() // settings.workers)
    refit = "elsewhere" if settings.refit == "here" and index else settings.refit
    decoding = Budget(settings.decode_memory).size // settings.workers
    return settings.model_copy(update={"threads": threads, "decode_memory": decoding, "refit": refit})


async def _keep_all(settings: Settings, sockets: list[socket.socket], numbers: Path) -> None:
    """Keep all processes until a signal; the first alone until it serves, since it prepares the store."""
    stop = asyncio.Event()

    def end() -> None:
        stop.set()
        for one in sockets:  # each process closes its own; a connection that nobody takes must not wait here
            one.close()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end)
    address = sockets[0].getsockname()
    kept = [_Kept(share(settings, index), index, one, numbers, stop) for index, one in enumerate(sockets)]
    tasks = [asyncio.create_task(kept[0].keep())]
    await asyncio.wait([tasks[0], asyncio.ensure_future(kept[0].serves.wait())], return_when=asyncio.FIRST_COMPLETED)
    if kept[0].serves.is_set():
        tasks += [asyncio.create_task(one.keep()) for one in kept[1:]]
    announcing = asyncio.create_task(_announce(kept, address))
    await asyncio.gather(*tasks)
    announcing.cancel()


async def _announce(kept: list["_Kept"], address: tuple[str, int]) -> None:
    for one in kept:
        await one.serves.wait()
    LOG.info("%d processes serve on %s:%d", len(kept), *address[:2])


class _Kept:
    """One process, started anew whenever it dies."""

    def __init__(
        self, settings: Settings, index: int, listening: socket.socket, numbers: Path, stop: asyncio.Event
    ) -> None:
        self._settings = settings
        self._index = index
        self._listening = listening
        self._numbers = numbers
        self._stop = stop
        self.serves = asyncio.Event()

    async def keep(self) -> None:
        pause = PAUSE
        while not self._stop.is_set():
            began = time.monotonic()
            code = await self._once()
            if self._stop.is_set():
                return
            if not self.serves.is_set():
                raise WorkersError(f"process {self._index} did not start: exit status {code}; what it said is above")
            pause = PAUSE if time.monotonic() - began > 60 else min(2 * pause, 30.0)
            LOG.error("process %d ended with %d; it is started again in %.1f s", self._index, code, pause)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), pause)

    async def _once(self) -> int:
        """Run one process to its end and return its exit status."""
        ours, theirs = socket.socketpair()
        handles = (self._listening.fileno(), theirs.fileno())
        process = await asyncio.create_subprocess_exec(
            # env gives one variable more, which the library of the metrics reads when it is imported
            *(
                "env",
                f"PROMETHEUS_MULTIPROC_DIR={self._numbers}",
                sys.executable,
                "-P",
                "-m",
                "breadcrumbs.serving.workers",
            ),
            *(self._settings.model_dump_json(), *map(str, handles)),
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=handles,
            process_group=0,  # so that Ctrl-C comes to us alone; in our session, since the kernel weighs sessions
        )
        theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours)
        asking = asyncio.create_task(self._ask(process, reader, writer))
        ending = asyncio.create_task(self._end(process))
        try:
            return await process.wait()
        finally:
            asking.cancel()
            ending.cancel()
            writer.close()
            multiprocess.mark_process_dead(process.pid, str(self._numbers))  # type: ignore[no-untyped-call]

    async def _ask(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Wait until it serves; then ask it again and again whether it does, and kill it when it does not answer."""
        with contextlib.suppress(OSError):  # its end is what the other task waits for
            if not await reader.read(1):
                return
            self.serves.set()
            while True:
                await asyncio.sleep(PULSE)
                writer.write(b"?")
                try:
                    if not await asyncio.wait_for(reader.read(1), PATIENCE):
                        return
                except TimeoutError:
                    LOG.error("process %d has not answered for %g s: killed", self._index, PATIENCE)  # noqa: TRY400
                    process.kill()

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """Once all are to stop, tell it so, and after a while make it."""
        await self._stop.wait()
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await asyncio.sleep(GRACE)
        LOG.error("process %d has not ended in %g s: killed", self._index, GRACE)
        process.kill()


async def answer(line: socket.socket) -> None:
    """In a process: say that it serves, then answer whoever keeps it; end in order when nobody does any more."""
    reader, writer = await asyncio.open_connection(sock=line)
    writer.write(b"!")
    with contextlib.suppress(OSError):
        while await reader.read(1):
            writer.write(b"!")
    LOG.error("whoever kept this process is gone: it ends")
    os.kill(os.getpid(), signal.SIGTERM)


def work(text: str, listening: int, line: int) -> None:
    """Be one of the processes; its keeper gave it its settings as JSON and two sockets."""
    from breadcrumbs.serving import app

    end = socket.socket(fileno=line)
    app.run(Settings.model_validate_json(text), [socket.socket(fileno=listening)], lambda: answer(end))


if __name__ == "__main__":
    try:
        work(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    except BreadcrumbsError as error:
        logs.end(with_notes(error))
        os._exit(2)  # a thread of a model that does not end would keep the process
