"""Answers in gzip or deflate, if the request's `Accept-Encoding` asks for it.

Only complete text answers are compressed, and the tensors of `/v2`, whose clients ask for it on purpose. Images,
streams and small answers are sent as they are. It knows nothing of what answers mean.
"""

import asyncio
import re
import zlib

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SMALLEST = 1024
"""Bytes below which an answer is not compressed."""
THREAD = 2**16
"""Bytes from which on a thread compresses, so that other requests do not wait."""
LEVEL = 4
TEXTS = ("application/json", "text/plain", "text/html")
TENSORS = "application/octet-stream"
WINDOWS = {"gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}
"""The codings, the better known first."""


class Compressed:
    """The middleware.

    Args:
        app: what it wraps.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        wanted = b""
        if scope["type"] == "http" and scope["method"] != "HEAD":
            wanted = b",".join(value for name, value in scope["headers"] if name == b"accept-encoding")
        coding = chosen(wanted.decode("latin-1")) if wanted else None
        if coding is None:
            await self._app(scope, receive, send)
            return
        start: Message | None = None
        types = (*TEXTS, TENSORS) if str(scope["path"]).startswith("/v2/") else TEXTS

        async def answer(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and _may(message, types):
                MutableHeaders(raw=message["headers"]).add_vary_header("Accept-Encoding")
                start = message
                return
            if start is not None:
                first, start = start, None
                body = message.get("body", b"")
                if not message.get("more_body", False) and len(body) >= SMALLEST:
                    body = await _pack(body, coding)
                    headers = MutableHeaders(raw=first["headers"])
                    headers["Content-Encoding"], headers["Content-Length"] = coding, str(len(body))
                    message = {**message, "body": body}
                await send(first)
            await send(message)

        await self._app(scope, receive, answer)


def _may(start: Message, types: tuple[str, ...]) -> bool:
    """Whether an answer that begins like this may be compressed."""
    headers = Headers(raw=start["headers"])
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    bound = any(name in headers for name in ("content-encoding", "content-range", "etag"))  # to these very bytes
    return kind in types and not bound and "no-transform" not in headers.get("cache-control", "")


async def _pack(body: bytes, coding: str) -> bytes:
    def pack() -> bytes:
        stream = zlib.compressobj(LEVEL, zlib.DEFLATED, WINDOWS[coding])
        return stream.compress(body) + stream.flush()

    return pack() if len(body) < THREAD else await asyncio.to_thread(pack)


def chosen(accept: str) -> str | None:
    """Return the offered coding that an `Accept-Encoding` prefers. None means that it accepts none of them."""
    weights: dict[str, float] = {}
    for part in accept.lower().split(","):
        name, _, parameters = part.partition(";")
        weight = re.search(r"\bq\s*=\s*([0-9.]+)", parameters)
        try:
            weights[name.strip()] = float(weight[1]) if weight else 1.0
        except ValueError:
            weights[name.strip()] = 0.0
    asked = {coding: weights.get(coding, weights.get("*", 0.0)) for coding in WINDOWS}
    best = max(asked, key=lambda coding: asked[coding])
    return best if asked[best] > 0 else None
