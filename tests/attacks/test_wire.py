"""What comes on a connection beside bodies, on every route: counted, dropped, cut; and who holds what others need.

The server's memory is measured; nothing here asserts a time.
"""

import contextlib
import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from server_process import Server, serving
from tiny import picture, png

from breadcrumbs.models.bundle import Bundle

MIB = 2**20
SPARE = 64
"""MiB that memory may grow by under one of these; the attacks send as much again and more."""
SENT = 256 * MIB
"""Bytes that an attack tries to send."""
ENOUGH = 16 * MIB
"""Bytes after which the server must have cut what is no body: its own limits, and what lies in the sockets' buffers."""


@pytest.fixture(scope="module", params=[(), ("--root-path", "/ml/bc"), ("--keys", "keys.json")], ids=str)
def server(
    request: pytest.FixtureRequest, tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server in a process of its own."""
    folder = tmp_path_factory.mktemp("wire")
    (folder / "keys.json").write_text(json.dumps({}))
    with serving(tiny_bundle, folder, *request.param) as one:
        yield one


def routes(server: Server) -> list[tuple[str, str]]:
    """Every operation that there is, and some that there are not: method and path."""
    paths = server.client.get("/openapi.json").json()["paths"]
    known = [(method.upper(), re.sub(r"\{\w+\}", "1", path)) for path, methods in paths.items() for method in methods]
    return [
        *known,
        ("POST", "/nothing"),
        ("DELETE", "/v1/predict"),
        ("HEAD", "/healthz"),
        ("OPTIONS", "/v1/heads"),
        ("GET", "/docs"),
    ]


def send(server: Server, head: bytes, piece: bytes) -> tuple[int, bytes]:
    """Send a head, then a piece again and again; return the bytes that were taken, and what was answered."""
    answer, sent = b"", 0
    with socket.create_connection(server.address, timeout=10) as one:
        with contextlib.suppress(OSError):
            one.sendall(head)
            while sent < SENT:
                one.sendall(piece)
                sent += len(piece)
        with contextlib.suppress(OSError):
            while more := one.recv(65_536):
                answer += more
    return sent, answer


CHUNKED = b"%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
ENDLESS = {
    "trailers": (b"1\r\nx\r\n0\r\n", b"A: b\r\n" * 10_000),
    "trailers after nothing": (b"0\r\n", b"A: b\r\n" * 10_000),
    "one trailer": (b"1\r\nx\r\n0\r\nA: ", b"b" * 60_000),
    "one trailer's name": (b"1\r\nx\r\n0\r\n", b"b" * 60_000),
    "one extension": (b"1;a=", b"b" * 60_000),
    "an extension for each byte": (b"", b"1;" + b"a" * 60_000 + b"\r\nx\r\n"),
    "zeros of a size": (b"", b"0" * 60_000),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_what_is_no_body_ends_on_every_route(server: Server, kind: str) -> None:
    """Trailers, extensions and sizes without end are cut on all routes, with or without a key, and cost no memory."""
    start, piece = ENDLESS[kind]
    before = server.forget_peak()
    for method, path in routes(server):
        sent, answer = send(server, CHUNKED % (method.encode(), path.encode()) + start, piece)

        assert sent < ENOUGH, (method, path)
        assert not re.match(rb"HTTP/1.1 5", answer), (method, path, answer)
    assert server.peak() < before + SPARE * MIB
    assert server.client.get("/healthz").is_success


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"", b"\r\n" * 30_000),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\r\n" * 30_000),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /", b"a" * 60_000),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\n", b"A: b\r\n" * 10_000),
        (CHUNKED % (b"POST", b"/v1/predict") + b"1\r\nx\r\n0\r\n\r\n", b"\n" * 60_000),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", b"a" * 60_000),
    ],
    ids=["lines first", "lines between", "a long target", "many headers", "lines after chunks", "after an upgrade"],
)
def test_what_is_between_requests_ends(server: Server, start: bytes, piece: bytes) -> None:
    """Empty lines, and a second head behind an answered request."""
    before = server.forget_peak()
    sent, answer = send(server, start, piece)

    assert sent < ENOUGH
    assert b"HTTP/1.1 5" not in answer
    assert server.peak() < before + SPARE * MIB


def test_requests_that_nobody_waits_for_take_no_memory(server: Server) -> None:
    """A connection that sends requests and reads no answer is not read on, or is cut."""
    before = server.forget_peak()
    with socket.create_connection(server.address, timeout=2) as one, contextlib.suppress(OSError):
        for _ in range(SENT // 65_536):
            one.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1_500)

    assert server.peak() < before + SPARE * MIB
    assert server.client.get("/healthz").is_success


def test_trailers_of_a_fair_size_are_taken(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """And do not become headers; chunks may have extensions, and a line may be empty before a request."""
    data = png(picture())
    chunks = b"".join(
        b"%x;signature=%s\r\n%s\r\n" % (1, b"a" * 64, data[place : place + 1]) for place in range(len(data))
    )
    with serving(tiny_bundle, tmp_path) as server, socket.create_connection(server.address, timeout=10) as one:
        one.sendall(
            b"\r\n" + CHUNKED % (b"POST", b"/v1/predict") + chunks + b"0\r\nX-Request-ID: mine\r\nExpires: 0\r\n\r\n"
        )
        one.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b""
        while more := one.recv(65_536):
            answer += more

    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert b"mine" not in answer


def predicted(server: Server) -> int:
    """The status of a prediction."""
    answer = server.client.post("/v1/predict", content=png(picture()), headers={"content-type": "image/png"})
    return answer.status_code


@pytest.mark.parametrize("count", [8, 20])
def test_silent_bodies_do_not_stop_predictions(tiny_bundle: Bundle, tmp_path: Path, count: int) -> None:
    """Connections that each send all of a large body but a byte: others are answered meanwhile, then they are cut."""
    size = 2 * MIB
    flags = ("--max-body-bytes", str(size), "--max-held-bytes", str(8 * size), "--receipt-idle", "2")
    head = (
        b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    )
    with serving(tiny_bundle, tmp_path, *flags) as server, contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(server.address, timeout=30)) for _ in range(count)]
        for one in silent:
            with contextlib.suppress(OSError):
                one.sendall(head % size + b" " * (size - 1))
        statuses = {predicted(server) for _ in range(10)}
        answers = []
        for one in silent:
            with contextlib.suppress(ConnectionResetError):
                answers.append(one.recv(65_536)[9:12])

    assert statuses == {200}
    assert set(answers) <= {b"408", b"503", b""}
    assert b"408" in answers


def test_dribbling_uploads_do_not_block_the_next(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """All places are taken by uploads with a fast start and a byte now and then: another has one soon."""
    head = b"PUT /v1/snapshots HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000000\r\n\r\n"
    flags = ("--max-uploads", "4", "--receipt", "600")
    with serving(tiny_bundle, tmp_path, *flags) as server, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(server.address)) for _ in range(4)]
        for one in slow:
            one.sendall(head + b"x" * MIB)
        for _ in range(100):  # their own time would end after 600 s
            for one in slow:
                with contextlib.suppress(OSError):
                    one.sendall(b"x")
            answer = server.client.put("/v1/snapshots", content=b"no snapshot")
            if answer.status_code != 503:
                break
            time.sleep(0.3)

    assert answer.status_code == 422


def test_a_slow_but_steady_client_is_served(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Above the least rate for longer than the grace, with a pause in the middle."""
    data = png(picture())
    flags = ("--receipt", "1", "--receipt-idle", "1", "--receipt-rate", "1000")
    body = b'--b\r\nContent-Disposition: form-data; name="labels"\r\n\r\n' + b" " * 20_000 + b'["oak"]\r\n'
    body = (
        b'--b\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\n' + data + b"\r\n" + body + b"--b--\r\n"
    )
    head = b"POST /v1/features?format=safetensors HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    head += b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: %d\r\n\r\n" % len(body)
    with serving(tiny_bundle, tmp_path, *flags) as server, socket.create_connection(server.address, timeout=10) as one:
        one.sendall(head)
        for place in range(0, len(body), 1_000):
            one.sendall(body[place : place + 1_000])
            time.sleep(0.5 if place == 5_000 else 0.1)
        answer = one.recv(65_536)

    assert re.match(rb"HTTP/1\.1 (200|422)", answer), answer[:300]
