"""Forbids other sites to show this server's pages in a frame, by headers on every HTML answer.

A page with its own `frame-ancestors` keeps it. It knows nothing of pages.
"""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = "frame-ancestors 'none'"


class Unframed:
    """The middleware.

    Args:
        app: what it wraps.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                _protect(MutableHeaders(raw=message["headers"]))
            await send(message)

        await self._app(scope, receive, answer if scope["type"] == "http" else send)


def _protect(headers: MutableHeaders) -> None:
    if not headers.get("content-type", "").startswith("text/html"):
        return
    policy = headers.get("content-security-policy")
    if policy is None or "frame-ancestors" not in policy:
        policy = POLICY if policy is None else f"{policy}; {POLICY}"
        headers["Content-Security-Policy"] = policy
    own = "frame-ancestors 'self'" in policy
    headers["X-Frame-Options"] = "SAMEORIGIN" if own else "DENY"  # for browsers that do not know the policy
