"""SIGTERM as Ctrl-C: whoever stops a run gets the same sentence and the same checkpoint. It knows nothing of runs."""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

STATUS = 128 + signal.SIGTERM


class Terminated(KeyboardInterrupt):
    """SIGTERM came."""


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Within: SIGTERM raises `Terminated`, at any time, also where it makes something else fail first.

    A process forked within takes SIGTERM as it would without: its parent is the one to say something.
    """
    owner, came = os.getpid(), False

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal came
        if os.getpid() != owner:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        came = True
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # workers that end now, too, are no news: torch would raise
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except Terminated:
        raise
    except Exception as error:
        if came:  # raised within a callback that made another error of it, or beside a worker that ended first
            raise Terminated from error
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
