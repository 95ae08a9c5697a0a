"""The sockets of a server, made before anything else is: who cannot have the address must not touch the store.

It knows nothing of what is served.
"""

import contextlib
import socket

from models.errors import BreadcrumbsError

BACKLOG = 2048
"""Connections that the kernel keeps until they are accepted."""


class AddressError(BreadcrumbsError):
    """The server cannot listen where it should."""


def listen(host: str, port: int) -> list[socket.socket]:
    """Return a socket for each address of a host, which listens; connections wait until they are accepted.

    Raises:
        AddressError: naming the address, and why it cannot be listened on.
    """
    with contextlib.ExitStack() as stack:
        found = []
        try:
            every = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            for family, kind, protocol, _, address in dict.fromkeys(every):
                one = stack.enter_context(socket.socket(family, kind, protocol))
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                one.bind((address[0], port, *address[2:]))
                one.listen(BACKLOG)
                found.append(one)
                port = one.getsockname()[1]  # of the first, where the system chose it
        except OSError as error:
            raise AddressError(f"cannot listen on {host}:{port}: {_why(error)}") from error
        stack.pop_all()
        return found


def _why(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return f"{error.strerror}; --host names an address of this machine"
    if error.errno is not None and "assign" in (error.strerror or ""):
        return f"{error.strerror}; --host names an address of this machine"
    return f"{(error.strerror or str(error)).lower()}; --port names another port"


def url(listening: socket.socket) -> str:
    """The address of a socket, as one types it."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
