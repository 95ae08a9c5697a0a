"""The ML backend of Label Studio on a real server, with a second server as its Label Studio: predictions and labels."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
from running import Serve
from tiny import CLASSES, picture, png

from breadcrumbs.serving.state import keys

CONFIG = (
    '<View><Image name="photo" value="$image"/><Choices name="kind" toName="photo">'
    '<Choice value="oak"/><Choice value="elm"/><Choice value="Wollemia nobilis"/></Choices></View>'
)
TOKEN = "abcdef0123456789"


class Hosted(BaseHTTPRequestHandler):
    """A Label Studio that gives images to those who have its token, and sends others elsewhere."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        known = self.headers["authorization"] in {f"Token {TOKEN}", "Bearer fresh"}
        if self.path == "/data/moved":
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:1/secret")
        else:
            self.send_response(200 if known else 401)
        self.end_headers()
        if known and self.path.startswith("/data/upload/"):
            self.wfile.write(png(picture(int(self.path.rpartition("/")[2]))))

    def do_POST(self) -> None:
        given = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"access": "fresh" if given == {"refresh": "a.b.c"} else 1}).encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def studio() -> Iterator[str]:
    """The address of a Label Studio."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hosted)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def settings(studio: str, folder: Path, token: str = TOKEN) -> dict[str, Any]:
    """What turns the backend on."""
    (folder / "token").write_text(f"{token}\n")
    return {"label_studio": studio, "label_studio_token": folder / "token"}


def task(number: int, url: str | None = None) -> dict[str, Any]:
    """A task, as Label Studio sends it."""
    return {"id": number, "data": {"image": url or f"/data/upload/1/{number}"}, "meta": {}, "annotations": []}


def asked(*tasks: dict[str, Any], config: str = CONFIG) -> dict[str, Any]:
    """A request for predictions."""
    return {"tasks": list(tasks), "project": "1.1", "label_config": config, "params": {"login": None, "context": None}}


def hook(action: str, number: int, name: str | None, **more: Any) -> dict[str, Any]:
    """A webhook about the annotation of a task."""
    result = [{"from_name": "kind", "to_name": "photo", "type": "choices", "value": {"choices": [name]}}]
    annotation = {"id": 100 + number, "task": number, "result": result if name else [], "completed_by": 7}
    project = {"id": 1, "label_config": CONFIG, "title": "trees"}
    return {"action": action, "annotation": annotation | more, "task": task(number), "project": project}


def examples(client: httpx.Client) -> list[tuple[str, str, bool, str]]:
    """What is known of each example."""
    found = client.get("/v1/examples").json()["examples"]
    return [(one["class"], one["by"], one["verified"], one["ref"]) for one in found]


def test_it_is_off_unless_it_is_turned_on(serve: Serve) -> None:
    """The refusal names the setting."""
    with serve() as client:
        answers = [client.get("/label-studio/health"), client.post("/label-studio/predict", json=asked(task(1)))]

    for answer in answers:
        assert answer.status_code == 403
        assert "--label-studio (BREADCRUMBS_LABEL_STUDIO)" in answer.json()["error"]["message"]


@pytest.mark.parametrize("token", [TOKEN, "a.b.c"])
def test_it_predicts_what_predict_says(serve: Serve, studio: str, tmp_path: Path, token: str) -> None:
    """Of hosted images and of data URLs, in the form that Label Studio reads; a token that expires is exchanged."""
    data = "data:image/png;base64," + base64.b64encode(png(picture(3))).decode()
    with serve(**settings(studio, tmp_path, token)) as client:
        health = client.get("/label-studio/health").json()
        version = client.post("/label-studio/setup", json={"project": "1.1", "schema": CONFIG}).json()
        found = client.post("/label-studio/predict", json=asked(task(1), task(2), task(3, data))).json()
        said = [client.post("/v1/predict", content=png(picture(seed))).json() for seed in (1, 2, 3)]

    tops = [one["predictions"][0]["classes"][0] for one in said]
    assert health["status"] == "UP"
    assert version == {"model_version": "tiny head 1"} | {"model_version": found["model_version"]}
    assert [one["result"][0]["value"]["choices"] for one in found["results"]] == [[top["class"]] for top in tops]
    assert [one["score"] for one in found["results"]] == pytest.approx([top["probability"] for top in tops], abs=1e-5)
    assert {(one["result"][0]["from_name"], one["result"][0]["to_name"]) for one in found["results"]} == {
        ("kind", "photo")
    }


def test_the_sdk_reads_what_it_predicts(serve: Serve, studio: str, tmp_path: Path) -> None:
    """Label Studio's own types."""
    objects = pytest.importorskip("label_studio_sdk.label_interface.objects")
    interface = pytest.importorskip("label_studio_sdk.label_interface").LabelInterface(CONFIG)
    with serve(**settings(studio, tmp_path)) as client:
        (found,) = client.post("/label-studio/predict", json=asked(task(1))).json()["results"]

    prediction = objects.PredictionValue.model_validate(found)
    assert prediction.model_version == "tiny head 1"
    assert interface.validate_prediction(prediction.model_dump())


