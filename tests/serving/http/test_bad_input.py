"""What a client can get wrong, at every endpoint: the status, and a message that says what was expected and came."""

# ruff: noqa: E501 - one case a line: a table to read down

import base64
import re
import struct
import zlib
from typing import Any

import httpx
import numpy as np
import pytest
from tiny import picture, png, tiny_snapshot

from breadcrumbs.models.snapshots import snapshot as snapshots

IMAGE = png(picture())
PNG = {"content-type": "image/png"}
JSON = {"content-type": "application/json"}
SAFE = {"format": "safetensors"}
FORM = {"content-type": "multipart/form-data; boundary=x"}
NOBODY = "0" * 64


def huge_png(side: int) -> bytes:
    """A PNG that claims side x side pixels and has none."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rest = struct.pack(">I", zlib.crc32(header)) + struct.pack(">I", 9) + b"IDAT"
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + rest


def snapshot(**more: Any) -> bytes:
    return snapshots.to_bytes(tiny_snapshot("b" * 64, **more))


def text(*images: bytes) -> list[str]:
    return [base64.b64encode(image).decode() for image in images]


CASES: list[tuple[str, str, dict[str, Any], int, str, str]] = [
    # predict and features
    ("POST", "/v1/predict", {"content": b"junk", "headers": PNG}, 422, "image", "not a JPEG, PNG or WebP image"),
    ("POST", "/v1/predict", {"content": IMAGE[:60], "headers": PNG}, 422, "image", "damaged image"),
    ("POST", "/v1/predict", {"content": b"", "headers": PNG}, 422, "bad_request", "image 1 of 1 is empty"),
    ("POST", "/v1/predict", {"content": huge_png(11_000), "headers": PNG}, 413, "too_large", "11000 x 11000 = 121000000 pixels; the limit is 120000000"),
    ("POST", "/v1/predict", {"content": huge_png(60_000), "headers": PNG}, 413, "too_large", "3600000000 pixels"),
    ("POST", "/v1/predict", {"content": b"x" * 20_001, "headers": PNG}, 413, "too_large", "20001 bytes; the limit is 20000"),
    ("POST", "/v1/predict", {"content": iter([b"x" * 9_000] * 3), "headers": PNG}, 413, "too_large", "more than 20000 byt"),
    ("POST", "/v1/predict", {"content": IMAGE, "headers": {"content-type": "text/csv"}}, 415, "unsupported", "'text/csv': expected the bytes of one image"),
    ("POST", "/v1/predict", {"content": IMAGE, "headers": PNG | {"content-encoding": "br"}}, 415, "unsupported", "gzip"),
    ("POST", "/v1/predict?top_k=0", {"content": IMAGE, "headers": PNG}, 422, "bad_request", "top_k"),
    ("POST", "/v1/predict?top_k=x", {"content": IMAGE, "headers": PNG}, 422, "bad_request", "top_k"),
    ("POST", "/v1/predict?head=best", {"content": IMAGE, "headers": PNG}, 422, "bad_request", "expected active or a ver"),
    ("POST", "/v1/predict?head=99", {"content": IMAGE, "headers": PNG}, 404, "not_found", "there is no head 99"),
    ("POST", "/v1/predict?head=²", {"content": IMAGE, "headers": PNG}, 422, "bad_request", "expected active"),
    ("POST", "/v1/predict", {"content": b"{", "headers": JSON}, 422, "bad_request", "JSON body: "),
    ("POST", "/v1/predict", {"content": b"[" * 50_000, "headers": JSON}, 422, "bad_request", "JSON body: "),
    ("POST", "/v1/predict", {"content": b"\xff\xfe", "headers": JSON}, 422, "bad_request", "JSON body: "),
    ("POST", "/v1/predict", {"json": {}}, 422, "bad_request", "expected either images or features, got neither"),
    ("POST", "/v1/predict", {"json": {"images": []}}, 422, "bad_request", "at least 1 item"),
    ("POST", "/v1/predict", {"json": {"images": [1]}}, 422, "bad_request", "images.0"),
    ("POST", "/v1/predict", {"json": {"images": ["*"]}}, 422, "bad_request", "image 1 of 1 is not base64"),
    ("POST", "/v1/predict", {"json": {"images": ["é"]}}, 422, "bad_request", "image 1 of 1 is not base64"),
    ("POST", "/v1/predict", {"json": {"images": [], "url": "http://x"}}, 422, "bad_request", "images"),
    ("POST", "/v1/predict", {"json": {"images": text(*[IMAGE] * 5)}}, 413, "too_large", "5 images; the limit is 4"),
    ("POST", "/v1/predict", {"json": {"images": text(IMAGE, b"bad")}}, 422, "image", "image 2 of 2: not a JPEG"),
    ("POST", "/v1/predict", {"json": {"images": text(IMAGE), "labels": [0]}}, 422, "bad_request", "/v1/features"),
    ("POST", "/v1/predict", {"files": [("a", IMAGE)] * 5}, 413, "too_large", "5 images; the limit is 4"),
    ("POST", "/v1/predict", {"files": [("a", IMAGE)] * 9}, 413, "too_large", "more than 5 files"),
    ("POST", "/v1/predict", {"files": [("a", IMAGE), ("b", b"bad")]}, 422, "image", "image 2 of 2: not a JPEG"),
    ("POST", "/v1/predict", {"files": [("a", b"x" * 70_000)]}, 413, "too_large", "the limit is 60000"),
    ("POST", "/v1/predict", {"files": [("a", b"x" * 20_001)]}, 413, "too_large", "the limit is 20000"),
    ("POST", "/v1/predict", {"content": b"--x--\r\n", "headers": FORM}, 422, "bad_request", "the form has no file"),
    ("POST", "/v1/predict", {"content": b"nonsense", "headers": FORM}, 422, "bad_request", "multipart body"),
    ("POST", "/v1/predict", {"content": b"", "headers": {"content-type": "multipart/form-data"}}, 422, "bad_request", "bound"),
    ("POST", "/v1/features", {"content": b"junk", "headers": PNG}, 422, "image", "not a JPEG"),
    ("POST", "/v1/features", {"files": [("a", IMAGE)], "data": {"labels": "[0]"}}, 422, "bad_request", "only one of them"),
    ("POST", "/v1/features", {"files": [("a", IMAGE)], "data": {"labels": "[0", "epoch": "1"}}, 422, "bad_request", "fields"),
    ("POST", "/v1/features", {"json": {"images": text(IMAGE), "labels": [0], "epoch": 1}}, 422, "bad_request", "safetensors"),
    ("POST", "/v1/features", {"json": {"images": text(IMAGE), "labels": [0, 1], "epoch": 1}}, 422, "bad_request", "2 labels"),
    ("POST", "/v1/features", {"params": SAFE, "json": {"images": text(IMAGE), "ids": [1]}}, 422, "bad_request", "ids and dataset name"),
    ("POST", "/v1/features", {"params": SAFE, "json": {"images": text(IMAGE), "labels": [0], "epoch": 1, "ids": [1, 2]}}, 422, "bad_request", "2 ids"),
    ("POST", "/v1/features", {"params": SAFE, "json": {"images": text(IMAGE), "ids": [2**63]}}, 422, "bad_request", "ids"),
    ("POST", "/v1/features", {"params": SAFE, "json": {"images": text(IMAGE) * 2, "labels": [0, 0], "epoch": 1, "ids": [1, 1]}}, 422, "bad_request", "an id occurs twice"),
    ("POST", "/v1/features", {"params": SAFE, "json": {"images": text(IMAGE), "dataset": "x"}}, 422, "bad_request", "dataset"),
    (
        "POST", "/v1/features", {"params": SAFE, "json": {"images": text(IMAGE), "labels": [3], "epoch": 1}},
        422, "bad_request", "label 3: expected 0 … 2",
    ),
    (
        "POST", "/v1/features", {"params": SAFE, "json": {"images": text(IMAGE), "labels": [""], "epoch": 1}},
        422, "bad_request", "is empty; name it",
    ),
    (
        "POST", "/v1/features", {"params": SAFE, "json": {"images": text(IMAGE), "labels": [" oak"], "epoch": 1}},
        422, "bad_request", "begins or ends with a space",
    ),
    (
        "POST", "/v1/features", {"params": SAFE, "json": {"images": text(IMAGE), "labels": [0], "epoch": -1}},
        422, "bad_request", "epoch",
    ),
    ("POST", "/v1/features?format=xml", {"content": IMAGE, "headers": PNG}, 422, "bad_request", "format"),
    # snapshots
    ("PUT", "/v1/snapshots", {"content": b"junk"}, 422, "format", "expected safetensors, .npz, Parquet or Arrow, got 4 bytes that begin 6a756e6b"),
    ("PUT", "/v1/snapshots", {"content": b""}, 422, "format", "expected safetensors, .npz, Parquet or Arrow, got 0 bytes"),
    ("PUT", "/v1/snapshots", {"content": b"\x93NUMPY\x01\x00"}, 422, "format", "a single .npy array; put features and labels into one .npz"),
    ("PUT", "/v1/snapshots", {"content": b"\x80\x04\x95"}, 422, "format", "a pickle, which is never read"),
    ("PUT", "/v1/snapshots?epoch=-1", {"content": snapshot()}, 422, "bad_request", "epoch"),
    ("PUT", "/v1/snapshots?backbone=B", {"content": snapshot()}, 422, "bad_request", "backbone"),
    ("PUT", "/v1/snapshots", {"content": snapshot()[:-4]}, 422, "format", "the tensors end at byte"),
    ("PUT", "/v1/snapshots", {"content": snapshot(dim=5)}, 422, "format", "expected features of 4 dimensions"),
    ("PUT", "/v1/snapshots", {"content": b"x" * 50_001}, 413, "too_large", "snapshot has 50001 bytes; the limit is 50000"),
    ("PUT", "/v1/snapshots", {"content": iter([b"x" * 9_000] * 6)}, 413, "too_large", "more than 50000 bytes"),
    ("PUT", "/v1/snapshots", {"json": {}}, 415, "unsupported", "expected application/octet-stream"),
    ("GET", f"/v1/snapshots/{NOBODY}", {}, 404, "not_found", "there is no snapshot 000"),
    ("GET", "/v1/snapshots/..%2f..%2fheads", {}, 404, "not_found", ""),
    ("GET", "/v1/snapshots/x", {}, 404, "not_found", "expected a sha256 of 64 hex digits"),
    ("DELETE", f"/v1/snapshots/{NOBODY}", {}, 404, "not_found", "there is no snapshot"),
    # refits
    ("POST", "/v1/refit", {"content": b"{"}, 422, "bad_request", "JSON body: "),
    ("POST", "/v1/refit", {"json": {"snapshots": [NOBODY]}}, 422, "bad_request", "PUT it to /v1/snapshots first"),
    ("POST", "/v1/refit", {"json": {"holdout": NOBODY}}, 422, "bad_request", "PUT it to /v1/snapshots first"),
    ("POST", "/v1/refit", {"json": {"snapshots": ["../heads"]}}, 422, "bad_request", "expected a sha256"),
    ("POST", "/v1/refit", {"json": {"snapshots": [NOBODY] * 2}}, 422, "bad_request", "named twice"),
    ("POST", "/v1/refit", {"json": {"snapshots": [NOBODY] * 3}}, 413, "too_large", "3 snapshots; the limit is 2"),
    ("POST", "/v1/refit", {"json": {"spec": {"l2": -1}}}, 422, "bad_request", "l2: expected auto or 1e-8"),
    ("POST", "/v1/refit", {"json": {"spec": {"seed": "1"}}}, 422, "bad_request", "spec.seed: Input should be a valid int"),
    ("POST", "/v1/refit", {"json": {"spec": {"l3": 1}}}, 422, "bad_request", "spec.l3"),
    ("POST", "/v1/refit", {"json": {"spec": {"use_bundle_snapshots": False}}}, 422, "bad_request", "no snapshots"),
    ("POST", "/v1/refit", {"json": {}, "headers": {"Idempotency-Key": "k" * 300}}, 422, "bad_request", "dempotency"),
    ("POST", "/v1/refit", {"files": [("snapshot", b"junk")]}, 422, "format", "not a snapshot: expected safetensors, .npz"),
    ("POST", "/v1/refit", {"files": [("snapshot", b"x" * 50_001)]}, 413, "too_large", "50001 bytes; the limit is 50000"),
    ("POST", "/v1/refit", {"files": [("snapshots", b"junk")]}, 422, "bad_request", "expected snapshot, holdout, line, spec or examples"),
    ("POST", "/v1/refit", {"files": [("spec", b"{}")]}, 422, "bad_request", "expected JSON text, got a file"),
    ("POST", "/v1/refit", {"files": [("snapshot", snapshot())], "data": {"spec": "{"}}, 422, "bad_request", "spec: "),
    ("POST", "/v1/refit", {"files": [("x", b"")], "data": {"holdout": "x"}}, 422, "bad_request", "form field 'x'"),
    ("GET", "/v1/refit/nobody", {}, 404, "not_found", "there is no refit 'nobody'"),
    ("GET", "/v1/refit/nobody/events", {}, 404, "not_found", "there is no refit 'nobody'"),
    ("GET", "/v1/refit/nobody/events", {"headers": {"Last-Event-ID": "-1"}}, 422, "bad_request", "whole number"),
    ("DELETE", "/v1/refit/nobody", {}, 404, "not_found", "there is no refit 'nobody'"),
    # heads
    ("GET", "/v1/heads/99", {}, 404, "not_found", "there is no head 99"),
    ("GET", "/v1/heads/x", {}, 422, "bad_request", "version"),
    ("GET", "/v1/heads/0", {}, 422, "bad_request", "greater than or equal to 1"),
    ("GET", "/v1/heads/99/head.onnx", {}, 404, "not_found", "there is no head 99"),
    ("POST", "/v1/heads/99/activate", {}, 404, "not_found", "there is no head 99"),
    ("POST", "/v1/heads/1/activate", {"content": b"{"}, 422, "bad_request", "JSON body"),
    ("POST", "/v1/heads/1/activate", {"json": {"expected_live": 5}}, 409, "conflict", "head 1 is live; expected head 5"),
    ("POST", "/v1/heads/1/activate", {"json": {"reason": 1}}, 422, "bad_request", "reason: "),
    ("POST", "/v1/heads/1/activate", {"json": {"expected_live": True}}, 422, "bad_request", "expected_live: "),
    ("POST", "/v1/heads/rollback", {}, 409, "conflict", "no head to go back to"),
    ("POST", "/v1/heads/rollback", {"json": {"expected_live": 5}}, 409, "conflict", "expected head 5"),
    ("GET", "/v1/activations?limit=0", {}, 422, "bad_request", "limit"),
    # anything
    ("GET", "/nowhere", {}, 404, "not_found", "nothing at '/nowhere'"),
    ("GET", "/v1/predict", {}, 405, "method_not_allowed", "GET is not offered at '/v1/predict'"),
    ("PATCH", "/healthz", {}, 405, "method_not_allowed", "PATCH is not offered"),
]  # fmt: skip


@pytest.fixture(scope="module")
def strict(client: httpx.Client) -> httpx.Client:
    """The file's server; its limits are in conftest."""
    return client


