"""Keys and scopes: every route, without a key, with a wrong one, with a lower scope and with the right one."""

import hmac
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import httpx
import pytest
from running import Serve, make_settings, running
from tiny import picture, png, tiny_snapshot

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.serving.app import create_app
from breadcrumbs.serving.client.client import Client, ServerError
from breadcrumbs.serving.http.access_control import needed
from breadcrumbs.serving.state import keys
from breadcrumbs.serving.state.keys import Keys, KeyScope, KeysError

SCOPES = get_args(KeyScope)
OPEN = {("GET", "/"), ("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/docs"), ("GET", "/openapi.json")}
OPEN |= {("GET", "/docs/oauth2-redirect")}
OPEN |= {("GET", "/v2/health/live"), ("GET", "/v2/health/ready")}
CANARY = "crumb_canary0000000000000000000000000000000000000"


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A file with one key for each scope, and the keys."""
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    return path, {scope: keys.add(path, f"the-{scope}", (scope,)) for scope in SCOPES}


@pytest.fixture(scope="module")
def guarded(
    tiny_bundle: Bundle, secrets: tuple[Path, dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """A client of a server with those keys."""
    with running(make_settings(tiny_bundle, tmp_path_factory.mktemp("store"), keys=secrets[0])) as client:
        yield client


def routes(bundle: Bundle) -> list[tuple[str, str]]:
    """Method and path of every route there is, FastAPI's own too; parameters are filled in."""
    app = create_app(make_settings(bundle, Path("unused")))
    found = [(method, route.path) for route in app.routes if hasattr(route, "methods") for method in route.methods]
    listed = [(method.upper(), path) for path, methods in app.openapi()["paths"].items() for method in methods]
    filled = [(method, path.replace("{version}", "1").replace("{model}", "tiny")) for method, path in found + listed]
    return sorted({(m, p.replace("{job_id}", "x").replace("{sha256}", "0" * 64)) for m, p in filled})


def bearer(secret: str) -> dict[str, str]:
    """The header of a key."""
    return {"Authorization": f"Bearer {secret}"}


def test_every_route_asks_for_the_scope_that_the_documentation_says(
    tiny_bundle: Bundle, guarded: httpx.Client, secrets: tuple[Path, dict[str, str]]
) -> None:
    """Without a key and with a wrong one 401, with any other scope 403, with the right one neither."""
    known = routes(tiny_bundle)

    assert len(known) > 35
    for method, path in known:
        right = needed(method, path)
        assert (right is None) == ((method if method != "HEAD" else "GET", path) in OPEN), (method, path)
        if right is None:
            assert guarded.request(method, path).status_code < 400, path
            continue
        for headers in ({}, bearer(CANARY), {"Authorization": "Basic eDp5"}, {"Authorization": "Bearer"}):
            answer = guarded.request(method, path, headers=headers)
            assert answer.status_code == 401, (method, path, headers)
            assert "www-authenticate" in answer.headers
        for scope, secret in secrets[1].items():
            answer = guarded.request(method, path, headers=bearer(secret))
            refused = answer.status_code == 403 and f"this takes {right}" in answer.text
            assert refused == (scope not in {right, "admin"}), (method, path, scope, answer.text)


def test_what_no_rule_names_needs_admin(guarded: httpx.Client, secrets: tuple[Path, dict[str, str]]) -> None:
    """A path that nobody thought of is shut, however it is spelled."""
    for path in ("/v1/other", "/v1//predict", "/V1/predict", "/v1/predict/", "/v1/heads/../snapshots", "/metrics/"):
        assert guarded.post(path).status_code == 401, path
        assert guarded.post(path, headers=bearer(secrets[1]["predict"])).status_code == 403, path


def test_a_refit_that_may_go_live_takes_promote_too(
    guarded: httpx.Client, secrets: tuple[Path, dict[str, str]]
) -> None:
    """Else whoever may refit could bring their own hold-out and make any head live."""
    head = bearer(secrets[1]["refit"])
    for when, code in (("never", 202), ("if_better", 403), ("always", 403)):
        assert guarded.post("/v1/refit", json={"spec": {"activate": when}}, headers=head).status_code == code


def test_the_keys_name_stands_in_the_log_of_what_went_live(
    guarded: httpx.Client, secrets: tuple[Path, dict[str, str]]
) -> None:
    """Also where a refit made the head live."""
    with Client(str(guarded.base_url), key=secrets[1]["admin"]) as client:
        job = client.wait(client.refit().id)
        client.rollback("back")
        last, before, *_ = client.activations()

    assert last.actor == "key the-admin"
    assert before.actor == f"refit {job.id} by key the-admin"


def test_a_changed_file_counts_from_the_next_request_on(serve: Serve, tmp_path: Path) -> None:
    """A new key opens, a revoked one does not; a file that was damaged changes nothing."""
    path = tmp_path / "keys.json"
    first = keys.add(path, "first", ("predict",))
    with serve(keys=path) as client:

        def status(secret: str) -> int:
            return client.get("/v1/heads", headers=bearer(secret)).status_code

        second = keys.add(path, "second", ("predict",))
        assert (status(first), status(second)) == (200, 200)
        keys.revoke(path, "first")
        assert (status(first), status(second)) == (401, 200)
        path.write_text("{")
        assert (status(first), status(second)) == (401, 200)
        path.unlink()
        assert status(second) == 200
        third = keys.add(path, "third", ("predict",))
        assert (status(second), status(third)) == (401, 200)


