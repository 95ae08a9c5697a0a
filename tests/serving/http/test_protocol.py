"""Slow clients: told so after a while, and no burden to others."""

import contextlib
import socket
import time

import httpx
import pytest
from patience import PATIENCE
from running import Serve
from tiny import picture, png

from breadcrumbs.serving.settings import Settings

HEAD = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 100000\r\n\r\n"


def connect(client: httpx.Client) -> socket.socket:
    """A bare connection to a client's server."""
    return socket.create_connection((client.base_url.host, client.base_url.port), timeout=PATIENCE)


def rest(one: socket.socket) -> bytes:
    """What comes until the server closes."""
    found = b""
    while piece := one.recv(65_536):
        found += piece
    return found


@pytest.mark.parametrize(
    "sent",
    [b"", b"POST /v1/pre", HEAD[:-2], HEAD, HEAD + b"x" * 10],
    ids=["nothing", "line", "head", "no body", "part"],
)
def test_a_request_that_does_not_arrive_is_given_up(serve: Serve, sent: bytes) -> None:
    """With 408, wherever it stopped; and the connection is closed."""
    with serve(receipt=1) as client, connect(client) as one:
        one.sendall(sent)
        answer = rest(one)

        assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert b"did not arrive in 1 s" in answer
        assert client.get("/healthz").status_code == 200


def test_a_trickle_is_no_request(serve: Serve) -> None:
    """A byte now and then does not keep a connection."""
    with serve(receipt=0.3) as client, connect(client) as one:
        one.sendall(HEAD)
        with pytest.raises(OSError):  # noqa: PT012 - which byte meets the closed connection is a matter of luck
            for _ in range(1000):
                one.sendall(b"x")
                time.sleep(0.02)


def test_a_header_without_end_is_cut(serve: Serve) -> None:
    """A parser would gather it until the deadline, each piece at the price of all before it."""
    with serve(receipt=600) as client, connect(client) as one:
        one.sendall(HEAD[:-2] + b"X-Long: ")
        with contextlib.suppress(OSError):  # that is where it is cut
            for _ in range(1_000):
                one.sendall(b"y" * 65_536)
        with contextlib.suppress(ConnectionResetError):
            assert rest(one).startswith(b"HTTP/1.1 431 ")

        assert client.get("/healthz").status_code == 200


def test_a_head_is_told_when_it_is_too_long(serve: Serve) -> None:
    """431 with the limit, whether its headers come in one piece or in many, and none of a body counts."""
    flood = [b"X-%d: %s\r\n" % (number, b"y" * 900) for number in range(80)]
    with serve() as client:
        for pieces in ([HEAD[:-2] + b"".join(flood) + b"\r\n"], [HEAD[:-2], *flood]):
            with connect(client) as one:
                for piece in pieces:
                    one.sendall(piece)
                answer = rest(one)
            assert answer.startswith(b"HTTP/1.1 431 ")
            assert b"more than 65536 bytes, which is the limit" in answer
        fits = client.post("/v1/predict", content=bytes(300_000), headers={"x-long": "y" * 60_000})
        with connect(client) as one:
            one.sendall(
                HEAD + bytes(100_000) + b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            )
            both = rest(one)

    assert fits.status_code == 422
    assert [both[:13], both.count(b"HTTP/1.1 200 ")] == [b"HTTP/1.1 422 ", 1]


def test_a_large_body_that_comes_fast_enough_has_the_time_it_takes(serve: Serve) -> None:
    """Longer than the deadline, at far more than the least rate: a busy machine may be slow at it."""
    image = png(picture())
    body = b'--b\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\n' + image + b"\r\n--b--\r\n"
    padding = b'--b\r\nContent-Disposition: form-data; name="labels"\r\n\r\n' + b" " * 1_000_000 + b'["oak"]\r\n'
    padding += b'--b\r\nContent-Disposition: form-data; name="epoch"\r\n\r\n1\r\n'
    whole = padding + body
    head = "POST /v1/features?format=safetensors HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    head += f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {len(whole)}\r\n\r\n"
    with serve(receipt=0.3) as client, connect(client) as one:
        one.sendall(head.encode() + whole[:100_000])
        for place in range(100_000, len(whole), 100_000):
            time.sleep(0.06)
            one.sendall(whole[place : place + 100_000])
        answer = rest(one)

    assert answer.startswith(b"HTTP/1.1 200"), answer[:300]


def test_connections_that_are_used_again_are_not_cut(serve: Serve) -> None:
    """The deadline is of a request, not of a connection."""
    with serve(receipt=2) as client:
        for _ in range(5):
            assert client.post("/v1/predict", content=png(picture()), headers={"content-type": "image/png"}).is_success
            time.sleep(0.5)
        assert client.get("/healthz").is_success


@pytest.mark.parametrize("seconds", [0.2, 0.7])
def test_an_idle_connection_is_kept_as_long_as_the_setting_says(serve: Serve, seconds: float) -> None:
    """Then it is closed without a word, also where empty lines come; the default outlasts common proxies."""
    asked = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with serve(keep_alive=seconds) as client, connect(client) as one:
        one.sendall(asked)
        one.sendall(b"\r\n")
        began = time.monotonic()
        answer = rest(one)
        kept = time.monotonic() - began

    assert answer.count(b"HTTP/1.1 ") == 1
    assert kept > seconds / 2
    assert Settings().keep_alive > 60


def test_five_hundred_slow_clients_do_not_hold_up_the_others(serve: Serve) -> None:
    """Each holds a connection and sends a byte now and then; the others are answered meanwhile, and no later."""
    with serve(receipt=600) as client:

        def predict() -> float:
            answer = client.post("/v1/predict", content=png(picture()), headers={"content-type": "image/png"})
            assert answer.is_success
            return answer.elapsed.total_seconds()

        before = [predict() for _ in range(100)]
        slow = [connect(client) for _ in range(500)]
        for one in slow:
            one.sendall(HEAD[:40])
        during = []
        for turn in range(100):
            for one in slow[turn::100]:
                one.sendall(HEAD[40:41])
            during.append(predict())
        held = 0
        for one in slow:
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                pytest.fail(f"a slow client was answered, or cut off: {one.recv(100)!r}")
            held += 1
            one.close()

    assert held == 500
    assert sorted(during)[98] < sorted(before)[98] + 5  # the 99th of 100; waiting for the slow ones would take 600 s


def test_slow_clients_go_when_their_time_is_up(serve: Serve) -> None:
    """Many at once, each with 408."""
    with serve(receipt=0.5) as client:
        slow = [connect(client) for _ in range(100)]
        for one in slow:
            one.sendall(HEAD[:40])
        ended = [rest(one) for one in slow]
        for one in slow:
            one.close()

    assert all(answer.startswith(b"HTTP/1.1 408") for answer in ended)
