"""Lines over HTTP: own live heads on one backbone, several in one request, keys that are bound to them, bad input."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from asked_routes import PNG, tensor
from patience import soon
from refits import finish
from running import Serve, make_settings, running
from tiny import CLASSES, picture, png, tiny_head

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.serving.client.async_client import AsyncClient
from breadcrumbs.serving.client.client import Client, ServerError
from breadcrumbs.serving.logs import ACCESS
from breadcrumbs.serving.state import heads, keys
from breadcrumbs.serving.state.heads import Lineage
from breadcrumbs.serving.state.keys import KeysError
from breadcrumbs.serving.state.store import Store

LONG = "Lab_7." + "x" * 54
IMAGE = {"content": png(picture()), "headers": PNG}
TENSOR: dict[str, Any] = {"content": tensor(["logits"])}


def add_heads(folder: Path, bundle: Bundle, lines: tuple[str | None, ...]) -> None:
    """Store a head for each line, as refits of these lines would."""

    async def add() -> None:
        for seed, line in enumerate(lines):
            await heads.add(Store.open(folder), tiny_head(10 + seed), bundle, Lineage(parent=1, line=line), {})

    asyncio.run(add())


@pytest.fixture(scope="module")
def lined(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a server with the lines `lab-a` of head 2 and one with the longest name, of head 3."""
    store = tmp_path_factory.mktemp("store")
    with running(make_settings(tiny_bundle, store, follow=0.1, remember=100, access_log="all")) as client:
        add_heads(store, tiny_bundle, (None, None))
        assert client.put("/v1/lines/lab-a", json={"head": 2}).status_code == 201
        assert client.put(f"/v1/lines/{LONG}", json={"head": 3, "reason": "a trial"}).status_code == 201
        yield client


def total(client: httpx.Client, name: str) -> float:
    """A number of `/metrics`."""
    found = [one for one in client.get("/metrics").text.splitlines() if one.startswith(f"breadcrumbs_{name} ")]
    return float(found[0].split()[-1])


@pytest.mark.parametrize(("line", "version"), [("lab-a", 2), (LONG, 3), ("default", 1), (None, 1)])
def test_a_line_answers_with_its_own_head(lined: httpx.Client, line: str | None, version: int) -> None:
    """By `line` of /v1 and by the name of the model of /v2, and by its versions."""
    asked = {} if line is None else {"line": line}
    model = "tiny" if line is None else f"tiny@{line}"
    answer = lined.post("/v1/predict", params=asked, **IMAGE).json()
    named = lined.post("/v1/predict", params={**asked, "head": version}, **IMAGE).json()
    infer = lined.post(f"/v2/models/{model}/infer", **TENSOR).json()
    told = lined.get(f"/v2/models/{model}").json()

    assert answer["head"]["version"] == named["head"]["version"] == version
    assert "lines" not in answer
    assert (infer["model_name"], infer["model_version"]) == (model, str(version))
    assert told["name"] == model
    assert str(version) in told["versions"]
    assert lined.get("/v1/heads", params=asked).json()["live"] == version
    assert lined.get("/v1/activations", params=asked).json()["activations"][0]["head"] == version


def test_several_lines_answer_one_request_on_one_pass(lined: httpx.Client) -> None:
    """Each as when it is asked alone, prior and remembered answers included; the first one's answer is above."""
    order = [LONG, "default", "lab-a"]
    classes = {"classes": CLASSES[:2]}
    before = total(lined, "backbone_duration_seconds_count")
    answer = lined.post("/v1/predict", params={"line": order, **classes}, **IMAGE).json()
    passes = total(lined, "backbone_duration_seconds_count") - before
    alone = {line: lined.post("/v1/predict", params={"line": line, **classes}, **IMAGE).json() for line in order}

    assert passes == 1
    assert list(answer["lines"]) == order
    assert answer["lines"][LONG]["predictions"] == answer["predictions"]
    assert len({one["predictions"][0]["id"] for one in answer["lines"].values()}) == 3
    for line, one in answer["lines"].items():
        assert one["head"] == alone[line]["head"]
        for mine, own in zip(one["predictions"][0]["classes"], alone[line]["predictions"][0]["classes"], strict=True):
            assert mine["class"] == own["class"]
            assert mine["probability"] == pytest.approx(own["probability"], abs=1e-6)


