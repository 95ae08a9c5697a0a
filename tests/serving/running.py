"""A real server: uvicorn in a thread, on a free port; its refits run `fake_refit.py`."""

import asyncio
import contextlib
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
from patience import PATIENCE

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.serving import app as apps
from breadcrumbs.serving.settings import Settings

FAKE = (sys.executable, str(Path(__file__).parent / "fake_refit.py"))

Serve = Callable[..., contextlib.AbstractContextManager[httpx.Client]]
LIMITS: dict[str, Any] = {
    "max_images": 4,
    "max_image_bytes": 20_000,
    "max_body_bytes": 60_000,
    "max_snapshot_bytes": 50_000,
    "max_snapshots": 2,
}


@contextlib.contextmanager
def running(settings: Settings, *mode: str, command: Sequence[str] = FAKE) -> Iterator[httpx.Client]:
    """Run a server and give a client for it; `mode` goes to the fake child of refits."""
    app = apps.create_app(settings, [*command, *mode])
    started = threading.Event()

    class Announcing(apps.Server):
        async def startup(self, sockets: Any = None) -> None:
            try:
                await super().startup(sockets)
            finally:
                started.set()

        async def main_loop(self) -> None:
            """Look for the end ten times as often as uvicorn does: hundreds of servers are ended here."""
            while not await self.on_tick(0):  # noqa: ASYNC110 - uvicorn's own way
                await asyncio.sleep(0.01)

    server = Announcing(app, apps.config(app, settings))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert started.wait(PATIENCE)
        assert server.started, "the server did not start"
        port = server.servers[0].sockets[0].getsockname()[1]
        # Without certificates, which nobody asks for here: reading them takes as long as the rest of the start.
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE, verify=False) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(PATIENCE)


def make_settings(bundle: Bundle, store: Path, **more: Any) -> Settings:
    """Settings for tests: a free port, the CPU, one thread, time for everything, and refits that need no idle core."""
    given: dict[str, Any] = {"port": 0, "device": "cpu", "threads": 1, "max_batch": 8, "access_log": "none"}
    given |= {"deadline": PATIENCE, "receipt": PATIENCE, "refit_cpu": "share"}
    given |= {"bundle": bundle.folder, "store": str(store)}
    return Settings(**(given | more))