def test_no_key_is_ever_written_down(serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not in logs, metrics, errors, the store or the file of keys."""
    path = tmp_path / "keys.json"
    secret = keys.add(path, "one", ("admin",))
    caplog.set_level(logging.DEBUG)
    with serve(keys=path, access_log="all") as client:
        texts = [client.get("/v1/heads", headers=bearer(CANARY)).text]
        texts.append(client.post(f"/v1/heads/1/activate?{CANARY}", headers=bearer(secret)).text)
        client.put("/v1/snapshots", content=snapshots.to_bytes(tiny_snapshot("b" * 64, 1)), headers=bearer(secret))
        client.post("/v1/predict", content=png(picture()), headers=bearer(secret) | {"content-type": "image/png"})
        texts.append(client.get("/metrics", headers=bearer(secret)).text)
    written = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]

    texts += [
        record.getMessage() for record in caplog.records if not record.name.startswith("http")
    ]  # the client's own
    for word in (secret, CANARY):
        assert not any(word in text for text in texts)
        assert not any(word.encode() in data for data in written)


def test_every_key_is_compared_in_constant_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them, also after the one that fits: time tells neither how much of a key is right nor which it is."""
    path = tmp_path / "keys.json"
    known = [keys.add(path, name, ("predict",)) for name in ("one", "two", "three")]
    compared: list[bool] = []

    def counting(one: str, other: str) -> bool:
        compared.append(compare(one, other))
        return compared[-1]

    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", counting)
    there = Keys(path)

    for place, secret in enumerate([*known, CANARY]):
        compared.clear()
        found = there.find(secret.encode())
        assert compared == [place == other for other in range(3)]
        assert (found is None) == (secret == CANARY)


def test_a_server_without_keys_serves_this_machine_only(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Unless it is told that something in front authenticates."""
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        with pytest.raises(KeysError, match="serves other machines, and there are no keys"):
            create_app(make_settings(tiny_bundle, tmp_path, host=host))
        create_app(make_settings(tiny_bundle, tmp_path, host=host, insecure=True))
    for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost"):
        create_app(make_settings(tiny_bundle, tmp_path, host=host))


def test_a_name_that_was_made_to_point_here_is_refused(client: httpx.Client) -> None:
    """DNS rebinding: the browser believes evil.example to be this machine, and sends that name."""
    for host, code in (("evil.example", 403), ("127.0.0.1.evil.example", 403), ("localhost", 200), ("[::1]:80", 200)):
        assert client.get("/v1/heads", headers={"host": host}).status_code == code


def test_a_web_page_of_another_server_may_not_change_anything(serve: Serve) -> None:
    """Nor read, since no header allows it; unless the settings name it."""
    page = {"origin": "https://lab.example"}
    form = {"content-type": "text/plain"}
    with serve() as client:
        refused = [
            client.post("/v1/heads/rollback", headers=page),
            client.post("/v1/refit", headers=page | form, content="{}"),
            client.post("/v1/predict", headers={"origin": "null", "content-type": "image/png"}, content=png(picture())),
        ]
        read = client.get("/v1/heads", headers=page)
    with serve(origins=("https://lab.example",)) as client:
        asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
        allowed = client.options("/v1/refit", headers=page | asked)
        started = client.post("/v1/refit", headers=page, json={})
        other = client.post("/v1/refit", headers={"origin": "https://evil.example"}, json={})

    assert [answer.status_code for answer in refused] == [403] * 3
    assert "access-control-allow-origin" not in read.headers
    assert allowed.headers["access-control-allow-origin"] == "https://lab.example"
    assert (started.status_code, started.headers["access-control-allow-origin"]) == (202, "https://lab.example")
    assert (other.status_code, other.headers.get("access-control-allow-origin")) == (403, None)


def test_the_client_without_a_key_is_told_what_is_missing(guarded: httpx.Client) -> None:
    """In the server's words."""
    with Client(str(guarded.base_url)) as client, pytest.raises(ServerError, match="a key is needed: send the header"):
        client.heads()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Invalid JSON"),
        ('{"format": "other", "keys": []}', "format"),
        ('{"keys": [{"name": "a", "sha256": "zz", "scopes": ["predict"], "created": "x"}]}', "sha256"),
        ('{"keys": [{"name": "a", "sha256": "%s", "scopes": [], "created": "x"}]}' % ("0" * 64), "scopes"),
        ('{"keys": [{"name": "a", "sha256": "%s", "scopes": ["root"], "created": "x"}]}' % ("0" * 64), "scopes"),
    ],
)
def test_a_file_of_keys_that_is_none_stops_the_start(tmp_path: Path, text: str, words: str) -> None:
    """By the place of its first defect, and never with what stands there."""
    path = tmp_path / "keys.json"
    path.write_text(text)

    with pytest.raises(KeysError, match=words):
        Keys(path)


def test_a_name_is_given_once(tmp_path: Path) -> None:
    """And only what is there is revoked."""
    path = tmp_path / "keys.json"
    keys.add(path, "one", ("predict",))

    with pytest.raises(KeysError, match="there is a key named 'one'"):
        keys.add(path, "one", ("admin",))
    with pytest.raises(KeysError, match="there is no key named 'two'"):
        keys.revoke(path, "two")
    assert json.loads(path.read_text())["keys"][0]["scopes"] == ["predict"]
