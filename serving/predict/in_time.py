"""Something that may never end, begun in a thread that the process does not wait for, and given up after a while.

It knows nothing of what is begun.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

from breadcrumbs.serving.predict.devices import EngineError
from breadcrumbs.serving.setting_names import both

T = TypeVar("T")
MORE = 5.0
"""Seconds beyond the limit in which it may end by itself, and say why."""


async def in_time(make: Callable[[], T], seconds: float | None, what: str) -> T:
    """Return what `make` returns, or raise what it raises.

    Args:
        make: is called in a thread of its own.
        seconds: that it may take; None: any number.
        what: it is about, for the error.

    Raises:
        EngineError: it took longer; its thread goes on until the process ends.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if done.done():  # nobody waits any more
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]  # there is one where there is no error

    def work() -> None:
        result, failure = None, None
        try:
            result = make()
        except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
            failure = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=work, name="start", daemon=True).start()
    try:
        async with asyncio.timeout(None if seconds is None else seconds + MORE):
            return await done
    except TimeoutError as error:
        raise EngineError(
            f"{what} were not loaded and run within {seconds:g} s; if they are sound and large, "
            f"{both('start_timeout')} gives them longer"
        ) from error
