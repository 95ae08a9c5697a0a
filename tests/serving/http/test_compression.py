"""Bodies in gzip and deflate, in and out: on every route that takes one, within the same limits."""

import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from running import Serve
from tiny import SIDE, expected_features, picture, png, tiny_snapshot

from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.serving.http.compressed import chosen
from breadcrumbs.serving.http.inflate import PIECE, Coding, Corrupt, Inflater


def raw_deflate(data: bytes) -> bytes:
    """Deflate without the header that the standard asks for."""
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(data) + stream.flush()


PACKED: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "GZIP": ("GZIP", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "raw deflate": ("deflate", raw_deflate),
    "identity": ("identity", bytes),
    "none": ("", bytes),
}
PIXELS = np.stack([picture(1), picture(2)])
INFER = json.dumps(
    {"inputs": [{"name": "image", "shape": [2, SIDE, SIDE, 3], "datatype": "UINT8", "data": PIXELS.ravel().tolist()}]}
).encode()


def post(
    client: httpx.Client, path: str, body: bytes, way: str, method: str = "POST", **headers: str
) -> httpx.Response:
    coding, pack = PACKED[way]
    return client.request(method, path, content=pack(body), headers={"content-encoding": coding, **headers})


@pytest.mark.parametrize("way", PACKED)
def test_every_kind_of_body_may_be_compressed(serve: Serve, way: str) -> None:
    """Tensors with the length of their JSON, a raw image, JSON, a form and a snapshot give what they give plain."""
    form = httpx.Request("POST", "http://x", files=[("a", png(picture(1))), ("b", png(picture(2)))])
    given = {"name": "image", "shape": [2, SIDE, SIDE, 3], "datatype": "UINT8"}
    text = json.dumps({"inputs": [given | {"parameters": {"binary_data_size": PIXELS.size}}]}).encode()
    with serve() as client:
        answers = [
            post(client, "/v2/models/tiny/infer", INFER, way),
            post(
                client, "/v2/models/tiny/infer", text + PIXELS.tobytes(), way,
                **{"inference-header-content-length": str(len(text))},
            ),
        ]  # fmt: skip
        features = post(client, "/v1/features", form.read(), way, **{"content-type": form.headers["content-type"]})
        predicted = post(client, "/v1/predict", png(picture(1)), way, **{"content-type": "image/png"})
        refit = post(
            client, "/v1/refit", b'{"spec": {"activate": "never"}}', way, **{"content-type": "application/json"}
        )
        snapshot = snapshots.to_bytes(tiny_snapshot("b" * 64, 1))
        stored = post(client, "/v1/snapshots", snapshot, way, "PUT")

    for answer in answers:
        found = np.array(answer.json()["outputs"][0]["data"]).reshape(2, 4)
        np.testing.assert_allclose(found, expected_features(PIXELS), atol=1e-5)
    np.testing.assert_allclose(features.json()["features"], expected_features(PIXELS), atol=1e-5)
    assert (predicted.status_code, refit.status_code, stored.status_code) == (200, 202, 201)
    assert stored.json()["rows"] == 12


@pytest.mark.parametrize("way", ["gzip", "deflate", "raw deflate"])
@pytest.mark.parametrize(
    ("path", "method", "headers"),
    [
        ("/v2/models/tiny/infer", "POST", {}),
        ("/v1/predict", "POST", {"content-type": "image/png"}),
        ("/v1/predict", "POST", {"content-type": "application/json"}),
        ("/v1/features", "POST", {"content-type": "multipart/form-data; boundary=b"}),
        ("/v1/snapshots", "PUT", {}),
        ("/v1/refit", "POST", {"content-type": "application/json"}),
    ],
)
def test_a_bomb_is_refused(client: httpx.Client, way: str, path: str, method: str, headers: dict[str, str]) -> None:
    """What inflates to more than the route's limit; nobody looks what it would have been."""
    start = b"--b\r\nContent-Disposition: form-data; name=a; filename=a\r\n\r\n" if "multipart" in str(headers) else b""
    bomb = start + bytes(10 * 2**20)
    answer = post(client, path, bomb, way, method, **headers)

    assert len(PACKED[way][1](bomb)) < 20_000
    assert answer.status_code == 413, answer.text
    assert "inflates to more than" in answer.text


@pytest.mark.parametrize(
    ("coding", "body", "message"),
    [
        ("gzip", b"plain", "is not gzip data"),
        ("gzip", gzip.compress(INFER)[:-9], "ends in the middle"),
        ("gzip", b"", "ends in the middle"),
        ("gzip", gzip.compress(INFER) + b"x", "more bytes follow"),
        ("gzip", gzip.compress(INFER)[:-8] + bytes(8), "is not gzip data"),
        ("deflate", b"\xff\xff\xff", "is not deflate data"),
        ("deflate", zlib.compress(INFER)[:-5], "ends in the middle"),
        ("deflate", b"x", "ends in the middle"),
        ("deflate", zlib.compress(INFER) * 2, "more bytes follow"),
    ],
)
def test_what_is_not_in_its_coding_is_refused(client: httpx.Client, coding: str, body: bytes, message: str) -> None:
    """In one sentence, 400."""
    answer = client.post("/v2/models/tiny/infer", content=body, headers={"content-encoding": coding})

    assert (answer.status_code, message in answer.text) == (400, True), answer.text


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "deflate, gzip", "compress", "x"])
def test_other_codings_are_refused_by_name(client: httpx.Client, coding: str) -> None:
    """Several at once, too, also in several headers; with those that are taken."""
    sent = [("content-encoding", one) for one in coding.split(", ")]
    for headers in (sent, [("content-encoding", coding)]):
        answer = client.post("/v2/models/tiny/infer", content=b"x", headers=headers)

        assert answer.status_code == 415
        assert f"{coding!r}: expected gzip, deflate" in answer.json()["error"]


