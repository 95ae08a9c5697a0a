"""A short path for the most frequent requests.

A raw image to `/v1/predict` and tensors to `/v2/models/NAME/infer` are most of a server's traffic, and FastAPI's
routing costs more than a small model. Such a request goes straight to the route's function, with the same checks,
errors and metrics. A request with parameters or in another form takes FastAPI's path to the same function. It knows
nothing of images, tensors or heads.
"""

import re
from collections.abc import Awaitable, Callable
from functools import partial

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.serving.http import errors
from breadcrumbs.serving.http.open_inference.request import HEADER
from breadcrumbs.serving.http.routes import open_inference, predict
from breadcrumbs.serving.http.service import Service

PREDICT = "/v1/predict"
_INFER = re.compile(r"/v2/models/([A-Za-z0-9._@-]+)/infer")

Answer = Callable[[Request, Service], Awaitable[Response]]


class FastPath:
    """The middleware before an app.

    Args:
        app: its `state.service` answers.
        long_way: the app with all that FastAPI puts around it.
    """

    def __init__(self, app: FastAPI, long_way: ASGIApp) -> None:
        self._app = app
        self._long_way = long_way

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        scope["app"] = self._app
        if scope["type"] == "http" and scope["method"] == "HEAD":
            send = _headers_only(scope, send)
        answer = _short_way(scope) if scope["type"] == "http" else None
        if answer is None:
            if root := scope.get("root_path"):  # which Starlette expects in both
                scope["path"] = root + scope["path"]
            await self._long_way(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            response = await answer(request, self._app.state.service)
        except BreadcrumbsError as error:
            response = errors.known(request, error)
        await response(scope, receive, send)


def _headers_only(scope: Scope, send: Send) -> Send:
    """Answer HEAD as GET, without the body."""
    scope["method"], ended = "GET", False

    async def answer(message: Message) -> None:
        nonlocal ended
        scope["method"] = "HEAD"  # for the access log and uvicorn
        if message["type"] == "http.response.start":
            await send(message)
        if not ended:
            ended = True
            await send({"type": "http.response.body", "body": b""})

    return answer


def _short_way(scope: Scope) -> Answer | None:
    """Return what answers a POST that has no parameters and no Origin. None means FastAPI's path."""
    if scope["method"] != "POST" or scope["query_string"]:
        return None
    named = dict(scope["headers"])
    if b"origin" in named:
        return None
    if scope["path"] == PREDICT and named.get(b"content-type", b"").startswith(b"image/"):
        return predict.answer
    model = _INFER.fullmatch(scope["path"])
    return None if model is None else partial(_infer, model[1])


async def _infer(model: str, request: Request, service: Service) -> Response:
    return await open_inference.answer(request, service, model, length=request.headers.get(HEADER))
