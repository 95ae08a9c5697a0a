"""What is too much, refused early: bytes counted as they come, never as a header promises them.

Every refusal names the limit and what came. It knows nothing of images, models or the store; the numbers come from
`serving.settings`, the status codes from `serving.problems`.
"""

import asyncio
import contextlib
import hashlib
import math
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.types import Scope

from models.errors import BreadcrumbsError
from serving.arrival import ARRIVAL, STALLED
from serving.inflate import Corrupt, Inflater

Model = TypeVar("Model", bound=BaseModel)

SMALL_BODY = 2**20
"""Bytes of a request that carries only words and numbers, such as the JSON of a refit."""
CONTAINERS = 300_000
"""Lists and objects in one JSON body at most: an empty one has 2 bytes there and 60 in memory."""
VALUES = 4_000_000
"""Values in one JSON body at most: a digit takes 2 bytes there and 48 in memory until it is a tensor's."""
FORM_FIELDS = 8
"""Parts of one multipart body that are no files, at most; each may have `SMALL_BODY` bytes, and is kept in memory."""

SHARE = 0.75
"""Of the memory for bodies and of the uploads, what one client may have: a key, or an address where there are none."""
BYTES = "breadcrumbs.bytes"
"""Where a scope has the number of bytes that its body holds."""


class Refused(BreadcrumbsError):
    """A request that the server will not take."""


class TooLarge(Refused):
    """A request over a named limit."""


class Unsupported(Refused):
    """A request in a form that is not offered."""


class BadRequest(Refused):
    """A request that does not say what it wants, or says it wrongly."""


class Forbidden(Refused):
    """A request for something that is switched off here, or that its key may not do."""


class Unauthorized(Refused):
    """A request without a key, or with one that is not known."""


class Abandoned(Refused):
    """A request whose client has gone; nobody reads the answer."""


class Overloaded(Refused):
    """A request that would have to wait too long; try again after `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class OverQuota(Refused):
    """An upload for which its key has no bytes left."""


class TooManyJobs(Overloaded):
    """A refit of a key that has as many waiting or running as it may."""


class Turnstile:
    """Lets so many in at a time, and one client at most its share of them.

    Whoever finds no place gets that of the request that is furthest behind, if one has stalled.

    Args:
        most: at a time.
        what: they are, for the refusal.
    """

    def __init__(self, most: int, what: str) -> None:
        self._most, self._what = most, what
        self._inside: list[Scope] = []

    @contextlib.contextmanager
    def enter(self, scope: Scope) -> Iterator[None]:
        """Be inside for as long as this lasts.

        Raises:
            Overloaded: there is no place, or this client has its share.
        """
        share, who = math.ceil(self._most * SHARE), client(scope)
        own = [one for one in self._inside if client(one) == who]
        if len(self._inside) >= self._most and not self._cut(self._inside):
            raise Overloaded(f"{len(self._inside)} {self._what} are under way, which is the limit", 5)
        if len(own) >= share and not self._cut(own):
            raise Overloaded(f"{len(own)} {self._what} of this client are under way, which is its share", 5)
        self._inside.append(scope)
        try:
            yield
        finally:
            self._leave(scope)

    def _cut(self, among: list[Scope]) -> bool:
        stalled = cut_stalled(among)
        if stalled is not None:
            self._leave(stalled)
        return stalled is not None

    def _leave(self, scope: Scope) -> None:
        self._inside = [one for one in self._inside if one is not scope]


class Held:
    """The bytes that all requests' bodies have in memory.

    What is large has a share for each client. Where there is no room, the body that is furthest behind goes, if one
    has stalled.

    Args:
        most: of all together.
    """

    def __init__(self, most: int) -> None:
        self._most, self._sum = most, 0
        self._holding: dict[int, Scope] = {}

    def take(self, scope: Scope, size: int) -> None:
        """Count bytes for a request.

        Raises:
            Overloaded: with them there would be too many, of all or of this client.
        """
        whole = scope.get(BYTES, 0) + size
        while self._sum + size > self._most:
            if not self._cut(scope, list(self._holding.values())):
                raise Overloaded(f"the bodies of all requests have {self._sum} bytes; the limit is {self._most}")
        if whole > SMALL_BODY:
            self._check_share(scope, size)
        self._sum += size
        self._holding[id(scope)] = scope
        scope[BYTES] = whole

    def _check_share(self, scope: Scope, size: int) -> None:
        share, who = int(self._most * SHARE), client(scope)
        own = [one for one in self._holding.values() if client(one) == who]
        while (held := sum(one.get(BYTES, 0) for one in own)) + size > share:
            if not self._cut(scope, own):
                raise Overloaded(f"the bodies of this client's requests have {held} bytes; its share is {share}")

    def _cut(self, scope: Scope, among: list[Scope]) -> bool:
        stalled = cut_stalled([one for one in among if one is not scope and one.get(BYTES)])
        if stalled is not None:
            self.give(stalled)
        return stalled is not None

    def give(self, scope: Scope) -> None:
        """Count all bytes of a request as gone."""
        self._sum -= scope.pop(BYTES, 0)
        self._holding.pop(id(scope), None)


def client(scope: Scope) -> str:
    """Return whose request it is: the key's name, or the address where there are no keys."""
    key = scope.get("breadcrumbs.key")
    return f"key {key.name}" if key is not None else str((scope.get("client") or ("",))[0])


