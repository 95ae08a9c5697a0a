"""Below a path prefix, behind a proxy that strips it or does not: every address that the server gives leads back."""

import re
from typing import Any

import httpx
import pytest
from running import Serve

PROXY = {"host": "localhost", "x-forwarded-prefix": "/ml/bc", "x-forwarded-proto": "https"}
WAYS: list[tuple[dict[str, Any], dict[str, str], str]] = [
    ({"root_path": "/ml/bc"}, {}, ""),
    ({"root_path": "/ml/bc"}, {}, "/ml/bc"),
    ({"trusted_proxies": ("127.0.0.0/8",)}, PROXY, ""),
    ({"trusted_proxies": ("127.0.0.1",), "root_path": "/other"}, PROXY, "/ml/bc"),
]


@pytest.mark.parametrize(("settings", "headers", "asked"), WAYS)
def test_everything_stays_below_the_prefix(
    serve: Serve, settings: dict[str, Any], headers: dict[str, str], asked: str
) -> None:
    """Console, docs, schema, redirects, new refits, errors; and the routes themselves."""
    with serve(**settings) as client:

        def get(path: str) -> httpx.Response:
            return client.get(asked + path, headers=headers)

        docs, schema, page = get("/docs"), get("/openapi.json").json(), get("/")
        linked = re.findall(r'(?:src|href|url)(?:=|: )["\'](/[^"\']+)', docs.text)
        redirect = get("/v1/heads/?limit=1")
        refit = client.post(f"{asked}/v1/refit", headers=headers, json={})
        missing, wrong = get("/nothing"), client.delete(f"{asked}/v2/models/tiny/infer", headers=headers)
        parts = [get(f"/console/{name}") for name in ("main.js", "api.js", "console.css", "report.html")]
        followed = [client.get(one if asked else one.removeprefix("/ml/bc"), headers=headers) for one in linked]

    assert [answer.status_code for answer in (docs, page, *parts, *followed)] == [200] * (6 + len(followed))
    assert len(linked) >= 4
    assert all(one.startswith("/ml/bc/") for one in linked)
    assert schema["servers"] == [{"url": "/ml/bc"}]
    assert redirect.headers["location"] == "/ml/bc/v1/heads?limit=1"
    assert (refit.status_code, refit.headers["location"][:16]) == (202, "/ml/bc/v1/refit/")
    assert (missing.status_code, wrong.status_code) == (404, 405)
    assert isinstance(wrong.json()["error"], str), "the Open Inference Protocol's errors are plain"
    assert "POST" in wrong.headers["allow"]


def test_the_prefix_alone_leads_to_the_console(serve: Serve) -> None:
    """With a slash, since the console's own addresses are relative."""
    with serve(root_path="/ml/bc") as client:
        answer = client.get("/ml/bc")

    assert (answer.status_code, answer.headers["location"]) == (307, "/ml/bc/")


def test_pages_have_relative_addresses(client: httpx.Client) -> None:
    """No page, script or style asks for anything from the root."""
    for path in ("/", "/console/report.html", "/console/main.js", "/console/heads.js", "/console/console.css"):
        found = re.findall(r'(?:src|href|from|import|url)\s*[=(]?\s*["\'`]/[^"\'`]*', client.get(path).text)
        assert found == [], path


@pytest.mark.parametrize(
    "headers",
    [
        {"x-forwarded-prefix": "/ml/bc"},
        {"x-forwarded-host": "evil.example"},
        {"x-forwarded-for": "192.0.2.1", "x-forwarded-prefix": "/ml"},
    ],
)
def test_nobody_is_believed_without_the_setting(client: httpx.Client, headers: dict[str, str]) -> None:
    """Such headers change nothing."""
    answer = client.get("/v1/heads/", headers=headers)

    assert (answer.status_code, answer.headers["location"]) == (307, "/v1/heads")
    assert '"/openapi.json"' in client.get("/docs", headers=headers).text.replace("'", '"')


@pytest.mark.parametrize("prefix", ["//evil.example", "/a b", '/"><script>', "/a\\b", "ml", "/ml/../x%0d"])
def test_a_prefix_that_is_none_changes_nothing(serve: Serve, prefix: str) -> None:
    """A proxy that passes on what its client says cannot plant an address."""
    with serve(trusted_proxies=("127.0.0.1",)) as client:
        answer = client.get("/v1/heads/", headers={"x-forwarded-prefix": prefix})

    assert answer.headers["location"] == "/v1/heads"


def test_a_forwarded_host_is_checked_too(serve: Serve) -> None:
    """It is the page's own address behind a proxy that does not pass Host on; it must be a name of the server."""
    page = {"content-type": "image/png", "origin": "https://models.example"}
    with serve(trusted_proxies=("127.0.0.1",), allowed_hosts=("models.example",)) as client:
        ours = client.post("/v1/predict", headers=page | {"x-forwarded-host": "models.example"}, content=b"x")
        evil = client.post("/v1/predict", headers=page | {"x-forwarded-host": "evil.example"}, content=b"x")

    assert (ours.status_code, evil.status_code) == (422, 403)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("trusted_proxies", ("nginx",), "expected an address or a network"),
        ("root_path", "ml/", "expected a path with a slash before it"),
    ],
)
def test_settings_that_cannot_work_are_refused(serve: Serve, name: str, value: object, words: str) -> None:
    """At the start."""
    with pytest.raises(ValueError, match=words), serve(**{name: value}):
        pass
