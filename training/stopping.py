"""SIGTERM stops a run as Ctrl-C does: with the same message and the same checkpoint. It knows nothing of runs."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

STATUS = 128 + signal.SIGTERM


class Terminated(KeyboardInterrupt):
    """SIGTERM came."""


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Raise `Terminated` on SIGTERM inside this block, even if the signal first makes something else fail.

    A process forked inside the block handles SIGTERM by default: only the parent prints a message.
    """
    owner, came = os.getpid(), False

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal came
        _leave_a_fork(number, owner)
        came = True
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # else torch raises because its workers end as well
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except Terminated:
        raise
    except Exception as error:
        if came:  # a callback replaced the exception, or a worker ended first
            raise Terminated from error
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Let SIGINT and SIGTERM act after this block, for code that an exception at any line leaves half made.

    Signals are handled in the main thread; in another the block runs as it is.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()
    came: list[int] = []

    def wait(number: int, _: FrameType | None) -> None:
        _leave_a_fork(number, owner)
        came.append(number)

    before = {number: signal.signal(number, wait) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in came:
            signal.raise_signal(late)


def _leave_a_fork(number: int, owner: int) -> None:
    if os.getpid() != owner:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
