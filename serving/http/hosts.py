"""The host names that a server answers to. Refusing other names stops DNS rebinding.

The address that the client is connected to is always accepted: it cannot be rebound, and health probes of Kubernetes
and load balancers send it. It knows nothing of routes or keys.
"""

import ipaddress
import re
import socket
from collections.abc import Sequence
from functools import lru_cache

from starlette.types import Scope

from breadcrumbs.serving.refusals import Forbidden, Refused

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")


class Hosts:
    """The names of one server.

    Args:
        names: hosts without ports, as `models.example`; `*.example` for every name below, `*` for any. Empty means this
            machine's name and `listening`.
        listening: the address or name that the server listens on.
    """

    def __init__(self, names: Sequence[str], listening: str) -> None:
        own = socket.gethostname()
        given = names or (own, own.partition(".")[0], listening)
        self._names = frozenset(name.lower().rstrip(".").strip("[]") for name in (*given, *LOOPBACK))
        self._below = tuple(name[1:] for name in self._names if name.startswith("*."))
        self._knows = lru_cache(maxsize=256)(self._find)

    def check(self, scope: Scope) -> None:
        """Check the host of a request.

        Raises:
            Refused: it has no Host header, or several.
            Forbidden: its host is not one of the names.
        """
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) > 1 or (not hosts and scope["http_version"] not in {"1.0", "0.9"}):
            raise Refused(f"the request has {len(hosts)} Host headers; expected one")
        for host in hosts:
            self.expect(host.decode("latin-1"), (scope.get("server") or ("",))[0])

    def expect(self, host: str, address: str = "") -> None:
        """Check a host header on a connection to `address`.

        Raises:
            Forbidden: it is not one of the names.
        """
        if not self._knows(host, address):
            raise Forbidden(
                f"host {host!r:.80} is not a name of this server; add it to the setting `allowed_hosts` "
                f"(--allowed-hosts, BREADCRUMBS_ALLOWED_HOSTS), or let the proxy send one: "
                f"proxy_set_header Host localhost"
            )

    def _find(self, host: str, address: str) -> bool:
        if "*" in self._names:
            return True
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = found[1].strip("[]").lower().removesuffix(".")
        if name in self._names or name.endswith(self._below):
            return True
        ip = _ip(name)
        return ip is not None and (ip == _ip(address) or str(ip) in self._names)


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return an address, an IPv4 one also where it is written as IPv6."""
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or ip