def cut_stalled(among: Sequence[Scope]) -> Scope | None:
    """End the request whose body is furthest behind, and return it; none: none has stalled."""
    now = asyncio.get_running_loop().time()
    behind = {id(one): one[ARRIVAL].behind(now) for one in among if ARRIVAL in one}
    stalled = [one for one in among if behind.get(id(one), 0.0) >= STALLED]
    for one in sorted(stalled, key=lambda one: -behind[id(one)]):
        if one[ARRIVAL].cut is not None and one[ARRIVAL].cut():
            return one
    return None


async def chunks(request: Request, limit: int, what: str) -> AsyncGenerator[bytes, None]:
    """Yield a request's body as it comes, counted; inflated where it is compressed, and counted again.

    Raises:
        TooLarge: more than `limit` bytes, compressed or not, or a Content-Length that already says so.
        Unsupported: the body is compressed otherwise than by gzip or deflate.
        BadRequest: it is not what its coding says.
        Abandoned: the client went away in the middle.
    """
    inflater = _check_headers(request, limit, what)
    came = _came(request, limit, what)
    if inflater is None:
        async for chunk in came:
            yield chunk
        return
    size = 0
    async for chunk in came:
        async for piece in _pieces(inflater.feed(chunk), what):
            size = _count(size, piece, limit, what)
            yield piece
    async for piece in _pieces(inflater.end(), what):
        size = _count(size, piece, limit, what)
        yield piece


async def _came(request: Request, limit: int, what: str) -> AsyncGenerator[bytes, None]:
    """Yield a request's body as it comes, counted, and as it is."""
    size, more = 0, True
    while more:
        chunk, more = await _next_chunk(request, size, limit, what)
        size += len(chunk)
        yield chunk


async def _pieces(inflating: Iterator[bytes], what: str) -> AsyncGenerator[bytes, None]:
    """Yield what a body inflates to, each piece made in a thread."""
    try:
        while (piece := await asyncio.to_thread(next, inflating, None)) is not None:
            yield piece
    except Corrupt as error:
        raise BadRequest(f"{what}: {error}") from error


def _count(size: int, piece: bytes, limit: int, what: str) -> int:
    """The bytes that a body has inflated to so far."""
    if size + len(piece) > limit:
        raise TooLarge(f"{what} inflates to more than {limit} bytes, which is the limit")
    return size + len(piece)


def _check_headers(request: Request, limit: int, what: str) -> Inflater | None:
    """What inflates a body; None: it is not compressed."""
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limit:
        raise TooLarge(f"{what} has {declared} bytes; the limit is {limit}")
    encoding = ", ".join(request.headers.getlist("content-encoding")).strip().lower()
    match encoding.removeprefix("x-"):
        case "" | "identity":
            return None
        case "gzip" | "deflate" as coding:
            return Inflater(coding)
    raise Unsupported(f"content-encoding {encoding!r:.40}: expected gzip, deflate, or a body that is not compressed")


