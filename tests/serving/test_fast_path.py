"""The short way for raw images gives what the long way through FastAPI gives."""

import json
from typing import Any

import httpx
import pytest
from running import Serve
from tiny import picture, png

from breadcrumbs.serving.http.schemas import PredictResponse

PNG = {"content-type": "image/png"}
LONG = "/v1/predict?head=active"


def told(answer: httpx.Response) -> tuple[int, dict[str, Any], dict[str, str]]:
    """An answer without what differs from call to call."""
    body = answer.json()
    body.pop("timing", None)
    kept = ("content-type", "retry-after")
    return answer.status_code, body, {name: answer.headers[name] for name in kept if name in answer.headers}


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (png(picture(3)), "image/png"),
        (png(picture(3)), "image/jpeg"),
        (png(picture(3)), "image/gif"),
        (b"no image", "image/png"),
        (b"", "image/png"),
        (b"x" * 30_000, "image/webp"),
    ],
)
def test_both_ways_answer_alike(client: httpx.Client, body: bytes, kind: str) -> None:
    """The same status, body and headers, for good images and for bad ones."""
    short, long = (client.post(path, content=body, headers={"content-type": kind}) for path in ("/v1/predict", LONG))

    assert told(short) == told(long)
    assert {"x-request-id", "content-length"} <= set(short.headers)


def test_the_answer_is_what_the_documentation_says(client: httpx.Client) -> None:
    """Its body is a whole `PredictResponse`, also for a web page's request."""
    for headers in (PNG, PNG | {"origin": f"http://{client.base_url.netloc.decode()}"}):
        answer = client.post("/v1/predict", content=png(picture()), headers=headers)

        PredictResponse.model_validate_json(answer.content, strict=True)


def test_both_ways_are_counted_alike(serve: Serve) -> None:
    """By their route, and errors by their type."""
    with serve() as client:
        for path in ("/v1/predict", LONG):
            client.post(path, content=png(picture()), headers=PNG)
            client.post(path, content=b"", headers=PNG)
        lines = client.get("/metrics").text.splitlines()

    assert 'breadcrumbs_requests_total{code="200",route="/v1/predict"} 2.0' in lines
    assert sum(line.startswith('breadcrumbs_requests_total{code="422",route="/v1/predict"} 2') for line in lines) == 1


def test_other_methods_take_the_long_way(client: httpx.Client) -> None:
    """Which refuses them in its own words."""
    assert client.get("/v1/predict", headers=PNG).status_code == 405


PIXELS = {"name": "image", "shape": [1, 8, 8, 3], "datatype": "UINT8"}
OUTPUT = {"name": "logits", "parameters": {"binary_data": True}}


@pytest.mark.parametrize(
    ("change", "headers", "more"),
    [
        ({"data": [7] * 192}, {}, b""),
        ({"parameters": {"binary_data_size": 192}}, {}, bytes(192)),
        ({"parameters": {"binary_data_size": 191}}, {}, bytes(191)),
        ({"shape": [1, 9, 9, 3], "data": [7] * 243}, {}, b""),
        ({"data": [7] * 192}, {"inference-header-content-length": "x"}, b""),
        ({"data": [7] * 192}, {"content-encoding": "gzip"}, b""),
    ],
)
@pytest.mark.parametrize("model", ["tiny", "tiny-files", "none", "ti%6Ey"])
def test_both_ways_infer_alike(
    client: httpx.Client, model: str, change: dict[str, Any], headers: dict[str, str], more: bytes
) -> None:
    """A query, which nothing reads, takes the long way: the same status, bytes and headers."""
    text = json.dumps({"inputs": [PIXELS | change], "outputs": [OUTPUT]}).encode()
    said = {"inference-header-content-length": str(len(text))} if more else {}
    short, long = (
        client.post(f"/v2/models/{model}/infer{query}", content=text + more, headers=said | headers)
        for query in ("", "?x=1")
    )

    assert (short.status_code, short.content) == (long.status_code, long.content)
    own = {"x-request-id": "", "date": ""}  # each answer's own
    assert dict(short.headers) | own == dict(long.headers) | own
    assert short.headers.keys() == long.headers.keys()
    assert short.status_code in {200, 400, 404, 415}


def test_both_ways_of_infer_are_counted_alike(serve: Serve) -> None:
    """By their route."""
    text = json.dumps({"inputs": [PIXELS | {"data": [7] * 192}]}).encode()
    with serve() as client:
        for query in ("", "?x=1"):
            client.post(f"/v2/models/tiny/infer{query}", content=text)
        lines = client.get("/metrics").text.splitlines()

    assert 'breadcrumbs_requests_total{code="200",route="/v2/models/{model}/infer"} 2.0' in lines
