"""The names that a server answers to: DNS rebinding is refused on every route, in every configuration."""

import json
import re
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
from running import Serve

from breadcrumbs.serving.http.hosts import Hosts
from breadcrumbs.serving.refusals import Forbidden

WAYS: list[dict[str, Any]] = [
    {},
    {"insecure": True},
    {"host": "0.0.0.0", "insecure": True},
    {"host": "0.0.0.0", "keys": "keys.json"},
    {"root_path": "/ml/bc"},
    {"trusted_proxies": ("127.0.0.1",)},
    {"origins": ("http://evil.example:8000",)},
    {"allowed_hosts": ("models.example",)},
]
EVIL = (
    "evil.example", "evil.example:8000", "EVIL.example.", "localhost.evil.example", "127.0.0.1.evil.example", "evil",
    "localhost@evil.example", "evil.example:localhost", "192.0.2.7", "[2001:db8::1]:80", "0x7f.1", "", "local host",
)  # fmt: skip


def raw(client: httpx.Client, request: str) -> str:
    """Send a request as it is; return the answer."""
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=10) as one:
        one.sendall(request.encode("latin-1"))
        found = b""
        while piece := one.recv(65_536):
            found += piece
    return found.decode("latin-1")


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_name_that_was_made_to_point_here_is_refused(serve: Serve, tmp_path: Path, way: dict[str, Any]) -> None:
    """On every route and by every method, with a sentence that names the setting."""
    if "keys" in way:
        (tmp_path / "keys.json").write_text(json.dumps({}))
        way = way | {"keys": tmp_path / "keys.json"}
    with serve(**way) as client:
        paths = client.get("/openapi.json").json()["paths"]
        known = [
            (method.upper(), re.sub(r"\{\w+\}", "1", path)) for path, methods in paths.items() for method in methods
        ]
        for method, path in [*known, ("GET", "/"), ("HEAD", "/healthz"), ("OPTIONS", "/v1/refit"), ("GET", "/nothing")]:
            answer = client.request(
                method, path, headers={"host": "evil.example:8000", "x-forwarded-host": "localhost"}
            )
            assert answer.status_code == 403, (method, path)
            assert method == "HEAD" or "allowed_hosts" in answer.text
        for host in EVIL:
            assert client.get("/v1/heads", headers={"host": host}).status_code == 403, host


def test_the_machines_own_names_are_answered(serve: Serve) -> None:
    """In any spelling: loopback, the address that the client is connected to, the host name."""
    with serve() as client:
        for host in ("localhost", "LOCALHOST:1", "localhost.", "127.0.0.1:8000", "[::1]:80", socket.gethostname()):
            assert client.get("/healthz", headers={"host": host}).status_code == 200, host


def test_hosts_that_a_request_names_twice_or_not_at_all(serve: Serve) -> None:
    """Two, or none in HTTP/1.1: 400. An absolute target counts instead of the header. HTTP/1.0 may leave it out."""
    end = "Connection: close\r\n\r\n"
    with serve(allowed_hosts=("models.example",)) as client:
        two = raw(client, f"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n{end}")
        none = raw(client, f"GET /healthz HTTP/1.1\r\n{end}")
        old = raw(client, "GET /healthz HTTP/1.0\r\n\r\n")
        evil = raw(client, f"GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost\r\n{end}")
        sly = raw(client, f"GET http://localhost@evil.example:80/healthz HTTP/1.1\r\nHost: localhost\r\n{end}")
        right = raw(client, f"GET http://models.example/healthz HTTP/1.1\r\nHost: evil.example\r\n{end}")
        stars = raw(client, f"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n{end}")
        tunnel = raw(client, f"CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n{end}")

    statuses = [answer[9:12] for answer in (two, none, old, evil, sly, right, tunnel)]
    assert statuses == ["400", "400", "200", "403", "403", "200", "400"]
    assert stars[9:12] in {"200", "204", "404"}


@pytest.mark.parametrize(
    ("names", "host", "known"),
    [
        (("models.example",), "models.example:8443", True),
        (("Models.Example",), "models.example", True),
        (("models.example",), "a.models.example", False),
        (("*.models.example",), "a.models.example", True),
        (("*.models.example",), "models.example", False),
        (("*.models.example",), "evilmodels.example", False),
        (("192.0.2.7",), "192.0.2.7:80", True),
        (("2001:db8::1",), "[2001:DB8:0::1]:80", True),
        (("[2001:db8::1]",), "[2001:db8::1]", True),
        (("*",), "anything.example", True),
        (("models.example",), "localhost", True),
        ((), "192.0.2.9:8000", True),
        ((), "192.0.2.8:8000", False),
    ],
)
def test_names_of_a_setting(names: tuple[str, ...], host: str, known: bool) -> None:
    """Exact names, names below one, addresses; 192.0.2.9 is where the client is connected to."""
    hosts = Hosts(names, "0.0.0.0")
    if known:
        hosts.expect(host, "192.0.2.9")
    else:
        with pytest.raises(Forbidden, match="is not a name of this server; add it to the setting `allowed_hosts`"):
            hosts.expect(host, "192.0.2.9")


@pytest.mark.parametrize("name", ["http://models.example", "models.example:8000", "a b", "*.", "x/*"])
def test_a_name_that_can_never_match_is_refused_at_the_start(serve: Serve, name: str) -> None:
    """With what was expected."""
    with pytest.raises(ValueError, match="expected a name or an address without port"), serve(allowed_hosts=(name,)):
        pass


def test_a_proxy_on_this_machine_needs_the_name_only(serve: Serve) -> None:
    """`--insecure` and the proxy's name: its clients are answered, and its pages may post."""
    with serve(insecure=True, allowed_hosts=("models.example",)) as client:
        page = {"host": "models.example:21110", "origin": "https://models.example:21110"}
        posted = client.post("/v1/predict", headers=page | {"content-type": "image/png"}, content=b"x")
        other = client.post("/v1/predict", headers=page | {"origin": "https://evil.example:21110"}, content=b"x")

    assert posted.status_code == 422
    assert (other.status_code, "proxy_set_header Host $http_host" in other.text) == (403, True)