@pytest.mark.parametrize("listed", [("elm",), ("Wollemia nobilis", "elm"), ("someone else",), ()])
def test_only_what_can_be_chosen_is_predicted(
    serve: Serve, studio: str, tmp_path: Path, listed: tuple[str, ...]
) -> None:
    """The most probable of the classes that the config lists; none is an empty result; no list means all classes."""
    choices = "".join(f'<Choice value="x" alias="{name}"/>' for name in listed)
    config = f'<View><Image name="photo" value="$image"/><Choices name="kind" toName="photo">{choices}</Choices></View>'
    with serve(**settings(studio, tmp_path)) as client:
        (found,) = client.post("/label-studio/predict", json=asked(task(1), config=config)).json()["results"]
        ranked = client.post("/v1/predict", content=png(picture(1))).json()["predictions"][0]["classes"]

    possible = [one["class"] for one in ranked if one["class"] in listed or not listed]
    assert [one["value"]["choices"] for one in found["result"]] == [[name] for name in possible[:1]]


def test_annotations_become_labels_and_go_with_them(serve: Serve, studio: str, tmp_path: Path) -> None:
    """Created, changed, skipped, deleted; with author and reference; events about other things are left alone."""
    with serve(**settings(studio, tmp_path)) as client:

        def send(body: dict[str, Any]) -> list[tuple[str, str, bool, str]]:
            assert client.post("/label-studio/webhook", json=body).status_code == 200
            return examples(client)

        def said(number: int, name: str) -> tuple[str, str, bool, str]:
            return name, "Label Studio user 7", True, f"label-studio/1/{number}/{100 + number}"

        assert send(hook("ANNOTATION_CREATED", 1, "elm")) == [said(1, "elm")]
        assert send(hook("ANNOTATION_CREATED", 1, "elm")) == [said(1, "elm")]
        assert send(hook("ANNOTATION_CREATED", 2, "yew")) == [said(2, "yew"), said(1, "elm")]
        assert send(hook("ANNOTATION_UPDATED", 1, "oak")) == [said(1, "oak"), said(2, "yew")]
        assert send({"action": "PROJECT_UPDATED", "project": {"id": 1}}) == [said(1, "oak"), said(2, "yew")]
        assert send(hook("ANNOTATION_UPDATED", 1, "oak", was_cancelled=True)) == [said(2, "yew")]
        assert send({"action": "ANNOTATIONS_DELETED", "annotations": [{"id": 9}, {"id": 102}]}) == []


