"""Addresses that cannot be listened on: a sentence each with the setting to change, for one process and for several."""

import errno
import os
import socket
from collections.abc import Callable

import pytest

from breadcrumbs.serving.http import listening
from breadcrumbs.serving.http.listening import AddressError, listen, shared

WAYS: dict[str, Callable[[str, int], list[socket.socket]]] = {
    "one": listen,
    "several": lambda host, port: shared(host, port, 2),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "host", ["no.such.host.invalid", "192.0.2.1", "2001:db8::1", "a..b", "a" * 64 + ".b", "1.2.3.4.5"]
)
def test_an_address_of_another_machine_or_of_none(way: str, host: str) -> None:
    """The host is what must change."""
    shown = f"[{host}]" if ":" in host else host
    with pytest.raises(AddressError) as refusal:
        WAYS[way](host, 8000)

    assert str(refusal.value).startswith(f"cannot listen on {shown}:8000: ")
    assert str(refusal.value).endswith("; --host (BREADCRUMBS_HOST) names an address of this machine")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_a_port_that_is_taken(way: str, host: str) -> None:
    """The port is what must change; nothing is left open."""
    first = WAYS[way](host, 0)
    port = first[0].getsockname()[1]
    with pytest.raises(AddressError, match=r"address already in use; --port \(BREADCRUMBS_PORT\) names another port"):
        WAYS[way](host, port)
    for one in first:
        one.close()

    for one in WAYS[way](host, port):
        one.close()


@pytest.mark.parametrize("way", WAYS)
def test_a_port_that_only_root_may_have(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The port is what must change. Where the tests may have every port, the system's answer is played."""
    if os.geteuid() == 0:

        def refused(*_: object, **__: object) -> socket.socket:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        monkeypatch.setattr(listening, "_bound", refused)
    with pytest.raises(AddressError) as refusal:
        WAYS[way]("127.0.0.1", 80)

    told = "permission denied, since the low ports are root's; --port (BREADCRUMBS_PORT) names another port"
    assert str(refusal.value) == f"cannot listen on 127.0.0.1:80: {told}"


@pytest.mark.parametrize("way", WAYS)
def test_a_name_is_every_address_of_it_on_one_port(way: str) -> None:
    """Of one process; several have an IPv4 address where there is one."""
    sockets = WAYS[way]("localhost", 0)
    hosts, ports = ({each.getsockname()[place] for each in sockets} for place in (0, 1))
    for each in sockets:
        each.close()
    every = {address[0] for *_, address in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}

    assert hosts == (every if way == "one" else {"127.0.0.1"})
    assert len(ports) == 1
