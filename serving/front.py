"""The shortest way for most requests.

A raw image to `/v1/predict` is most of a server's traffic, and FastAPI's own way to a route costs more than a small
model. Such a request goes straight to the route's function, with the same checks, errors and numbers; whatever has
parameters or another form takes the long way to the same function. It knows nothing of images or heads.
"""

from types import SimpleNamespace

from fastapi import FastAPI
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from models.errors import BreadcrumbsError
from serving import problems
from serving.routes.predict import answer

ROUTE = SimpleNamespace(path="/v1/predict")
"""What log lines and metrics call it."""


class Front:
    """Plain ASGI before an app.

    Args:
        app: whose `state.service` answers.
        long_way: the app with all that FastAPI puts around it.
    """

    def __init__(self, app: FastAPI, long_way: ASGIApp) -> None:
        self._app = app
        self._long_way = long_way

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if not (scope["type"] == "http" and scope["path"] == ROUTE.path and _is_plain(scope)):
            await self._long_way(scope, receive, send)
            return
        scope["route"] = ROUTE
        request = Request(scope, receive)
        try:
            response = await answer(request, self._app.state.service)
        except BreadcrumbsError as error:
            response = problems.known(request, error)
        await response(scope, receive, send)


def _is_plain(scope: Scope) -> bool:
    """Whether a request is a POST of an image without parameters, not by a web page."""
    if scope["method"] != "POST" or scope["query_string"]:
        return False
    named = dict(scope["headers"])
    return named.get(b"content-type", b"").startswith(b"image/") and b"origin" not in named
