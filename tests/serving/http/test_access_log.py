"""A request's line on real servers: which requests have one, who asked, and the route whatever is answered."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE, soon
from refits import NEVER, upload
from running import Serve
from starlette.routing import Mount

from breadcrumbs.serving import logs
from breadcrumbs.serving.app import create_app
from breadcrumbs.serving.http.access_log import PROBES
from breadcrumbs.serving.settings import Settings
from breadcrumbs.serving.state import keys

PNG = {"content-type": "image/png"}
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}


@pytest.mark.parametrize("lines", ["all", "no-probes", "none"])
def test_which_requests_have_a_line(serve: Serve, caplog: pytest.LogCaptureFixture, lines: str) -> None:
    """Every probe and a listing, with each setting."""
    with caplog.at_level("INFO", logs.ACCESS), serve(access_log=lines) as client:
        for probe in sorted(PROBES):
            client.get(probe.replace("{model}", "tiny").replace("{version}", "1"))
        client.get("/v1/heads")
    routes = {one.args["route"] for one in requests(caplog)}

    assert routes == {"all": {*PROBES, "/v1/heads"}, "no-probes": {"/v1/heads"}, "none": set()}[lines]


def requests(caplog: pytest.LogCaptureFixture) -> list[Any]:
    """The records of requests."""
    return [one for one in caplog.records if one.name == logs.ACCESS]


def routes_of(settings: Settings) -> Iterator[tuple[str, str]]:
    """Method and path of everything that the app has, with its mounts and pages."""
    app = create_app(settings)
    for path, methods in app.openapi()["paths"].items():
        yield from ((method.upper(), path) for method in methods)
    yield from (("GET", one.path) for one in app.routes if isinstance(one, Mount))
    yield from (("GET", path) for path in ("/", "/docs", "/openapi.json"))


AS_GET = "/v1/heads/{version}"
"""What `GET /v1/heads/rollback` asks for."""
VALUES = {
    "{answer}": "01KB4M2ZQ8H3V0W6T1R9S5XKCD",
    "{example}": "0" * 32,
    "{version}": "1",
    "{number}": "1",
    "{model}": "tiny",
    "{sha256}": "a" * 64,
    "{job_id}": "b" * 32,
    "{name}": "c.png",
}


def test_every_route_is_named_whatever_is_answered(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a key, with one that may not, from another host, with another method: log and metrics have the route."""
    file = tmp_path / "keys.json"
    secrets = {"none": "crumb_no", "few": keys.add(file, "few", ("predict",)), "all": keys.add(file, "all", ("admin",))}
    ways: list[tuple[dict[str, str], str | None]] = [
        *(({"authorization": f"Bearer {secret}"}, None) for secret in secrets.values()),
        ({"authorization": f"Bearer {secrets['all']}", "host": "evil.example"}, None),
        *(({"authorization": f"Bearer {secrets['all']}"}, method) for method in ("PATCH", "HEAD", "OPTIONS")),
    ]
    seen: dict[int, set[str]] = {}
    every = sorted(set(routes_of(Settings(store=str(tmp_path / "other")))))
    with caplog.at_level("INFO", logs.ACCESS), serve(keys=file, access_log="all", root_path="/ml") as client:
        for method, route in every:
            path = re.sub(r"\{\w+\}", lambda found: VALUES[found[0]], route)
            path += "/nothing" if route in {"/console", "/static-offline-docs"} else ""
            for headers, other in ways:
                caplog.clear()
                status = client.request(other or method, f"/ml{path}", headers=headers).status_code
                (line,) = soon(lambda: requests(caplog), "the line")  # which comes after the answer
                named = AS_GET if (route, other) == ("/v1/heads/rollback", "HEAD") else route
                assert (line.args["route"], line.args["status"]) == (named, status), (path, headers, other)
                seen.setdefault(status, set()).add(route)
        text = client.get("/metrics", headers={"authorization": f"Bearer {secrets['all']}"}).text
    labels = set(re.findall(r'breadcrumbs_requests_total\{code="\d+",route="([^"]+)"', text))

    assert labels <= {route for _, route in every}
    assert len(seen[403]) == len({route for _, route in every})
    assert len(seen[405]) > len(every) / 2
    assert {200, 401, 403, 404, 405, 422} <= set(seen)


def test_too_much_too_slow_too_many_have_their_route(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """413, 429, 503, and 408 where the connection answers in the app's place; the key is named."""
    file = tmp_path / "keys.json"
    secret = keys.add(file, "anna", ("admin",), max_jobs=0)
    given: dict[str, Any] = {"keys": file, "access_log": "all", "max_body_bytes": 1000, "max_image_bytes": 1000}
    given |= {"receipt_idle": 0.2, "max_held_bytes": 500}
    caplog.set_level("INFO", logs.ACCESS)
    with serve(**given) as client:
        client.headers["authorization"] = f"Bearer {secret}"
        statuses = [
            client.post("/v1/predict", content=b"x" * 2000, headers=PNG).status_code,
            client.post("/v1/refit", json={"snapshots": [upload(client)], **NEVER}).status_code,
            client.post("/v1/features", content=b"x" * 900, headers=PNG).status_code,
        ]
        with socket.create_connection((client.base_url.host, client.base_url.port or 0), PATIENCE) as one:
            head = f"host: localhost\r\nauthorization: Bearer {secret}\r\ncontent-type: image/png\r\n"
            one.sendall(f"POST /v1/predict HTTP/1.1\r\n{head}content-length: 100\r\n\r\nabc".encode())
            statuses.append(int(one.recv(65_536).split()[1]))
        lines = soon(lambda: (found := requests(caplog)) and len(found) == 5 and found, "the lines")
    told = [(one.args["route"], one.args["status"], one.args["problem"]) for one in lines if "problem" in one.args]

    assert statuses == [413, 429, 503, 408]
    assert told == [
        ("/v1/predict", 413, "too_large"),
        ("/v1/refit", 429, "quota"),
        ("/v1/features", 503, "overloaded"),
        ("/v1/predict", 408, "timeout"),
    ]
    assert {one.args["key"] for one in lines} == {"anna"}


@pytest.mark.parametrize(
    ("parent", "trace"),
    [
        (f"00-{TRACE}-b7ad6b7169203331-00", TRACE),
        (f"01-{TRACE}-b7ad6b7169203331-01-more", TRACE),
        (f"ff-{TRACE}-b7ad6b7169203331-01", None),
        (f"00-{'0' * 32}-b7ad6b7169203331-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-b7ad6b7169203331-01", None),
        (f"00-{TRACE}", None),
        ("", None),
    ],
)
def test_a_valid_trace_is_on_the_line(
    serve: Serve, caplog: pytest.LogCaptureFixture, parent: str, trace: str | None
) -> None:
    """Its id, as W3C has it; no other text."""
    with caplog.at_level("INFO", logs.ACCESS), serve(access_log="all") as one:
        one.get("/healthz", headers={"traceparent": parent})
    (line,) = requests(caplog)

    assert line.args.get("trace_id") == trace


def test_without_a_trace_the_line_has_that_of_our_span(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """Where spans are sent: a new one, or the one that the request goes on with."""
    with caplog.at_level("INFO", logs.ACCESS), serve(access_log="all", otlp_endpoint="http://127.0.0.1:9/") as client:
        client.get("/healthz")
        client.get("/healthz", headers=PARENT)
    new, known = requests(caplog)

    assert re.fullmatch("[0-9a-f]{32}", new.args["trace_id"])
    assert known.args["trace_id"] == TRACE