async def _next_chunk(request: Request, size: int, limit: int, what: str) -> tuple[bytes, bool]:
    """The bytes that come after `size` others, and whether there are more."""
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise Abandoned(f"the client left after {size} bytes of {what}")
    chunk = message.get("body", b"")
    size += len(chunk)
    if size > limit:
        raise TooLarge(f"{what} has more than {limit} bytes, which is the limit; {size} came so far")
    return chunk, message.get("more_body", False)


def hold(request: Request, size: int) -> None:
    """Count bytes that a request has in memory, until it is answered; raises as `Held.take` does."""
    held: Held = request.scope["breadcrumbs.held"]
    held.take(request.scope, size)


async def read_body(request: Request, limit: int, what: str) -> bytes:
    """Read a whole body into memory; raises as `chunks` does."""
    if "content-encoding" in request.headers:
        pieces = bytearray()
        async for piece in chunks(request, limit, what):
            hold(request, len(piece))
            pieces += piece
        return bytes(pieces)
    _check_headers(request, limit, what)
    body, more = bytearray(), True
    while more:
        chunk, more = await _next_chunk(request, len(body), limit, what)
        hold(request, len(chunk))
        body += chunk
    return bytes(body)


async def save_body(request: Request, path: Path, limit: int, what: str) -> str:
    """Write a body to a file as it comes and return its sha256; raises as `chunks` does."""
    state = hashlib.sha256()
    with path.open("wb") as file:
        async for chunk in chunks(request, limit, what):
            await asyncio.to_thread(file.write, chunk)
            state.update(chunk)
    return state.hexdigest()


async def read_form(request: Request, limit: int, max_files: int, what: str) -> FormData:
    """Read a multipart body, its files spooled to disk where they are large; the caller closes it.

    Raises:
        BadRequest: it is no multipart body, or has too many fields.
        TooLarge: it has too many files, or bytes.
        Unsupported, Abandoned: as `chunks` does; Unsupported also where its text is not UTF-8, since some
            of Python's codecs take quadratic time.
    """
    kind, parameters = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data":
        raise Unsupported(f"content-type {media_type(request)!r:.80}: expected multipart/form-data")
    charset = parameters.get(b"charset", b"utf-8").decode("latin-1")
    if charset.lower() != "utf-8":
        raise Unsupported(f"charset {charset!r:.40} of a multipart body: expected utf-8, or none")
    parser = MultiPartParser(
        request.headers, chunks(request, limit, what), max_files=max_files, max_fields=FORM_FIELDS,
        max_part_size=SMALL_BODY,
    )  # fmt: skip
    try:
        return await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            raise TooLarge(f"{what} has more than {max_files} files, of which no more are read") from error
        raise BadRequest(f"multipart body: {error.message}") from error


async def read_json(request: Request, model: type[Model], limit: int = SMALL_BODY) -> Model:
    """Read a JSON body into a checked model.

    Raises:
        BadRequest: it is no JSON, or not what `model` expects; naming the field.
    """
    return parse_json(await read_body(request, limit, "JSON body"), model, "JSON body")


def parse_json(data: bytes | str, model: type[Model], what: str) -> Model:
    """Parse JSON into a checked model, no text for a number; raises as `read_json` does, and as `check_json`."""
    check_json(data.encode() if isinstance(data, str) else data, what)
    try:
        return model.model_validate_json(data, strict=True)
    except ValidationError as error:
        raise BadRequest(f"{what}: {tell(error)}") from error


def check_json(data: bytes, what: str) -> None:
    """Refuse JSON whose values would take many times its bytes, before it is parsed.

    Raises:
        TooLarge: it may have more than `CONTAINERS` lists and objects, or `VALUES` values.
    """
    lists, values = data.count(b"[") + data.count(b"{"), data.count(b",")
    if lists > CONTAINERS or values > VALUES:
        raise TooLarge(
            f"{what} has {lists} lists and objects and {values} values; the limits are "
            f"{CONTAINERS} and {VALUES}; send tensors as binary, images as files"
        )


def tell(error: ValidationError) -> str:
    """Say in a sentence where a model's first defect is and what was expected."""
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    came = "" if first["type"] in {"missing", "json_invalid"} else f", got {first['input']!r:.80}"
    return f"{place + ': ' if place else ''}{first['msg']}{came}"


def media_type(request: Request) -> str:
    """Return the content type without its parameters, in small letters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
