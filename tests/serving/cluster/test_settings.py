"""What of the cluster needs no Ray: its knobs and their page, the proxies' middleware, and what is said without it."""

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from breadcrumbs.serving.cluster.proxy import ProxyMiddleware, middlewares
from breadcrumbs.serving.cluster.settings import ClusterSettings
from breadcrumbs.serving.http.arrival import Pace
from breadcrumbs.serving.settings import Settings

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "docs" / "deploy.md"


def test_every_flag_has_its_row() -> None:
    """Flag, default and meaning, in the words of the code; and no row without a flag."""
    rows = [line for line in DEPLOY.read_text().splitlines() if line.startswith("| `--")]

    assert rows == [
        f"| `--{name.replace('_', '-')}` | {'none' if field.default is None else field.default} | "
        f"{' '.join((field.description or '').split())} |"
        for name, field in ClusterSettings.model_fields.items()
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"min_replicas": 5, "max_replicas": 2}, "max_replicas 2 is less than min_replicas 5"),
        ({"gpus": 1.5}, "1.5 GPUs: Ray gives parts of one, or several whole ones"),
        ({"name": "a b"}, "String should match pattern"),
    ],
)
def test_knobs_that_cannot_be_are_refused(given: dict[str, Any], message: str) -> None:
    """By name, with what came."""
    with pytest.raises(ValidationError, match=message):
        ClusterSettings(**given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"port": 0}, "port 0"),
        ({"workers": 2}, "2 workers: a replica is one process"),
        ({"follow": 0}, "follow 0"),
        ({"device": "cuda"}, "device cuda: a replica needs a share of a GPU"),
        ({"refit_device": "cuda"}, "refit_device cuda: a refit needs a GPU; pass --refit-gpus"),
    ],
)
def test_settings_that_no_replica_can_have_are_refused(given: dict[str, Any], message: str) -> None:
    """In one sentence each."""
    with pytest.raises(ValueError, match=message):
        ClusterSettings().of_replica(Settings(**given))


@pytest.mark.parametrize(
    ("cluster", "given", "expected"),
    [
        ({"cpus": 4}, {}, {"threads": 4, "device": "cpu", "refit": "elsewhere", "decode_threads": 0}),
        ({"cpus": 0.5}, {"threads": 3, "refit": "off"}, {"threads": 3, "refit": "off"}),
        ({"cpus": 2, "gpus": 0.5}, {}, {"device": "cuda", "threads": 2, "decode_threads": 2}),
        ({"gpus": 1}, {"device": "tensorrt"}, {"device": "tensorrt", "refit_device": "cpu"}),
        ({"refit_gpus": 1}, {}, {"device": "cpu", "refit_device": "auto"}),
        ({"refit_gpus": 0.5}, {"refit_device": "cuda"}, {"refit_device": "cuda"}),
    ],
)
def test_a_replica_has_its_share_of_a_machine(
    cluster: dict[str, Any], given: dict[str, Any], expected: dict[str, Any]
) -> None:
    """And leaves refits to the one that runs them."""
    each = ClusterSettings(**cluster).of_replica(Settings(**given)).model_dump()

    assert {name: each[name] for name in expected} == expected


def test_a_replica_refuses_before_ray_holds_back() -> None:
    """It takes more at once than it lets wait and computes."""
    assert ClusterSettings().ongoing(Settings(queue=100, max_batch=8, threads=2)) > 100 + 8 * 2


def asked(app: ASGIApp, body: list[bytes], pause: float = 0.0, path: str = "/v1/predict") -> list[Message]:
    """What a client gets from an app behind the proxy's middleware, whose body comes in pieces."""
    got: list[Message] = []
    pieces = iter(body)
    (middleware,) = middlewares()
    assert middleware.cls is ProxyMiddleware

    async def receive() -> Message:
        piece = next(pieces, None)
        if piece is None:
            await asyncio.sleep(3600)
        await asyncio.sleep(pause)
        return {"type": "http.request", "body": piece, "more_body": piece != body[-1]}

    async def send(message: Message) -> None:
        got.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "headers": [], "query_string": b""}
    asyncio.run(ProxyMiddleware(app, Pace(0.2))(scope, receive, send))
    return got


def answering(status: int, kind: bytes, body: bytes, *headers: tuple[bytes, bytes]) -> ASGIApp:
    """An app that reads its body and says so much."""

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        while (message := await receive())["type"] == "http.request" and message["more_body"]:
            pass
        if message["type"] == "http.disconnect":
            return
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind), *headers]})
        await send({"type": "http.response.body", "body": body})

    return app


async def silent(_scope: Scope, _receive: Receive, _send: Send) -> None:
    """What Ray's proxy does when a replica was lost."""


@pytest.mark.parametrize("path", ["/v1/predict", "/v2/models/tiny/infer"])
@pytest.mark.parametrize(
    "app", [silent, answering(503, b"text/plain; charset=utf-8", b"too many"), answering(500, b"text/plain", b"")]
)
def test_a_lost_replica_is_a_503_in_the_shape_of_errors(app: ASGIApp, path: str) -> None:
    """With leave to ask again; whether Ray said nothing, or something of its own."""
    start, body = asked(app, [b"x"], path=path)
    error = json.loads(body["body"])["error"]

    assert start["status"] == 503
    assert int(dict(start["headers"])[b"retry-after"]) >= 1
    assert "ask again" in (error if path.startswith("/v2") else error["message"])


def test_answers_of_replicas_pass_the_door_as_they_are() -> None:
    """Errors of ours and answers alike; of two request ids the replica's stays."""
    ids = ((b"x-request-id", b"ours"), (b"X-Request-ID", b"rays"))
    fine, *_ = asked(answering(200, b"image/png", b"x", *ids), [b"x"])
    full, body = asked(answering(503, b"application/json", b"{}"), [b"x"])

    assert [value for name, value in fine["headers"] if name.lower() == b"x-request-id"] == [b"ours"]
    assert (full["status"], body["body"]) == (503, b"{}")


def test_a_body_that_does_not_come_is_given_up() -> None:
    """After `receipt`; the replica is told that the client has left."""
    start, body = asked(answering(200, b"image/png", b"x"), [b"x", b"y"], pause=0.5)

    assert start["status"] == 408
    assert re.search(r"did not arrive in 0.2 s", json.loads(body["body"])["error"]["message"])


@pytest.mark.parametrize("command", ["up", "status", "down"])
def test_without_ray_the_extra_is_named(command: str) -> None:
    """In one sentence and with exit status 2, by each command."""
    code = f"import sys; sys.modules['ray'] = None; sys.argv[1:] = ['cluster', '{command}']\n"
    answer = subprocess.run(
        [sys.executable, "-c", f"{code}from breadcrumbs.cli import main; main()"],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )

    assert answer.returncode == 2
    assert "pip install 'breadcrumbs-longtail[cluster]'" in answer.stderr
    assert "Traceback" not in answer.stderr