def test_inflated_bytes_count_as_held(serve: Serve) -> None:
    """Those of all requests together have a limit, which a small body cannot go round."""
    with serve(max_held_bytes=2**20) as client:
        answer = post(client, "/v2/models/tiny/infer", bytes(2**21), "gzip")
        after = post(client, "/v2/models/tiny/infer", INFER, "gzip")

    assert (answer.status_code, after.status_code) == (503, 200)


@settings(deadline=None)
@given(
    data=st.one_of(st.binary(max_size=2000), st.integers(0, 3 * PIECE).map(bytes)),
    cuts=st.lists(st.integers(0, 300), max_size=9), way=st.sampled_from(["gzip", "deflate", "raw deflate"]),
    flip=st.one_of(st.none(), st.integers(0, 10**6)),
)  # fmt: skip
def test_whatever_is_inflated_comes_in_bounded_pieces(data: bytes, cuts: list[int], way: str, flip: int | None) -> None:
    """However it is cut; damage is an error or nothing else than other bytes."""
    coding, pack = PACKED[way]
    packed = bytearray(pack(data))
    if flip is not None:
        packed[flip % len(packed)] ^= 1 + flip % 255
    kind: Coding = "gzip" if coding == "gzip" else "deflate"
    inflater, found, place = Inflater(kind), [], 0
    try:
        for cut in [*cuts, len(packed)]:
            found += inflater.feed(bytes(packed[place : place + cut]))
            place += cut
        found += inflater.end()
    except Corrupt:
        assert flip is not None
        return

    assert all(0 < len(piece) <= PIECE for piece in found)
    if flip is None:
        assert b"".join(found) == data


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        ("gzip", "gzip"), ("GZIP", "gzip"), ("deflate", "deflate"), ("gzip, deflate, br", "gzip"), ("br", None),
        ("gzip;q=0", None), ("gzip;q=0, deflate", "deflate"), ("gzip;q=0.2, deflate;q=0.8", "deflate"), ("*", "gzip"),
        ("*;q=0", None), ("identity", None), ("", None), ("gzip;q=x", "gzip"), ("gzip;q=1.1.1", None), (",;,", None),
        ("gzip; q = 0.5", "gzip"), ("*;q=0.1, gzip;q=0", "deflate"),
    ],
)  # fmt: skip
def test_the_coding_is_the_one_that_is_asked_for(accept: str, coding: str | None) -> None:
    """By its weight; gzip where two weigh the same."""
    assert chosen(accept) == coding


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_large_answers_are_compressed_where_that_is_asked(client: httpx.Client, coding: str) -> None:
    """Text, and the tensors of /v2: once, and with the same contents; small ones, and unasked ones, are not."""
    asked = {"accept-encoding": coding}
    wanted = {"outputs": [{"name": "feature", "parameters": {"binary_data": True}}]}
    many = json.loads(INFER)
    many["inputs"][0] |= {"shape": [4, SIDE, SIDE, 3], "data": PIXELS.ravel().tolist() * 2}
    requests: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "/openapi.json", {}), ("GET", "/metrics", {}), ("POST", "/v2/models/tiny/infer", {"json": many}),
        ("GET", "/docs", {}), ("GET", "/v2/models/tiny", {}), ("GET", "/healthz", {}),
        ("POST", "/v2/models/tiny/infer", {"json": many | wanted}), ("GET", "/v1/heads/9", {}),
        ("GET", "/v1/heads/1/head.onnx", {}), ("GET", "/console/main.js", {}),
    ]  # fmt: skip
    for method, path, more in requests:
        plain = client.request(method, path, headers={"accept-encoding": "identity"}, **more)
        packed = client.request(method, path, headers=asked, **more)
        text = packed.headers["content-type"].startswith(("application/json", "text/plain", "text/html"))

        assert "content-encoding" not in plain.headers
        assert packed.status_code == plain.status_code
        small = len(plain.content) < 1024
        assert packed.headers.get("content-encoding") == (coding if text and not small else None), path
        if path != "/metrics":
            assert packed.content == plain.content
        if text:
            assert "Accept-Encoding" in packed.headers["vary"]


def test_tensors_of_some_size_are_compressed_where_that_is_asked(serve: Serve) -> None:
    """The length of their JSON is that of the plain answer, as Triton's clients expect it."""
    pixels = np.stack([picture(seed) for seed in range(64)])
    given = {"name": "image", "shape": list(pixels.shape), "datatype": "UINT8", "data": pixels.ravel().tolist()}
    asked = {"inputs": [given], "parameters": {"binary_data_output": True}}
    with serve() as client:
        plain = client.post("/v2/models/tiny/infer", json=asked, headers={"accept-encoding": ""})
        packed = client.post("/v2/models/tiny/infer", json=asked, headers={"accept-encoding": "gzip"})
        features = client.post(
            "/v1/features?format=safetensors", headers={"accept-encoding": "gzip"},
            files=[("a", png(one)) for one in pixels],
        )  # fmt: skip

    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content
    name = "inference-header-content-length"
    assert packed.headers[name] == plain.headers[name]
    assert "content-encoding" not in features.headers


def test_streams_are_not_compressed(serve: Serve) -> None:
    """A refit's events come as they happen."""
    with serve() as client:
        job = client.post("/v1/refit", json={"spec": {"activate": "never"}}).json()["id"]
        answer = client.get(f"/v1/refit/{job}/events", headers={"accept-encoding": "gzip"})

    assert "content-encoding" not in answer.headers
    assert answer.text.startswith("id: 1\n")
