"""The one process on a Ray cluster that runs the refits of its store, each computed wherever there is room.

A named actor is there once or not at all, so two never run the same refit. Ray starts it again where it dies, on
another node if need be; then it takes up what it had in hand. How each refit's program runs is `refit_task`'s. It is a
whole server without HTTP, since a head that goes live must be swapped somewhere. This knows nothing of replicas.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import ray
from ray.exceptions import RayError

from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.serving.app import GRACE
from breadcrumbs.serving.cluster import refit_task
from breadcrumbs.serving.cluster.refit_task import Resources
from breadcrumbs.serving.cluster.replica import Opened
from breadcrumbs.serving.settings import Settings

LOG = logging.getLogger("breadcrumbs.cluster")
NAMESPACE = "breadcrumbs"
"""Of the actor's name on the Ray cluster."""
AGAIN = 5.0
"""Seconds before a store or a bundle that cannot be opened is tried again."""
ANSWER = 10.0
"""Seconds that the actor may take to say how it is."""


class Refits:
    """The actor.

    Args:
        settings: every knob, as JSON.
        command: the program that a refit runs, without its arguments.
        resources: what a refit's worker reserves.
    """

    async def __init__(  # type: ignore[misc]  # Ray awaits it
        self, settings: str, command: tuple[str, ...], resources: Resources
    ) -> None:
        self._about = (settings, command, resources)
        self._opened: Opened | None = None
        self._state = "starting"
        self._opening = asyncio.create_task(self._open())

    async def _open(self) -> None:
        """Begin to work, however often that takes: nobody is there to be told of a failure."""
        settings, command, resources = self._about
        run = partial(refit_task.run, resources)
        while self._opened is None:
            try:
                opened = Opened(settings, command, run, resources.retries)
                await opened.open()
                self._opened, self._state = opened, "ready"
            except BreadcrumbsError as error:
                LOG.exception("refits cannot be run")
                self._state = f"cannot start: {error}"
                await asyncio.sleep(AGAIN)

    async def about(self) -> tuple[str, tuple[str, ...], Resources]:
        """Return what it was made with."""
        return self._about

    async def state(self) -> str:
        """Say how it is: `ready` where refits are run."""
        return self._state

    async def close(self) -> None:
        """Stop; what was not finished is taken up by the next one."""
        self._opening.cancel()
        if self._opened is not None:
            await self._opened.close()


def place(name: str, settings: Settings, command: Sequence[str], resources: Resources) -> None:
    """Have refits run on the cluster that this process is connected to; one that does so otherwise is replaced.

    Args:
        name: of the application.
        settings: of the replicas.
        command: the program that a refit runs.
        resources: what a refit's worker reserves.

    Raises:
        BreadcrumbsError: it does not start; its words say why.
    """
    precision = "int8" if settings.precision == "int8" else "full"  # the space of the replicas' features
    own = {"refit": "here", "device": "cpu", "precision": precision, "threads": 1, "decode_threads": 0, "max_batch": 1}
    wanted = (settings.model_copy(update=own | {"access_log": "none"}).model_dump_json(), tuple(command), resources)
    old = _find(name)
    if old is not None:
        with contextlib.suppress(RayError):
            if ray.get(old.about.remote(), timeout=ANSWER) == wanted:
                return
        remove(name)
    made: Any = ray.remote(Refits).options(
        name=_named(name), namespace=NAMESPACE, lifetime="detached", num_cpus=0, max_restarts=-1
    ).remote(*wanted)  # fmt: skip
    while (how := str(ray.get(made.state.remote()))) == "starting":
        time.sleep(0.2)
    if how != "ready":
        raise BreadcrumbsError(f"the process that runs refits: {how}")


def state(name: str) -> str | None:
    """Say how the actor is; none: there is none."""
    found = _find(name)
    if found is None:
        return None
    try:
        return str(ray.get(found.state.remote(), timeout=ANSWER))
    except RayError:
        return "restarting"


def remove(name: str) -> None:
    """Take the actor away, in order if it can; what it had in hand waits in the store."""
    found = _find(name)
    if found is None:
        return
    with contextlib.suppress(RayError):
        ray.get(found.close.remote(), timeout=GRACE)
    ray.kill(found)
    while _find(name) is not None:
        time.sleep(0.1)


def _find(name: str) -> Any:
    try:
        return ray.get_actor(_named(name), NAMESPACE)
    except ValueError:
        return None


def _named(name: str) -> str:
    return f"{name}-refits"
