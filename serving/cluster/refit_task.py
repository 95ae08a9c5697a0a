"""A refit's child process on another machine: the very same program, with resources that Ray finds for it.

`run` is `serving.processes.child.run` with the machine left open: its input files travel by Ray's object store, the
program runs there as a child of a Ray worker, what it prints comes back line by line, and so do the files that it
leaves. Where a worker or its node is lost on the way the refit is started again, elsewhere if need be. This knows
nothing of heads or of the store.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayError, RayTaskError, TaskCancelledError

from breadcrumbs.models.machine import memory
from breadcrumbs.serving.processes import child
from breadcrumbs.serving.processes.child import Ending, Hear, Limits
from breadcrumbs.serving.processes.scratch import scratch, sweep

LOG = logging.getLogger("breadcrumbs.refit")
PATIENCE = 3.0
"""Seconds that a worker gets to stop its child in order."""
PAUSE = 1.0
"""Seconds before a refit is started again, so that Ray knows of the loss."""

Files = dict[str, Any]
"""Names relative to the refit's folder, and the bytes as numpy arrays, uint8."""


@dataclass(frozen=True)
class Resources:
    """What a refit's worker reserves, and how often another one takes over.

    Attributes:
        cpus, gpus: cores, and GPUs or parts of one.
        memory: bytes, reserved and not to be exceeded; 0: nothing reserved, at most three quarters of the machine.
        retries: times that it is started again after a loss.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    memory: int = 0
    retries: int = 3


@ray.remote(max_restarts=0)
class Attempt:
    """One worker for one try: an actor, because a coroutine of one can be cancelled in order."""

    async def run(
        self, command: list[str], folder: str, files: dict[str, Any], limits: Limits
    ) -> AsyncIterator[dict[str, Any] | tuple[Ending | None, Files]]:
        """Run the program; yields every object that it prints, then how it ended and the files that it left.

        Before the word that its head is judged come the files that are there by then.

        Args:
            command: program and arguments, with paths in `folder`.
            folder: the refit's folder where it was asked for.
            files: its input files, as references.
            limits: what it may take; no memory: three quarters of this machine's.
        """
        said: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        await asyncio.to_thread(sweep)
        with scratch("refit") as here:
            for relative, reference in files.items():
                await asyncio.to_thread(_write, here / relative, await reference)
            (here / "out").mkdir()
            moved = [part.replace(folder, str(here)) for part in command]
            bounds = Limits(limits.seconds, limits.memory or memory() * 3 // 4)
            running = asyncio.ensure_future(child.run(moved, said.put, bounds))
            running.add_done_callback(lambda _: said.put_nowait(None))
            try:
                while (event := await said.get()) is not None:
                    if event["event"] == "judged":
                        yield None, await asyncio.to_thread(_read, here / "out")
                    yield event
                yield await running, await asyncio.to_thread(_read, here / "out")
            finally:
                running.cancel()
                await asyncio.wait([running])


async def run(resources: Resources, command: Sequence[str], hear: Hear, limits: Limits) -> Ending:
    """Run a refit's program on some machine of the cluster, to its end. Being cancelled stops it first.

    Args:
        resources: what it reserves there.
        command: program and arguments; `--out FOLDER/out` says where its files are and its output goes.
        hear: told every object that it prints, and when it starts anew.
        limits: what it may take, each try anew; of memory `resources` says.
    """
    folder = Path(command[command.index("--out") + 1]).parent
    files = {name: ray.put(data) for name, data in (await asyncio.to_thread(_read, folder)).items()}
    bounds = Limits(limits.seconds, resources.memory)
    await hear({"event": "stage", "stage": "waiting", "message": f"for a worker with {resources.cpus:g} CPUs"})
    for number in range(1 + resources.retries):
        if number:
            message = f"the machine that ran it was lost; try {number + 1} of {1 + resources.retries}"
            await hear({"event": "stage", "stage": "restarted", "message": message})
            await asyncio.sleep(PAUSE)
        try:
            return await _attempt(resources, list(command), folder, files, hear, bounds)
        except RayTaskError as error:
            return Ending(None, {}, str(error), f"its worker failed: {error.cause!r:.200}")
        except RayError as error:
            LOG.warning("a refit's worker was lost: %s", str(error).strip().splitlines()[0])
            continue
    return Ending(None, {}, "", f"its worker was lost {1 + resources.retries} times")


async def _attempt(
    resources: Resources, command: list[str], folder: Path, files: Files, hear: Hear, limits: Limits
) -> Ending:
    """Run it once, and write what it leaves into `folder`; raises `RayError` where the worker is lost."""
    worker = Attempt.options(  # type: ignore[attr-defined]  # what the decorator adds
        num_cpus=resources.cpus, num_gpus=resources.gpus, memory=resources.memory or None
    ).remote()
    stream = worker.run.options(num_returns="streaming").remote(command, str(folder), files, limits)
    last: Ending | None = None
    try:
        async for reference in stream:  # to its end: only then has the worker cleaned up
            item = await reference
            if isinstance(item, tuple):
                last, left = item
                for name, data in left.items():
                    await asyncio.to_thread(_write, folder / "out" / name, data)
            else:
                await hear(item)
        if last is None:
            raise RayError("it ended without a word")
        return last  # noqa: TRY300 - one straight path
    except asyncio.CancelledError:
        ray.cancel(stream)
        with contextlib.suppress(TimeoutError, RayError, TaskCancelledError):
            await asyncio.wait_for(_drain(stream), PATIENCE)
        raise
    finally:
        ray.kill(worker)


async def _drain(stream: Any) -> None:
    async for reference in stream:
        await reference


def _read(folder: Path) -> Files:
    """Return the files of a folder and its folders, mapped, not read."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.stat().st_size:
            found[str(path.relative_to(folder))] = np.memmap(path, np.uint8, "r")
    return found


def _write(path: Path, data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data.tofile(path)