@pytest.mark.parametrize(
    ("method", "path", "line"),
    [
        ("POST", "/v1/predict", None), ("POST", "/v1/predict?line=default", None),
        ("POST", f"/v1/predict?line={LONG}", LONG), ("POST", "/v1/predict?line=lab-a&line=default", "lab-a,default"),
        ("POST", "/v2/models/tiny@lab-a/infer", "lab-a"), ("GET", "/v1/activations?line=lab-a", "lab-a"),
        ("POST", "/v1/heads/2/activate?line=lab-a", "lab-a"), ("POST", "/v1/heads/rollback?line=lab-a", "lab-a"),
    ],
)  # fmt: skip
def test_the_log_names_the_line(
    lined: httpx.Client, caplog: pytest.LogCaptureFixture, method: str, path: str, line: str | None
) -> None:
    """Of an answer and of a change; the default line goes without saying."""
    body = TENSOR if "/v2/" in path else IMAGE if "predict" in path else {}
    with caplog.at_level("INFO", ACCESS):
        lined.request(method, path, **body)
        said = soon(lambda: [one.args for one in caplog.records if one.name == ACCESS], "a line in the log")

    assert [one.get("line") for one in said] == [line]


BAD = [
    ("POST", "/v1/predict?line=lab-b", 404, "there is no line 'lab-b'; did you mean 'lab-a'?"),
    ("POST", "/v1/predict?line=zzzz", 404, "PUT /v1/lines/NAME creates one"),
    ("POST", "/v1/predict?line=a%0Ab", 422, "expected letters, digits"),
    ("POST", "/v1/predict?line=", 422, "expected letters, digits"),
    ("POST", "/v1/predict?line=" + "x" * 61, 422, "60 at most"),
    ("POST", "/v1/predict?line=lab-a&line=default&head=2", 422, "expected one line with a version"),
    ("POST", "/v1/predict?line=lab-a&head=3", 404, "head 3 was never live in the line 'lab-a'"),
    ("POST", "/v1/predict?" + "&".join(f"line=l{n}" for n in range(17)), 422, "16 items"),
    ("POST", "/v2/models/tiny@lab-a@default/infer", 400, "expected NAME or NAME@LINE, got 2 lines"),
    ("POST", "/v2/models/tiny@lab-b/infer", 404, "there is no line 'lab-b'"),
    ("POST", "/v2/models/tiny@/infer", 400, "line '': expected letters"),
    ("POST", "/v2/models/tiny@a%00b/infer", 400, r"line 'a\x00b': expected letters"),
    ("POST", "/v2/models/tini@lab-a/infer", 404, "there is no model 'tini'"),
    ("GET", "/v2/models/tiny@lab-a/versions/3", 404, "head 3 was never live"),
    ("PUT", "/v1/lines/lab-a", 409, "there is a line 'lab-a' already"),
    ("PUT", "/v1/lines/default", 409, "there is a line 'default' already"),
    ("PUT", "/v1/lines/a%1Bb", 422, r"line 'a\x1bb': expected letters"),
    ("PUT", "/v1/lines/..%2Fheads", 404, "nothing at"),
    ("PUT", "/v1/lines/.hidden", 422, "expected letters"),
    ("DELETE", "/v1/lines/default", 409, "the default line cannot be removed"),
    ("DELETE", "/v1/lines/none", 404, "there is no line 'none'"),
    ("POST", "/v1/heads/rollback?line=lab-a", 409, "no head to go back to"),
    ("POST", "/v1/heads/2/activate?line=none", 404, "there is no line 'none'"),
    ("GET", "/v1/activations?line=none", 404, "there is no line 'none'"),
]


@pytest.mark.parametrize(("method", "path", "status", "message"), BAD)
def test_bad_input_is_refused_in_a_sentence(
    lined: httpx.Client, method: str, path: str, status: int, message: str
) -> None:
    """What came, and what was expected; nothing has changed."""
    body: dict[str, Any] = TENSOR if "/v2/" in path else IMAGE if "predict" in path else {}
    before = lined.get("/v1/lines").json()
    answer = lined.request(method, path, **({} if method == "GET" else body))
    told = answer.json()["error"]

    assert answer.status_code == status, answer.text
    assert message in (told if isinstance(told, str) else told["message"])
    assert lined.get("/v1/lines").json() == before


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/v1/lines/new", {"head": 99}, "there is no head 99"),
        ("/v1/lines/new", {"head": 0}, "greater than or equal to 1"),
        ("/v1/lines/new", {"heads": 1}, "heads"),
        ("/v1/heads/1/activate?line=lab-a", {"bake": "2h"}, "in the default line only, not in 'lab-a'"),
        ("/v1/refit", {"line": "lab-b"}, "there is no line 'lab-b'"),
        ("/v1/refit", {"line": "a\x07"}, "expected letters, digits"),
    ],
)
def test_a_bad_body_changes_nothing(lined: httpx.Client, path: str, body: dict[str, Any], message: str) -> None:
    """No line is created, no head goes live, no refit starts."""
    before = lined.get("/v1/lines").json(), lined.get("/v1/refit").json()
    answer = lined.request("PUT" if "/lines/" in path else "POST", path, json=body)

    assert answer.status_code in {404, 422}
    assert message in answer.json()["error"]["message"]
    assert (lined.get("/v1/lines").json(), lined.get("/v1/refit").json()) == before


