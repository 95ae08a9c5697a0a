"""Web pages of other sites (CORS), as a browser asks: every route and method, every header, every error."""

import json
import re
from pathlib import Path

import httpx
import pytest
from running import Serve
from tiny import picture, png

from breadcrumbs.serving import app as apps
from breadcrumbs.serving.http.origins import METHODS, READ, SENT
from breadcrumbs.serving.state import keys

SITE = "https://lab.example"
OTHER = "https://evil.example"
PAGES = {"/": ["get"], "/docs": ["get"], "/console/main.js": ["get"]}
V1 = "authorization, content-type, content-encoding, idempotency-key, last-event-id, traceparent, x-request-id"
V2 = "inference-header-content-length, content-type, authorization"


def operations(client: httpx.Client) -> list[tuple[str, str]]:
    """Every method and path, parameters filled in."""
    paths = client.get("/openapi.json").json()["paths"] | PAGES
    return [(method.upper(), re.sub(r"\{\w+\}", "1", path)) for path, methods in paths.items() for method in methods]


def preflight(client: httpx.Client, origin: str, method: str, path: str, headers: str = V1) -> httpx.Response:
    """What a browser asks before it sends a page's request: without a key."""
    asked = {"access-control-request-method": method, "access-control-request-headers": headers}
    return client.options(path, headers={"origin": origin, **asked})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of keys."""
    keys.add(tmp_path / "keys.json", "all", ("admin",))
    return tmp_path / "keys.json"


@pytest.mark.parametrize("origins", ["https://lab.example/", "HTTPS://LAB.example:443", "*", f"{SITE},http://b"])
def test_a_preflight_of_an_allowed_page_succeeds_on_every_route(serve: Serve, file: Path, origins: str) -> None:
    """Without a key, for every method and every header that clients send; another page's fails, unless all may."""
    told = "*" if origins == "*" else SITE
    with serve(origins=origins, keys=file) as client:
        for method, path in [*operations(client), ("HEAD", "/healthz"), ("OPTIONS", "/v1/refit")]:
            allowed = preflight(client, SITE, method, path, V2 if path.startswith("/v2") else V1)
            other = preflight(client, OTHER, method, path)

            assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, told), (method, path)
            assert method in allowed.headers["access-control-allow-methods"].split(", ")
            assert other.status_code == (200 if origins == "*" else 400), (method, path)
            assert other.headers.get("access-control-allow-origin") == ("*" if origins == "*" else None)
            assert "access-control-allow-credentials" not in allowed.headers


def test_without_origins_nobody_elses_page_is_let_in(serve: Serve) -> None:
    """A preflight is then a question like any other, answered without the headers of CORS."""
    with serve() as client:
        for method, path in operations(client):
            assert not [name for name in preflight(client, SITE, method, path).headers if name.startswith("access-")]


def test_errors_carry_the_headers_that_let_a_page_read_them(serve: Serve, file: Path) -> None:
    """Of the guard, the routes and the limits; another page's get none."""
    reader = {"authorization": f"Bearer {keys.add(file, 'reader', ('predict',))}"}
    image = {"content-type": "image/png"}
    cases = [
        (401, "GET", "/v1/heads", {}, b""),
        (401, "POST", "/v1/predict", image, png(picture())),
        (401, "POST", "/v2/models/tiny/infer", {}, b"{}"),
        (403, "POST", "/v1/refit", reader, b"{}"),
        (403, "GET", "/v1/heads", {"host": "evil.example"}, b""),
        (404, "GET", "/v1/heads/99", reader, b""),
        (403, "PUT", "/v1/predict", reader, b""),
        (413, "POST", "/v1/predict", reader | image, bytes(2_000_000)),
        (415, "POST", "/v1/predict", reader | image | {"content-encoding": "br"}, b"x"),
        (422, "POST", "/v1/predict", reader | image, b"x"),
        (400, "POST", "/v2/models/tiny/infer", reader, b"{}"),
        (200, "POST", "/v1/predict", reader | image, png(picture())),
        (200, "GET", "/healthz", {}, b""),
    ]
    with serve(origins=(SITE,), keys=file, max_image_bytes=100_000, max_body_bytes=100_000) as client:
        for status, method, path, headers, body in cases:
            answer = client.request(method, path, headers=headers | {"origin": SITE}, content=body)
            other = client.request(method, path, headers=headers | {"origin": OTHER}, content=body)

            assert answer.status_code == status, (status, method, path, answer.text)
            assert answer.headers["access-control-allow-origin"] == SITE, (status, path)
            assert set(answer.headers["access-control-expose-headers"].split(", ")) == set(READ)
            assert "Origin" in answer.headers["vary"]
            assert "access-control-allow-origin" not in other.headers, (status, path)
            assert other.status_code == (403 if method != "GET" else status)


