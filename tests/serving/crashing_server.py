"""A server that kills itself at a named step: `kill -9`, before or after one of its writes to the store.

Its arguments are BUNDLE STORE PORT WHEN NAME COUNT MODE …: WHEN is `before` or `after`, NAME a regular expression for
the names of objects, COUNT which of the writes that fit; MODE goes to the fake child of refits.
"""

import asyncio
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from running import FAKE, make_settings

from breadcrumbs.models import bundle as bundles
from breadcrumbs.serving import app as apps
from breadcrumbs.serving.state.store import Store


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


def main() -> None:
    """Serve until it dies."""
    bundle, store, port, when, name, count, *mode = sys.argv[1:]
    for method in ("create", "replace", "put_file"):
        setattr(Store, method, dying(getattr(Store, method), when, name, int(count)))
    settings = make_settings(bundles.read(Path(bundle)), Path(store), port=int(port))
    app = apps.create_app(settings, [*FAKE, *mode])
    asyncio.run(apps.Server(app, apps.config(app, settings)).serve())
