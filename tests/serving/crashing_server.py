"""A server that kills itself at a named step: `kill -9`, before or after one of its writes to the store.

python crashing_server.py BUNDLE STORE PORT WHEN NAME COUNT

WHEN is `before` or `after`, NAME a regular expression for the names of objects, COUNT which of the writes that fit.
"""

import asyncio
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from breadcrumbs.serving import app as apps
from breadcrumbs.serving.settings import Settings
from breadcrumbs.serving.state.store import Store

FAKE = [sys.executable, str(Path(__file__).parent / "fake_refit.py")]


def dying(method: Callable[..., Any], when: str, name: str, count: int) -> Callable[..., Any]:
    """A method of the store that kills the process."""
    seen = 0

    async def write(self: Store, target: str, *rest: Any) -> None:
        nonlocal seen
        hit = re.fullmatch(name, target) is not None
        seen += hit
        if hit and seen == count and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        await method(self, target, *rest)
        if hit and seen == count and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)

    return write


def main(bundle: str, store: str, port: str, when: str, name: str, count: str) -> None:
    """Serve until it dies."""
    for method in ("create", "replace", "put_file"):
        setattr(Store, method, dying(getattr(Store, method), when, name, int(count)))
    settings = Settings(bundle=Path(bundle), store=store, port=int(port), device="cpu", threads=1, max_batch=8)
    app = apps.create_app(settings, FAKE)
    asyncio.run(apps.Server(app, apps.config(app, settings)).serve())


if __name__ == "__main__":
    main(*sys.argv[1:])