@pytest.mark.parametrize(
    ("method", "path", "more", "status", "kind", "message"),
    CASES,
    ids=[f"{n}-{c[0]}-{c[1].partition('?')[0]}" for n, c in enumerate(CASES)],
)
def test_a_mistake_is_told(
    strict: httpx.Client, method: str, path: str, more: dict[str, Any], status: int, kind: str, message: str
) -> None:
    """The one shape, the right status, and what was expected and came; nothing is a 500."""
    answer = strict.request(method, path, **more)
    body = answer.json()

    assert (answer.status_code, list(body), body["error"]["type"]) == (status, ["error"], kind), body
    assert message in body["error"]["message"], body
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])


def test_after_all_that_the_server_is_ready(strict: httpx.Client) -> None:
    """No mistake of a client's hurts the next one."""
    assert strict.get("/readyz").status_code == 200
    assert strict.post("/v1/predict", content=IMAGE, headers=PNG).status_code == 200


def test_random_bytes_never_make_a_500(strict: httpx.Client) -> None:
    """Noise, and real files with bytes changed, at every endpoint that takes a body."""
    generator = np.random.default_rng(0)
    spec = b'--x\r\nContent-Disposition: form-data; name="spec"\r\n\r\n{"l2": 5e9}\r\n--x--\r\n'
    targets: list[tuple[str, str, dict[str, str], bytes]] = [
        ("POST", "/v1/predict", PNG, IMAGE),
        ("POST", "/v1/features", JSON, b'{"images": ["aGk="]}'),
        ("PUT", "/v1/snapshots", {}, snapshot()),
        ("POST", "/v1/refit", FORM, spec),
    ]
    for _ in range(30):
        for method, path, headers, good in targets:
            data = bytearray(good)
            for place in generator.integers(0, len(data), 3):
                data[place] = generator.integers(0, 256)
            answer = strict.request(method, path, content=bytes(data), headers=headers)

            assert answer.status_code < 500, (path, bytes(data), answer.text)
