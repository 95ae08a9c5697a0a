"""What runs in Ray's processes: the app of one replica, made there, with its models, and taken down there.

A replica is the whole server but its HTTP listener, which is Ray's proxy. It knows nothing of how many there are.
"""

import contextlib
from typing import Any

from fastapi import FastAPI
from ray import serve
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from breadcrumbs.serving import logs
from breadcrumbs.serving.app import create_app
from breadcrumbs.serving.settings import Settings


class Opened:
    """An app whose parts are there.

    Args:
        settings: every knob, as JSON.
        refitting: further arguments of `create_app`, about refits.
    """

    def __init__(self, settings: str, *refitting: Any) -> None:
        given = Settings.model_validate_json(settings)
        logs.configure(given.log_format, given.log_level)
        self.app: FastAPI = create_app(given, *refitting)
        self._stack = contextlib.AsyncExitStack()

    async def open(self) -> None:
        """Load the models and open the store; raises what that raises."""
        await self._stack.enter_async_context(self.app.router.lifespan_context(self.app))

    async def prove(self) -> None:
        """Prove by a real inference, a few seconds old at most, that images can be answered; raises if they cannot."""
        await self.app.state.service.inference.prove()

    async def close(self) -> None:
        """Take everything down."""
        await self._stack.aclose()


@serve.ingress()
class Replica:
    """Answers requests that Ray's proxies pass on.

    Args:
        settings: as for `Opened`.
    """

    async def __init__(self, settings: str) -> None:  # type: ignore[misc]  # Ray awaits it
        self._opened = Opened(settings)
        await self._opened.open()

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Return what answers."""
        return Named(self._opened.app, serve.get_replica_context().replica_id.unique_id)

    async def check_health(self) -> None:
        """Tell Ray that this replica can answer."""
        await self._opened.prove()

    async def __del__(self) -> None:
        await self._opened.close()


class Named:
    """Plain ASGI: an app whose answers say which replica they are from.

    Args:
        app: which is open already, whatever Ray says about that.
        name: of the replica.
    """

    def __init__(self, app: ASGIApp, name: str) -> None:
        self._app = app
        self._name = name.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            for phase in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{phase}.complete"})
            return

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-replica", self._name)]
            await send(message)

        await self._app(scope, receive, named)