def test_a_refit_is_compared_with_its_lines_head_and_goes_live_there(
    serve: Serve, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    """The other lines keep theirs; a refit from files can name the line too; of a removed line nothing goes live."""
    with serve() as client:
        add_heads(tmp_path / "store", tiny_bundle, (None,))
        client.put("/v1/lines/lab-a", json={"head": 2})
        job = finish(client, {"line": "lab-a"})

        assert (job["verdict"]["compared"], job["verdict"]["head"], job["verdict"]["activated"]) == (2, 3, True)
        assert client.get("/v1/heads/3").json()["lineage"]["line"] == "lab-a"
        assert [client.get(f"/v1/heads?line={line}").json()["live"] for line in ("default", "lab-a")] == [1, 3]
        assert client.post("/v1/heads/rollback?line=lab-a").json()["head"] == 2
        form = client.post("/v1/refit", files={"line": (None, "lab-a")})
        assert form.json()["request"]["line"] == "lab-a"
        assert client.delete("/v1/lines/lab-a").json()["kind"] == "remove"
        soon(lambda: client.get(f"/v1/refit/{form.json()['id']}").json()["state"] in {"succeeded", "failed"}, "its end")
        assert client.get("/v1/heads").json()["live"] == 1


@pytest.mark.parametrize("count", [1, 100])
def test_many_lines_are_listed_in_pages_and_followed_by_another_server(
    serve: Serve, tiny_bundle: Bundle, tmp_path: Path, count: int
) -> None:
    """Each with its head; the numbers at /readyz and /metrics are theirs, with a bounded label."""
    with serve(follow=0.1) as one, serve(follow=0.1, refit="elsewhere") as other, Client(str(one.base_url)) as client:
        add_heads(tmp_path / "store", tiny_bundle, (None, None))
        for number in range(count):
            client.create_line(f"line-{number:03d}", 2 + number % 2)
        page = one.get("/v1/lines", params={"limit": 1}).json()
        known = client.lines()
        last = f"line-{count - 1:03d}"
        answer = other.post("/v1/predict", params={"line": last}, **IMAGE)
        client.activate(1, line=last)

        assert (page["lines"][0]["name"], page["next"]) == ("default", "default")
        assert [(line.name, line.head.version) for line in known[1:]] == [
            (f"line-{number:03d}", 2 + number % 2) for number in range(count)
        ]
        assert answer.json()["head"]["version"] == 2 + (count - 1) % 2
        soon(lambda: other.get(f"/v1/heads?line={last}").json()["live"] == 1, "the other server's swap")
        soon(lambda: other.get("/readyz").json()["lines"] == count + 1, "the other server's lines")
        assert total(one, "lines") == count + 1
        for number in range(count):
            one.post("/v1/predict", params={"line": f"line-{number:03d}"}, **IMAGE)
        one.post("/v1/predict", **IMAGE)
        counted = [row for row in one.get("/metrics").text.splitlines() if "line_predictions_total{" in row]
        assert len(counted) == min(count, 100) + 1


def test_a_key_reaches_the_lines_that_it_is_bound_to(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """What names no line is about its first one; other lines, their heads and refits, and what is of all are 403."""
    path = tmp_path / "keys.json"
    scopes: tuple[keys.KeyScope, ...] = ("predict", "refit", "promote")
    bound = {"Authorization": f"Bearer {keys.add(path, 'lab-a', scopes, lines=('lab-a', 'lab-c'))}"}
    admin = {"Authorization": f"Bearer {keys.add(path, 'boss', ('admin',))}"}
    with running(make_settings(tiny_bundle, tmp_path / "store", keys=path)) as client:
        add_heads(tmp_path / "store", tiny_bundle, ("lab-a", "lab-b", "lab-b"))
        for line, head in (("lab-a", 2), ("lab-b", 3), ("lab-c", 1)):
            assert client.put(f"/v1/lines/{line}", json={"head": head}, headers=admin).status_code == 201
        job = client.post("/v1/refit", json={"line": "lab-b", "spec": {"activate": "never"}}, headers=admin).json()

        for asked in ({}, {"line": "lab-a"}, {"head": "2"}):
            answer = client.post("/v1/predict", params=asked, content=png(picture()), headers=PNG | bound)
            assert answer.json()["head"]["version"] == 2, answer.text
        infer = client.post("/v2/models/tiny/infer", **TENSOR, headers=bound)
        assert infer.json()["model_version"] == "2"
        assert [one["name"] for one in client.get("/v1/lines", headers=bound).json()["lines"]] == ["lab-a", "lab-c"]
        assert {one["version"] for one in client.get("/v1/heads", headers=bound).json()["heads"]} == {1, 2}
        own = client.post("/v1/refit", json={"spec": {"activate": "never"}}, headers=bound).json()
        assert own["request"]["line"] == "lab-a"
        assert [one["id"] for one in client.get("/v1/refit", headers=bound).json()["refits"]] == [own["id"]]

        refused = [
            ("POST", "/v1/predict?line=lab-b", IMAGE), ("POST", "/v1/predict?line=default", IMAGE),
            ("POST", "/v1/predict?line=lab-a&line=lab-b", IMAGE), ("POST", "/v1/predict?line=never", IMAGE),
            ("POST", "/v2/models/tiny@lab-b/infer", TENSOR), ("GET", "/v2/models/tiny@lab-b", {}),
            ("POST", "/v1/heads/2/activate?line=lab-b", {}), ("POST", "/v1/heads/4/activate", {}),
            ("POST", "/v1/heads/rollback?line=default", {}), ("GET", "/v1/activations?line=lab-b", {}),
            ("GET", "/v1/heads/3", {}), ("GET", "/v1/heads/3/head.onnx", {}), ("GET", "/v1/lines/lab-b", {}),
            ("POST", "/v1/refit", {"json": {"line": "lab-b"}}), ("GET", f"/v1/refit/{job['id']}", {}),
            ("GET", f"/v1/refit/{job['id']}/events", {}), ("DELETE", f"/v1/refit/{job['id']}", {}),
            ("PUT", "/v1/lines/lab-d", {}), ("DELETE", "/v1/lines/lab-a", {}), ("GET", "/v1/trials", {}),
            ("GET", "/metrics", {}), ("PUT", "/v1/priors/mine", {"json": {"classes": ["oak"]}}),
            ("GET", "/v1/classes?line=lab-b", {}),
        ]  # fmt: skip
        for method, where, more in refused:
            answer = client.request(method, where, **{**more, "headers": more.get("headers", {}) | bound})
            assert answer.status_code == 403, (method, where, answer.text)
        never = client.post("/v1/predict?head=3", content=png(picture()), headers=PNG | bound)
        assert never.status_code == 404


def test_a_key_of_all_scopes_is_bound_to_no_line(tmp_path: Path) -> None:
    """Neither is one bound to what is no name; the file stays as it was."""
    for scopes, lines in ((("admin",), ("lab-a",)), (("predict",), ("a b",)), (("predict",), ())):
        with pytest.raises(KeysError):
            keys.add(tmp_path / "keys.json", "one", scopes, lines=lines)

    assert not (tmp_path / "keys.json").exists()


def test_both_clients_ask_by_line(lined: httpx.Client) -> None:
    """One line or several, in one request or in parts; create, activate, roll back, remove."""
    url = str(lined.base_url)

    async def main() -> None:
        async with AsyncClient(url) as client:
            made = await client.create_line("by-client", reason="a test")
            assert (await client.line("by-client")).activation == made.activation
            assert (await client.activate(2, line="by-client")).number == 2
            found = await client.predict([png(picture(n)) for n in range(70)], line=["by-client", "default"])
            assert [len(one.predictions) for one in (found.lines or {}).values()] == [70, 70]
            assert (await client.rollback(line="by-client")).head == 1
            assert len(await client.activations(line="by-client")) == 3
            assert (await client.remove_line("by-client")).kind == "remove"

    asyncio.run(main())
    with Client(url) as client:
        assert client.predict(png(picture()), line="lab-a").head.version == 2
        assert client.predict([png(picture(n)) for n in range(70)], line="lab-a").head.version == 2
        assert client.heads(line="lab-a").live == 2
        with pytest.raises(ServerError, match="there is no line 'by-client'"):
            client.predict(png(picture()), line="by-client")