def test_one_bad_image_among_many_is_told(serve: Serve, studio: str, tmp_path: Path) -> None:
    """Its task has no result and says why, the others have theirs; alone, it is the answer."""
    bad = task(2, "data:image/png;base64,AAAA")
    with serve(**settings(studio, tmp_path)) as client:
        found = client.post("/label-studio/predict", json=asked(task(1), bad, task(3))).json()["results"]
        alone = client.post("/label-studio/predict", json=asked(bad))

    assert [len(one["result"]) for one in found] == [1, 0, 1]
    assert found[1]["error"].startswith("task 2: ")
    assert (alone.status_code, alone.json()["error"]["type"]) == (422, "image")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/data/upload/1/1",
        "http://example.com/data/upload/1/1",
        "{studio}@example.com/data/x",
        "//example.com/data/upload/1/1",
        "{studio}/api/users",
        "/api/users",
        "/data/../api/users",
        "/data/%2e%2e/api/users",
        "/data/..\\api\\users",
        "file:///etc/passwd",
        "s3://bucket/key",
        "ftp://127.0.0.1/data/x",
        "data:text/plain,x",
        "",
        7,
    ],
)
def test_nothing_else_is_fetched(serve: Serve, studio: str, tmp_path: Path, url: Any) -> None:
    """No other host, no other path, no file: the refusal comes before a connection."""
    Hosted.asked.clear()
    place = url.replace("{studio}", studio) if isinstance(url, str) else url
    body = asked({"id": 1, "data": {"image": place}})
    with serve(**settings(studio, tmp_path)) as client:
        answer = client.post("/label-studio/predict", json=body)

    assert answer.status_code == 422, answer.text
    assert "expected" in answer.json()["error"]["message"]
    assert Hosted.asked == []


@pytest.mark.parametrize("token", ["wrong", "x.y.z"])
def test_a_label_studio_that_refuses_is_told(serve: Serve, studio: str, tmp_path: Path, token: str) -> None:
    """A wrong token, or a redirect, which is not followed, is one sentence with the setting."""
    with serve(**settings(studio, tmp_path, token)) as client:
        answers = [client.post("/label-studio/predict", json=asked(task(1, url))) for url in (None, "/data/moved")]

    for answer in answers:
        assert (answer.status_code, answer.json()["error"]["type"]) == (502, "label_studio")
        assert "label-studio-token" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ("", "no XML"),
        ("<View>", "no XML"),
        ('<!DOCTYPE v [<!ENTITY a "b">]><View>&a;</View>', "document type"),
        ('<View><Text name="t" value="$t"/><Choices name="c" toName="t"/></View>', "no choices for an image"),
        ('<View><Image name="i" value="fixed.png"/><Choices name="c" toName="i"/></View>', "no choices for an image"),
        (f"<View>{' ' * 2**20}</View>", "the limit is"),
    ],
)
def test_a_config_that_asks_for_something_else_is_refused(
    serve: Serve, studio: str, tmp_path: Path, config: str, told: str
) -> None:
    """In one sentence, before an image is fetched."""
    with serve(**settings(studio, tmp_path)) as client:
        answer = client.post("/label-studio/predict", json=asked(task(1), config=config))

    assert answer.status_code == 422
    assert told in answer.json()["error"]["message"]


@pytest.mark.parametrize(("scopes", "verified"), [(("predict",), False), (("predict", "refit"), True)])
def test_a_key_comes_as_a_password(
    serve: Serve, studio: str, tmp_path: Path, scopes: tuple[keys.KeyScope, ...], verified: bool
) -> None:
    """Or in a webhook's header; the labels are its own, and verified if it may refit. Elsewhere no password counts."""
    secret = keys.add(tmp_path / "keys", "studio", scopes)
    with serve(**settings(studio, tmp_path), keys=tmp_path / "keys") as client:
        refused = [client.get("/label-studio/health"), client.get("/label-studio/health", auth=("x", "wrong"))]
        elsewhere = client.get("/v1/heads", auth=("x", secret))
        predicted = client.post("/label-studio/predict", json=asked(task(1)), auth=("anybody", secret))
        client.headers["authorization"] = f"Bearer {secret}"
        client.post("/label-studio/webhook", json=hook("ANNOTATION_CREATED", 1, CLASSES[0])).raise_for_status()
        (found,) = client.get("/v1/examples").json()["examples"]

    assert [one.status_code for one in (*refused, elsewhere, predicted)] == [401, 401, 401, 200]
    assert (found["owner"], found["verified"]) == ("studio", verified)
