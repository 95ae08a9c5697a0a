"""Settings that are lists: with commas, as a JSON list, one value, or nothing. Each entry is checked, and an origin is
normalised to what browsers send. It knows nothing of what the lists are for.
"""

import ipaddress
import json
import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, AnyUrl, BeforeValidator
from pydantic_settings import NoDecode

HOST = re.compile(r"\*|(\*\.)?[A-Za-z0-9_-][A-Za-z0-9._-]*|\[?[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]?")
"""A name, `*.` and a name, any name, or an address, without port."""
ORIGIN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^\s/?#@*\\]+)/?")
"""Scheme, host and optional port; a slash at the end is allowed."""
PORTS = {"http": 80, "https": 443}
"""The default port of each scheme, which browsers leave out."""


def split(given: object) -> object:
    """Return the entries of a list, from an environment variable's text or from the values of a flag."""
    parts = [given] if isinstance(given, str) else given
    if not isinstance(parts, Sequence):
        return given
    return [entry for part in parts for entry in _entries(part)]


def _entries(part: object) -> list[object]:
    if not isinstance(part, str):
        return list(part) if isinstance(part, list | tuple) else [part]
    try:
        found = json.loads(part)
    except ValueError:
        found = None
    if isinstance(found, list):
        return found
    return [entry for entry in map(str.strip, part.split(",")) if entry]


def _host(name: str) -> str:
    if not HOST.fullmatch(name):
        raise ValueError("expected a name or an address without port, as models.example")
    return name


def _proxy(address: str) -> str:
    try:
        ipaddress.ip_network(address, strict=False)
    except ValueError:
        raise ValueError("expected an address or a network, as 127.0.0.1 or 10.0.0.0/8") from None
    return address


def _origin(origin: str) -> str:
    """Return an origin as browsers write it: lower case, no slash, no default port."""
    if origin == "*":
        return origin
    wrong = "expected a scheme and a host, without a path, as https://lab.example, or * for every site"
    if not ORIGIN.fullmatch(origin):
        raise ValueError(wrong)
    try:
        url = AnyUrl(origin)
    except ValueError:
        raise ValueError(wrong) from None
    port = "" if url.port in {None, PORTS.get(url.scheme)} else f":{url.port}"
    return f"{url.scheme}://{url.host}{port}"


def _once(entries: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(entries))


HostNames = Annotated[tuple[Annotated[str, AfterValidator(_host)], ...], NoDecode, BeforeValidator(split)]
Proxies = Annotated[tuple[Annotated[str, AfterValidator(_proxy)], ...], NoDecode, BeforeValidator(split)]
Origins = Annotated[
    tuple[Annotated[str, AfterValidator(_origin)], ...], NoDecode, BeforeValidator(split), AfterValidator(_once)
]
