"""Several processes on one port and one store. Each is a complete server, and learns from the store what is live.

The parent process holds their sockets, restarts a process that dies or does not answer, and stops them in order. The
kernel spreads connections over the sockets. They stay open during a restart, so new connections wait and are not
refused. Refits run in the first process only. The parent computes nothing, and knows nothing of HTTP, models or the
store.
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
"""Seconds between two pings of a process."""
PATIENCE = 30.0
"""Seconds that it may take to answer a ping; then it is killed."""
GRACE = 40.0
"""Seconds that it may take to stop; a server gives its requests 30."""
PAUSE = 0.5
"""Seconds before a process that died is restarted. They double each time it lives for less than a minute."""


class WorkersError(BreadcrumbsError):
    """The processes cannot be started."""


def run(settings: Settings) -> None:
    """Serve with `settings.workers` processes until SIGTERM or SIGINT, then stop them in order.

    Raises:
        AddressError: the address cannot be listened on.
        WorkersError: the first process did not start; it has logged why.
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
    """Return the settings of one process: its share of cores and memory, and refits only in the first."""
    threads = settings.threads or max(1, cores() // settings.workers)
    refit = "elsewhere" if settings.refit == "here" and index else settings.refit
    decoding = Budget(settings.decode_memory).size // settings.workers
    return settings.model_copy(update={"threads": threads, "decode_memory": decoding, "refit": refit})


async def _keep_all(settings: Settings, sockets: list[socket.socket], numbers: Path) -> None:
    """Run all processes until a signal. The first starts alone, since it prepares the store."""
    stop = asyncio.Event()

    def end() -> None:
        stop.set()
        for one in sockets:  # each process closes its own; new connections must not wait in ours
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
    """One process, restarted whenever it dies."""

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
                raise WorkersError(f"process {self._index} did not start: exit status {code}; its log is above")
            pause = PAUSE if time.monotonic() - began > 60 else min(2 * pause, 30.0)
            LOG.error("process %d ended with status %d; restarting it in %.1f s", self._index, code, pause)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), pause)

    async def _once(self) -> int:
        """Run one process to its end and return its exit status."""
        ours, theirs = socket.socketpair()
        handles = (self._listening.fileno(), theirs.fileno())
        process = await asyncio.create_subprocess_exec(
            # env sets a variable that prometheus_client reads when it is imported
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
            process_group=0,  # so that Ctrl-C reaches only us; in our session: the kernel shares CPU by session
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
        """Wait until it serves; then ping it, and kill it if it does not answer."""
        with contextlib.suppress(OSError):  # the process has ended; `_once` waits for that
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
        """When all are to stop, terminate it; kill it after `GRACE`."""
        await self._stop.wait()
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await asyncio.sleep(GRACE)
        LOG.error("process %d has not ended in %g s: killed", self._index, GRACE)
        process.kill()


async def answer(line: socket.socket) -> None:
    """In a process: report that it serves, then answer the parent's pings. Stop in order if the parent is gone."""
    reader, writer = await asyncio.open_connection(sock=line)
    writer.write(b"!")
    with contextlib.suppress(OSError):
        while await reader.read(1):
            writer.write(b"!")
    LOG.error("the parent process is gone: this one stops")
    os.kill(os.getpid(), signal.SIGTERM)


def work(text: str, listening: int, line: int) -> None:
    """Run one of the processes, with settings as JSON and two sockets from the parent."""
    from breadcrumbs.serving import app

    end = socket.socket(fileno=line)
    app.run(Settings.model_validate_json(text), [socket.socket(fileno=listening)], lambda: answer(end))


if __name__ == "__main__":
    try:
        work(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    except BreadcrumbsError as error:
        logs.end(with_notes(error))
        os._exit(2)  # a model's thread that does not end would keep the process alive
