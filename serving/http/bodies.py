"""The bodies of requests: bytes, forms and JSON. Bytes are counted as they arrive, whatever the headers say.

Every error names the limit and what came. It knows nothing of images, models or the store; the numbers come from
`serving.settings`.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser

from breadcrumbs.serving.http.inflate import Corrupt, Inflater
from breadcrumbs.serving.http.shares import SMALL_BODY, Held
from breadcrumbs.serving.refusals import Abandoned, BadRequest, TooLarge, Unsupported, tell

Model = TypeVar("Model", bound=BaseModel)

CONTAINERS = 300_000
"""Largest number of lists and objects in a JSON body: an empty one takes 2 bytes there and 60 in memory."""
VALUES = 4_000_000
"""Largest number of values in a JSON body: a digit takes 2 bytes there and 48 in memory until it is in a tensor."""
FORM_FIELDS = 8
"""Largest number of fields in a multipart body that are not files; each may have `SMALL_BODY` bytes, and is kept in
memory."""


async def chunks(request: Request, limit: int, what: str) -> AsyncGenerator[bytes, None]:
    """Yield a request's body as it arrives, inflated if it is compressed. Its bytes are counted before and after
    inflating.

    Raises:
        TooLarge: more than `limit` bytes, compressed or not, or a Content-Length that already says so.
        Unsupported: the body is compressed by something else than gzip or deflate.
        BadRequest: it is not valid gzip or deflate data.
        Abandoned: the client disconnected.
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
    """Yield a request's body as it arrives, counted, without inflating it."""
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
    """Return what inflates a body. None means that it is not compressed."""
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
    """Count bytes that a request holds in memory until it is answered; raises as `Held.take`."""
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
    """Read a multipart body; large files are spooled to disk. The caller closes it.

    Raises:
        BadRequest: it is not a multipart body, or has too many fields.
        TooLarge: it has too many files, or bytes.
        Unsupported, Abandoned: as `chunks` does; Unsupported also if its text is not UTF-8, since some of Python's
            codecs take quadratic time.
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
        BadRequest: it is not JSON, or not what `model` expects; the message names the field.
    """
    return parse_json(await read_body(request, limit, "JSON body"), model, "JSON body")


def parse_json(data: bytes | str, model: type[Model], what: str) -> Model:
    """Parse JSON into a checked model, strictly: no text for a number. Raises as `read_json` and `check_json`."""
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


def media_type(request: Request) -> str:
    """Return the content type in lower case, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
