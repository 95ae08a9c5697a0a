"""Named limits that no other file comes to, on a real server: at them all is well, beyond them a refusal names them."""

import contextlib
import socket
from collections.abc import Iterator

import httpx
from patience import PATIENCE
from running import Serve
from tiny import picture, png, tiny_snapshot

from breadcrumbs.models.snapshots import snapshot as snapshots

IMAGE = png(picture())
PNG = {"content-type": "image/png"}
SNAPSHOT = snapshots.to_bytes(tiny_snapshot("b" * 64))


def told(answer: httpx.Response) -> tuple[int, str]:
    """Status and message of a refusal."""
    return answer.status_code, answer.json()["error"]["message"]


@contextlib.contextmanager
def half_sent(client: httpx.Client, method: str, path: str, kind: str, sent: bytes) -> Iterator[socket.socket]:
    """A request that is under way: its head and some of its body have been read by the server, and no end."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=PATIENCE) as one:
        one.sendall(head.encode() + b"%x\r\n%s\r\n" % (len(sent), sent))
        yield one


def test_pixels(serve: Serve) -> None:
    """Of an image of 64 pixels, by either protocol."""
    with serve(max_pixels=64) as enough, serve(max_pixels=63) as short:
        assert enough.post("/v1/predict", content=IMAGE, headers=PNG).is_success
        refused = short.post("/v1/predict", content=IMAGE, headers=PNG)
        raw = short.post("/v2/models/tiny-files/infer", content=IMAGE, headers={"Inference-Header-Content-Length": "0"})

    assert told(refused) == (
        413,
        "image has 8 x 8 = 64 pixels; the limit is 63; make it smaller, or raise `max_pixels`",
    )
    assert (raw.status_code, raw.json()) == (
        413,
        {"error": "image has 8 x 8 = 64 pixels; the limit is 63; make it smaller, or raise `max_pixels`"},
    )


def test_uploads_under_way(serve: Serve) -> None:
    """One at a time is let in; a second waits for none, and has its turn when the first has gone."""
    with serve(max_uploads=1) as client:
        with half_sent(client, "PUT", "/v1/snapshots", "application/octet-stream", SNAPSHOT[:100]):
            put, form = eventually_refused(client), client.post("/v1/refit", files={"snapshot": SNAPSHOT})
            predicted = client.post("/v1/predict", content=IMAGE, headers=PNG)
        after = [client.put("/v1/snapshots", content=SNAPSHOT) for _ in range(50)][-1]

    assert told(put) == told(form) == (503, "1 uploads are under way, which is the limit")
    assert int(put.headers["retry-after"]) >= 1
    assert predicted.is_success
    assert after.is_success


def eventually_refused(client: httpx.Client) -> httpx.Response:
    """The answer to an upload once the server knows of the other one."""
    for _ in range(200):
        answer = client.put("/v1/snapshots", content=SNAPSHOT)
        if not answer.is_success:
            return answer
    raise AssertionError("two uploads at once")


def test_bytes_that_all_bodies_have_in_memory(serve: Serve) -> None:
    """Counted as they come, over all requests, and given back when a request has ended or its client has gone."""
    with serve(max_held_bytes=len(IMAGE) + 100) as client:
        alone = [client.post("/v1/predict", content=IMAGE, headers=PNG).status_code for _ in range(3)]
        for _ in range(50):  # whichever comes second is refused: it has to be the whole one
            with half_sent(client, "POST", "/v1/predict", "image/png", bytes(101)):
                client.get("/healthz")
                beside = client.post("/v1/predict", content=IMAGE, headers=PNG)
            if not beside.is_success:
                break
        after = [client.post("/v1/predict", content=IMAGE, headers=PNG).status_code for _ in range(50)][-1]

    assert alone == [200] * 3
    assert beside.status_code == 503
    assert "the bodies of all requests have 101 bytes; the limit is" in beside.json()["error"]["message"]
    assert after == 200


def test_bytes_of_the_store(serve: Serve) -> None:
    """An upload beyond them is 507 and leaves nothing; predictions go on."""
    with serve() as client:
        assert client.get("/v1/heads").is_success  # the first head is in the store
    with serve(max_store_bytes=5_000) as client:
        answers = [
            client.put("/v1/snapshots", content=snapshots.to_bytes(tiny_snapshot("b" * 64, epoch=epoch)))
            for epoch in range(20)
        ]
        kept = len(client.get("/v1/snapshots").json()["snapshots"])
        predicted = client.post("/v1/predict", content=IMAGE, headers=PNG)

    refused = [answer for answer in answers if not answer.is_success]
    assert kept == len(answers) - len(refused) < len(answers)
    assert {answer.status_code for answer in refused} == {507}
    assert "the limit is 5000" in refused[0].json()["error"]["message"]
    assert predicted.is_success
