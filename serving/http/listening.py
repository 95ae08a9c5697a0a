"""The sockets of a server, created before anything else: without its address, a server must not touch the store.

It knows nothing of what is served.
"""

import contextlib
import errno
import socket
from collections.abc import Iterator
from typing import Any

from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.serving.setting_names import both

BACKLOG = 2048
"""Connections that the kernel keeps until they are accepted."""

OF_HOST = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EINVAL)
"""Errors of an address that this machine does not have."""


class AddressError(BreadcrumbsError):
    """The server cannot listen on its address."""


def listen(host: str, port: int) -> list[socket.socket]:
    """Return a socket for each address of a host, which listens; connections wait until they are accepted.

    Raises:
        AddressError: naming the address, and why it cannot be listened on.
    """
    with contextlib.ExitStack() as stack, _told(host, port):
        found = []
        for family, address in _addresses(host, port):
            one = stack.enter_context(_bound(family, (address[0], port, *address[2:])))
            one.listen(BACKLOG)
            found.append(one)
            port = one.getsockname()[1]  # of the first, where the system chose it
        stack.pop_all()
        return found


def shared(host: str, port: int, count: int) -> list[socket.socket]:
    """Return sockets that listen on one address; the kernel gives each connection to one of them.

    Raises:
        AddressError: as `listen`.
    """
    with contextlib.ExitStack() as stack, _told(host, port):
        family, address = min(_addresses(host, port), key=lambda one: one[0] == socket.AF_INET6)  # IPv4 where it is
        with _bound(family, address):  # without sharing: one that another program has is not silently shared
            pass
        found = []
        for _ in range(count):
            one = stack.enter_context(_bound(family, address, shares=True))
            one.listen(BACKLOG)
            found.append(one)
            address = one.getsockname()
        stack.pop_all()
        return found


def _addresses(host: str, port: int) -> list[tuple[int, Any]]:
    every = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, address) for family, _, _, _, address in every))


def _bound(family: int, address: Any, *, shares: bool = False) -> socket.socket:
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shares:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(address)
    except OSError:
        one.close()
        raise
    return one


@contextlib.contextmanager
def _told(host: str, port: int) -> Iterator[None]:
    """Turn the system's errors into one that names the address and the remedy."""
    try:
        yield
    except (OSError, UnicodeError) as error:
        shown = f"[{host}]" if ":" in host else host
        raise AddressError(f"cannot listen on {shown}:{port}: {_why(error)}") from error


def _why(error: OSError | UnicodeError) -> str:
    said = (getattr(error, "strerror", None) or str(error)).lower()
    if isinstance(error, socket.gaierror | UnicodeError) or error.errno in OF_HOST:
        return f"{said}; {both('host')} names an address of this machine"
    if error.errno == errno.EACCES:
        return f"{said}, since the low ports are root's; {both('port')} names another port"
    return f"{said}; {both('port')} names another port" if error.errno == errno.EADDRINUSE else said


def url(listening: socket.socket) -> str:
    """The address of a socket, as one types it."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
