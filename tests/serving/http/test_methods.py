"""HEAD and OPTIONS wherever GET is, and 405 with Allow everywhere else."""

import json
import re
from pathlib import Path

import httpx
from running import Serve

PAGES = ("/", "/docs", "/openapi.json", "/console/main.js", "/static-offline-docs/swagger-ui.css")


def operations(client: httpx.Client) -> dict[str, set[str]]:
    """Every path with its methods, a head's version filled in; pages too."""
    paths = client.get("/openapi.json").json()["paths"]
    found = {re.sub(r"\{version\}", "1", path): {method.upper() for method in paths[path]} for path in paths}
    return found | {page: {"GET"} for page in PAGES}


def test_head_is_answered_as_get_is(client: httpx.Client) -> None:
    """The same status and headers, no body, and the connection goes on."""
    for path, methods in operations(client).items():
        if "GET" not in methods:
            continue
        got, head = client.get(path), client.head(path)
        same = ("content-type", "etag", "content-security-policy")

        assert head.status_code == got.status_code, path
        assert [head.headers.get(name) for name in same] == [got.headers.get(name) for name in same], path
        assert head.content == b"", path
    assert client.head("/healthz").headers["content-length"] == str(len(client.get("/healthz").content))


def test_head_of_an_event_stream_ends(serve: Serve) -> None:
    """It has no body to wait for."""
    with serve("sleep") as client:
        job = client.post("/v1/refit", json={}).json()["id"]
        answer = client.head(f"/v1/refit/{job}/events")
        client.delete(f"/v1/refit/{job}")

    assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (200, "text/event-stream")


def test_options_and_refused_methods_say_what_is_allowed(serve: Serve, tmp_path: Path) -> None:
    """On every path, also without a key; what is not there is 404."""
    with serve() as client:
        known = operations(client)
        for path, methods in known.items():
            allowed = methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())
            answer = client.options(path)
            refused = client.request("PROPFIND", path) if path != "/" else client.post(path)

            assert (answer.status_code, answer.content) == (204, b""), path
            assert set(answer.headers["allow"].split(", ")) == allowed, path
            assert refused.status_code == 405, path
            assert set(refused.headers["allow"].split(", ")) == allowed, path
        assert client.options("/nothing").status_code == 404
        assert client.head("/v1/predict").status_code == 405
    (tmp_path / "keys.json").write_text(json.dumps({}))
    with serve(keys=tmp_path / "keys.json") as client:
        assert client.options("/v1/refit").status_code == 204
        assert client.head("/v1/heads").status_code == 401
