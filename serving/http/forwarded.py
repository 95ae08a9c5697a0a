"""The headers of trusted reverse proxies, and the path prefix below which a proxy serves.

Behind `https://lab.example/ml/`, clients ask for `/ml/v1/heads`. The app sees `/v1/heads` with the prefix as ASGI's
`root_path`, whether the proxy strips the prefix or not. Every Location in an answer gets the prefix. It knows nothing
of routes.
"""

import ipaddress
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*")
FORWARDED_HOST = "breadcrumbs.forwarded_host"
"""Key in a scope of the host that the client asked the trusted proxy for."""


class Forwarded:
    """Plain ASGI around an app.

    Args:
        app: what it wraps.
        prefix: path below which the app is served, as `/ml`; empty for none.
        proxies: addresses or networks whose X-Forwarded-Prefix, -Host, -Proto and -For are trusted.
    """

    def __init__(self, app: ASGIApp, prefix: str = "", proxies: Sequence[str] = ()) -> None:
        self._app = app
        self._behind = ProxyHeadersMiddleware(app, list(proxies))  # type: ignore[arg-type]  # uvicorn's own ASGI types
        self._prefix = prefix
        self._networks = [ipaddress.ip_network(one, strict=False) for one in proxies]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        app, prefix = self._app, self._prefix
        if self._networks and self._trusts(scope):
            app = self._behind  # type: ignore[assignment]
            said = {name: value.decode("latin-1") for name, value in scope["headers"]}
            given = said.get(b"x-forwarded-prefix", "").rstrip("/")
            prefix = given if given and PREFIX.fullmatch(given) else prefix
            if host := said.get(b"x-forwarded-host", "").partition(",")[0].strip():
                scope[FORWARDED_HOST] = host
        if prefix:
            scope["root_path"] = prefix
            if scope["path"] == prefix:
                await RedirectResponse(f"{prefix}/")(scope, receive, send)
                return
            scope["path"] = (
                scope["path"].removeprefix(prefix) if scope["path"].startswith(f"{prefix}/") else scope["path"]
            )

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [_located(one, prefix) for one in message.get("headers", ())]}
            await send(message)

        await app(scope, receive, answer)

    def _trusts(self, scope: Scope) -> bool:
        try:
            address = ipaddress.ip_address((scope.get("client") or ("",))[0])
        except ValueError:
            return False
        return any(address in network for network in self._networks)


def _located(header: tuple[bytes, bytes], prefix: str) -> tuple[bytes, bytes]:
    """Return a header; a Location as a path below the prefix, right for any scheme and host in front."""
    name, value = header
    if name.lower() != b"location":
        return header
    parts = urlsplit(value.decode("latin-1"))
    path = "/" + parts.path.lstrip("/")  # two slashes would name a host
    path = path if path.startswith(f"{prefix}/") else prefix + path
    return name, (path + (f"?{parts.query}" if parts.query else "")).encode("latin-1")