def test_a_page_reads_that_the_server_is_full(serve: Serve) -> None:
    """503 and how long to wait; the queue has one place."""
    with serve(origins=(SITE,), queue=1) as client:
        form = [("image", ("x.png", png(picture()), "image/png"))] * 3
        answer = client.post("/v1/predict", headers={"origin": SITE}, files=form)

    assert answer.status_code == 503
    assert answer.headers["access-control-allow-origin"] == SITE
    assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize("path", ["/v1/bug", "/v2/bug"])
def test_a_page_reads_of_a_bug_too(serve: Serve, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """In the shape of errors, and nothing of what it was; the connection goes on."""
    made = apps.create_app

    def with_bug(*arguments: object) -> object:
        app = made(*arguments)  # type: ignore[arg-type]
        app.add_api_route(path, lambda: 1 // 0)
        return app

    monkeypatch.setattr(apps, "create_app", with_bug)
    with serve(origins=(SITE,)) as client:
        answer = client.get(path, headers={"origin": SITE})
        again = client.get("/healthz")

    error = answer.json()["error"]
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (500, SITE)
    assert "this is a bug" in (error if path.startswith("/v2") else error["message"])
    assert "ZeroDivision" not in answer.text
    assert again.status_code == 200


def test_every_page_may_ask_where_all_may(serve: Serve) -> None:
    """Also one without an origin of its own; names of the server still count."""
    with serve(origins="*") as client:
        for origin in (SITE, OTHER, "null"):
            answer = client.post("/v1/refit", headers={"origin": origin, "cookie": "a=b"}, json={})
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (202, "*"), origin
        evil = client.post("/v1/refit", headers={"origin": SITE, "host": "evil.example"}, json={})

    assert evil.status_code == 403


def test_all_pages_without_keys_are_warned_of(serve: Serve, file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With keys there is nothing to warn of."""
    for given in ({"keys": file}, {}):
        caplog.clear()
        with serve(origins="*", **given):
            assert ("origins is *, without keys" in caplog.text) is (not given)


def test_every_header_of_a_route_may_be_sent_and_every_method_used(client: httpx.Client) -> None:
    """Those that `/openapi.json` names, and of answers those that the code sets."""
    paths = client.get("/openapi.json").json()["paths"]
    asked = {
        one["name"].lower()
        for methods in paths.values()
        for operation in methods.values()
        for one in operation.get("parameters", [])
        if one["in"] == "header"
    }

    assert "inference-header-content-length" in asked
    assert asked <= set(SENT)
    assert {method.upper() for methods in paths.values() for method in methods} <= set(METHODS)


def test_headers_of_answers_may_be_read(serve: Serve, file: Path) -> None:
    """None of ours that a page needs is withheld by its browser."""
    always = {
        "cache-control",
        "content-language",
        "content-length",
        "content-type",
        "expires",
        "last-modified",
        "pragma",
    }
    for_browsers = {"content-security-policy", "x-content-type-options", "x-frame-options", "referrer-policy"}
    of_the_connection = {"date", "connection", "transfer-encoding", "vary", "accept-ranges"}
    secret = {"authorization": f"Bearer {keys.add(file, 'one', ('admin',))}"}
    seen: set[str] = set()
    with serve(origins=(SITE,), keys=file) as client:
        for headers in ({}, secret):
            for method, path in operations(client):
                if "events" not in path:
                    answer = client.request(method, path, headers=headers | {"origin": SITE}, content=b"{}")
                    seen |= {name for name in answer.headers if not name.startswith("access-control-")}

    assert seen - always - for_browsers - of_the_connection <= set(READ)
    assert {"location", "etag", "www-authenticate", "x-request-id"} <= seen


@pytest.mark.parametrize("text", [json.dumps({}), json.dumps({"format": "breadcrumbs.keys/1", "keys": []})])
def test_a_file_without_keys_is_told_at_the_start(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    """With the command that makes one; which is then accepted without a new start."""
    path = tmp_path / "none.json"
    path.write_text(text)
    with serve(keys=path) as client:
        assert f"{path} has no keys, so nobody can come in; `breadcrumbs keys add NAME" in caplog.text
        assert client.get("/v1/heads").status_code == 401
        secret = keys.add(path, "first", ("predict",))
        assert client.get("/v1/heads", headers={"authorization": f"Bearer {secret}"}).status_code == 200
