"""The one mapping from errors to HTTP: a status, and the shape `{"error": {"type": …, "message": …}}`.

It covers the whole tree of `models.errors`, what FastAPI raises by itself (404, 405, 422), and unexpected errors
(`internal`). It knows nothing of what the requests were about.
"""

import logging
import math
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import compile_path
from starlette.types import Scope

from breadcrumbs.models.errors import BreadcrumbsError, FormatError
from breadcrumbs.models.images.errors import ImageError, ImageTooLarge
from breadcrumbs.models.prior import PriorError
from breadcrumbs.models.snapshots.parquet import ExtraMissing
from breadcrumbs.models.spool import FileTooLarge
from breadcrumbs.serving.http.label_studio.images import LabelStudioError
from breadcrumbs.serving.http.notes import note
from breadcrumbs.serving.http.open_inference.tensors import Malformed
from breadcrumbs.serving.learning.answers import Expired
from breadcrumbs.serving.predict.devices import EngineError
from breadcrumbs.serving.refits.jobs import KeyReused
from breadcrumbs.serving.refusals import (
    Abandoned,
    BadRequest,
    Forbidden,
    Overloaded,
    OverQuota,
    Refused,
    TooLarge,
    TooManyJobs,
    Unauthorized,
    Unsupported,
)
from breadcrumbs.serving.state.store import Conflict, NotFound, StoreError, StoreFull, is_full

LOG = logging.getLogger("breadcrumbs.server")

STATUS: dict[type[BreadcrumbsError], tuple[int, str]] = {
    FormatError: (422, "format"),
    FileTooLarge: (413, "too_large"),
    ExtraMissing: (415, "unsupported"),
    ImageError: (422, "image"),
    ImageTooLarge: (413, "too_large"),
    PriorError: (422, "prior"),
    EngineError: (503, "engine"),
    LabelStudioError: (502, "label_studio"),
    StoreError: (503, "store"),
    StoreFull: (507, "store_full"),
    NotFound: (404, "not_found"),
    Expired: (410, "expired"),
    Conflict: (409, "conflict"),
    KeyReused: (422, "idempotency"),
    Refused: (400, "refused"),
    TooLarge: (413, "too_large"),
    Unauthorized: (401, "unauthorized"),
    Unsupported: (415, "unsupported"),
    Forbidden: (403, "forbidden"),
    BadRequest: (422, "bad_request"),
    Malformed: (400, "bad_request"),
    Abandoned: (499, "abandoned"),
    Overloaded: (503, "overloaded"),
    OverQuota: (403, "quota"),
    TooManyJobs: (429, "quota"),
    BreadcrumbsError: (422, "invalid"),
}
"""Status and type of each error; a class that is missing here has those of its nearest parent."""

HTTP_TYPES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}


def status(error: BreadcrumbsError) -> tuple[int, str]:
    """Return the HTTP status and the type of an error."""
    return next(STATUS[cls] for cls in type(error).__mro__ if cls in STATUS)


def body(kind: str, message: str) -> dict[str, dict[str, str]]:
    """Return the body of an error."""
    return {"error": {"type": kind, "message": message}}


def is_open_inference(scope: Scope) -> bool:
    """Whether the path is one of the Open Inference Protocol, whose errors have another shape."""
    path = str(scope["path"]).removeprefix(scope.get("root_path", ""))
    return path.startswith("/v2/") or path == "/v2"


def _answer(request: Request, kind: str, message: str, code: int, headers: Mapping[str, str] | None = None) -> Response:
    note(request.scope, problem=kind)
    if is_open_inference(request.scope):
        return JSONResponse({"error": message}, 400 if code == 422 else code, headers)
    return JSONResponse(body(kind, message), code, headers)


def internal(request: Request) -> Response:
    """Return the answer to an unexpected error, which is in the log under the request's id."""
    message = "an unexpected error in the server; this is a bug. The server's log has it under this X-Request-ID"
    return _answer(request, "internal", message, 500)


async def _unforeseen(request: Request, _: Exception) -> Response:
    return internal(request)  # `AccessLog` gets the error, too, and logs it


def install(app: FastAPI) -> None:
    """Answer every error of this app in the same shape, and describe it in `/openapi.json`."""
    made = app.openapi
    app.openapi = lambda: _described(made())  # type: ignore[method-assign]  # FastAPI's own way to change it
    app.add_exception_handler(BreadcrumbsError, _known)
    app.add_exception_handler(OSError, _disk)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(Exception, _unforeseen)


async def _known(request: Request, error: Exception) -> Response:
    if not isinstance(error, BreadcrumbsError):
        raise error
    return known(request, error)


def known(request: Request, error: BreadcrumbsError) -> Response:
    """Return the answer to one of our errors."""
    code, kind = status(error)
    headers = {}
    if isinstance(error, Overloaded):
        headers = {"Retry-After": str(max(1, math.ceil(error.retry_after)))}
    if isinstance(error, Unauthorized):
        headers = {"WWW-Authenticate": 'Bearer realm="breadcrumbs"'}
    return _answer(request, kind, str(error), code, headers)


async def _disk(request: Request, error: Exception) -> Response:
    """Return the answer to an error of the server's disk; details are only logged."""
    LOG.error("%s: %s", request.url.path, error)
    if is_full(error):
        return _answer(request, "store_full", "the server's disk is full; nothing was kept", 507)
    return _answer(request, "store", "the server's disk cannot be read or written now; nothing was kept", 503)


async def _http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    message = str(error.detail)
    if error.status_code == 405 and request.method == "OPTIONS":
        return Response(status_code=204, headers={"Allow": _allowed(request)})
    if error.status_code == 404:
        message = f"nothing at {request.url.path!r:.200}; /docs lists what there is"
    if error.status_code == 405:
        message = f"{request.method} is not offered at {request.url.path!r:.200}; /docs lists what is"
    kind = HTTP_TYPES.get(error.status_code, "http")
    headers = {"Allow": _allowed(request)} if error.status_code == 405 else error.headers
    return _answer(request, kind, message, error.status_code, headers)


def _described(schema: dict[str, Any]) -> dict[str, Any]:
    """Replace FastAPI's description of its own 422, which is never sent."""
    for path, methods in schema["paths"].items():
        for operation in methods.values():
            said = operation["responses"].get("422", {}).get("content", {}).get("application/json", {})
            if said.get("schema", {}).get("$ref", "").endswith("/HTTPValidationError"):
                if is_open_inference({"path": path}):  # which says 400 of it
                    del operation["responses"]["422"]
                else:
                    said["schema"] = {"$ref": "#/components/schemas/ProblemResponse"}
                    operation["responses"]["422"]["description"] = "Unprocessable Content"
    for name in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(name, None)
    return schema


def _allowed(request: Request) -> str:
    """Return the methods of a path; Starlette itself knows only those of the first matching route."""
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    paths = request.app.openapi()["paths"]
    fitting = [path] if path in paths else [one for one in paths if compile_path(one)[0].match(path)]
    methods = {method.upper() for one in fitting for method in paths[one]} or {"GET"}  # pages are not in there
    return ", ".join(sorted(methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())))


async def _validation(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    first = error.errors()[0]
    place = " ".join(str(part) for part in first["loc"])
    what = first["msg"].removeprefix("Value error, ")
    return _answer(request, "bad_request", f"{place}: {what}, got {first.get('input')!r:.80}", 422)
