"""Features in place of images at `/v1/predict`, against numpy; with a backbone beside them and without one."""

import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import ml_dtypes
import numpy as np
import pytest
from running import Serve, make_settings, running
from tiny import CLASSES, SPACE, expected_features, picture, png, tiny_head, write_bundle_of_features

from breadcrumbs.models import head as heads
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.safetensor import encode
from breadcrumbs.serving.client.client import Client

WIDE = 2048
NAMES = tuple(f"Ünusually long name of a species {place:027d}" for place in range(1000))
FORMS = ("json", "npy", "safetensors", "unnamed npy", "unnamed safetensors")


def features(rows: int, dim: int = 4) -> np.ndarray:
    return np.random.default_rng(100 + rows).normal(size=(rows, dim)).astype(np.float32)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def request(array: np.ndarray, form: str = "npy") -> dict[str, Any]:
    """What httpx sends of an array."""
    if form == "json":
        return {"json": {"features": array.tolist()}}
    data = npy(array) if form.endswith("npy") else encode({"features": array}, {})
    kind = {} if form.startswith("unnamed") else {"content-type": f"application/x-{form}"}
    return {"content": data, "headers": kind}


def check(answer: httpx.Response, head: heads.LinearHead, rows: np.ndarray) -> None:
    """Whether the answer has the classes of numpy's softmax, in order."""
    assert answer.status_code == 200, answer.text
    found = answer.json()["predictions"]
    assert len(found) == len(rows)
    for prediction, expected in zip(found, heads.softmax(head.logits(rows)), strict=True):
        best = np.argsort(-expected, kind="stable")[: len(prediction["classes"])]
        assert [one["index"] for one in prediction["classes"]] == best.tolist()
        assert [one["probability"] for one in prediction["classes"]] == pytest.approx(expected[best], abs=1e-5)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle without a backbone: 2,048 dimensions, 1,000 classes with long names."""
    return write_bundle_of_features(tmp_path_factory.mktemp("wide") / "bundle", WIDE, NAMES)


@pytest.fixture(scope="module")
def without(wide: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server of it."""
    with running(make_settings(wide, tmp_path_factory.mktemp("store"))) as client:
        yield client


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rows", [1, 4])
def test_every_form_is_answered_as_numpy_would(client: httpx.Client, form: str, rows: int) -> None:
    """By a server that takes images too."""
    given = features(rows)

    check(client.post("/v1/predict", **request(given, form)), tiny_head(), given)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rows", [1, 3])
def test_a_server_without_a_backbone_answers_features(without: httpx.Client, form: str, rows: int) -> None:
    """Of 2,048 dimensions, among 1,000 classes."""
    given = features(rows, WIDE)

    check(without.post("/v1/predict", **request(given, form)), tiny_head(1, NAMES, WIDE), given)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4", "bfloat16"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_type_of_numbers_is_read(client: httpx.Client, dtype: str, order: str) -> None:
    """As float32, whatever the order of the bytes and of the elements."""
    wanted = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    given = np.asarray(features(3).astype(wanted), order=order)  # type: ignore[call-overload]

    check(client.post("/v1/predict", **request(given)), tiny_head(), given.astype(np.float32))


@pytest.mark.parametrize("form", ["json", "npy"])
def test_one_vector_is_one_feature(client: httpx.Client, form: str) -> None:
    """Without a list around it."""
    given = features(1)

    check(client.post("/v1/predict", **request(given[0], form)), tiny_head(), given)


def test_features_and_images_get_one_answer(client: httpx.Client) -> None:
    """What `/v1/features` gives of an image is classified as the image."""
    file = {"content": png(picture(3)), "headers": {"content-type": "image/png"}}
    made = client.post("/v1/features?format=safetensors", **file).content
    by_image = client.post("/v1/predict", **file).json()
    by_feature = client.post("/v1/predict", content=made).json()

    assert [one["index"] for one in by_feature["predictions"][0]["classes"]] == [
        one["index"] for one in by_image["predictions"][0]["classes"]
    ]
    assert by_feature["head"] == by_image["head"]
    assert by_feature["timing"]["decode_ms"] == 0
    np.testing.assert_allclose(
        client.post("/v1/features", **file).json()["features"], expected_features(picture(3)[None]), atol=1e-5
    )


def test_head_and_top_k_count_as_for_images(client: httpx.Client) -> None:
    """A version that is not there is 404."""
    given = request(features(1), "json")

    assert client.post("/v1/predict?head=1&top_k=2", **given).json()["head"]["version"] == 1
    assert len(client.post("/v1/predict?top_k=2", **given).json()["predictions"][0]["classes"]) == 2
    assert client.post("/v1/predict?head=9", **given).status_code == 404


NAN = np.array([[0, 0, 0, 0], [0, np.nan, 0, 0]], np.float32)
DEEP = b'{"features":' + b"[" * 5000 + b"1" + b"]" * 5000 + b"}"
JSON = {"content-type": "application/json"}
REFUSED: list[tuple[dict[str, Any], int, str]] = [
    (request(features(2, 5)), 422, "features of 5 dimensions came; expected 4, those of the backbone mean-colour ("),
    (request(features(2, 5), "json"), 422, "expected 4, those of the backbone mean-colour"),
    (request(NAN), 422, "features: 1 of 2 are not finite as float32: row 1"),
    (request(np.full((1, 4), 1e300)), 422, "not finite as float32: row 0"),
    (request(np.full((1, 4), np.inf, np.float16), "safetensors"), 422, "not finite as float32: row 0"),
    ({"content": b'{"features": [[1, 2, NaN, 4]]}', "headers": JSON}, 422, "not finite as float32: row 0"),
    ({"content": b'{"features": [[1, 2, 1e999, 4]]}', "headers": JSON}, 422, "not finite as float32: row 0"),
    (request(features(0)), 422, "expected (N, 4) with N at least 1, got shape (0, 4)"),
    ({"json": {"features": []}}, 422, "expected (N, 4) with N at least 1"),
    ({"json": {"features": [[]]}}, 422, "expected (N, 4) with N at least 1"),
    ({"json": {"features": [[1, 2, 3, 4], [1]]}}, 422, "expected vectors of one length, got several lengths"),
    ({"json": {"features": [["1", 2, 3, 4]]}}, 422, "Input should be a valid number"),
    ({"json": {"features": [[True, 2, 3, 4]]}}, 422, "Input should be a valid number"),
    ({"json": {"features": "oak"}}, 422, "features"),
    ({"json": {"features": [[1, 2, 3, 4]], "images": ["x"]}}, 422, "either images or features, got both"),
    ({"content": DEEP, "headers": JSON}, 422, "JSON body"),
    ({"content": b'{"features": [' + b"1," * 29_000 + b"1]}", "headers": JSON}, 422, "29001 dimensions came"),
    ({"content": b'{"features": [' + b"[1]," * 14_000 + b"[1]]}", "headers": JSON}, 413, "the limit is 4"),
    (request(features(5)), 413, "the request has 5 features; the limit is 4"),
    (request(features(2, 10_000)), 413, "the limit is 60000"),
    (request(features(2)[None]), 422, "got shape (1, 2, 4)"),
    (request(np.zeros((2, 4), np.int64)), 422, "expected dtype"),
    (request(np.array([["oak"] * 4])), 422, "expected dtype"),
    ({"content": npy(features(2))[:-1], "headers": {"content-type": "application/x-npy"}}, 422, "follow the header"),
    ({"content": b"", "headers": {"content-type": "application/x-npy"}}, 422, "not a safetensors file"),
    ({"content": encode({"labels": np.zeros(2, np.int64)}, {})}, 422, "unexpected tensor 'labels'"),
    ({"content": encode({"features": features(1)}, {"backbone": "a" * 64})}, 422, "features of the backbone 'aaaaaaa"),
]


@pytest.mark.parametrize(("given", "status", "words"), REFUSED, ids=range(len(REFUSED)))
def test_what_are_no_features_of_the_backbone_is_told(
    client: httpx.Client, given: dict[str, Any], status: int, words: str
) -> None:
    """What came, what was expected, and which backbone is meant; nothing is a 500."""
    answer = client.post("/v1/predict", **given)

    assert answer.status_code == status, answer.text
    assert words in answer.json()["error"]["message"]


def test_a_pickle_in_an_array_is_never_read(client: httpx.Client) -> None:
    """It is refused by its type."""
    file = io.BytesIO()
    np.save(file, np.array([[{}]], object), allow_pickle=True)

    answer = client.post("/v1/predict", content=file.getvalue(), headers={"content-type": "application/x-npy"})

    assert (answer.status_code, "pickles" in answer.text) == (422, True)


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/features"])
@pytest.mark.parametrize("form", ["raw", "form", "unnamed", "json"])
def test_images_are_refused_without_a_backbone(without: httpx.Client, path: str, form: str) -> None:
    """In every form, in one sentence that says what to send."""
    forms: dict[str, dict[str, Any]] = {
        "raw": {"content": png(picture()), "headers": {"content-type": "image/png"}},
        "form": {"files": [("image", png(picture()))]},
        "unnamed": {"content": png(picture())},
        "json": {"json": {"images": ["aaaa"]}},
    }
    answer = without.post(path, **forms[form])

    assert answer.status_code == 422
    assert answer.json()["error"]["message"].startswith("this server takes features only: ")
    assert f"the backbone elsewhere ({SPACE[:12]}), {WIDE} numbers each" in answer.text


def test_a_server_says_what_it_takes(client: httpx.Client, without: httpx.Client, tiny_bundle: Bundle) -> None:
    """Images or not, of which space, and how wide; and it proves itself without a backbone too."""
    both, only = client.get("/readyz").json(), without.get("/readyz").json()

    assert (both["takes"], both["feature_dim"]) == (["images", "features"], 4)
    assert both["backbone"] == tiny_bundle.backbone_digest
    assert (only["takes"], only["backbone"], only["feature_dim"]) == (["features"], SPACE, WIDE)
    assert without.get("/v1/samples").json() == {"samples": []}
    body = client.get("/openapi.json").json()["paths"]["/v1/predict"]["post"]["requestBody"]["content"]
    assert {"application/x-npy", "application/x-safetensors"} < body.keys()
    assert "features" in body["application/json"]["schema"]["properties"]


def test_a_thousand_features_go_in_several_requests_of_one_head(without: httpx.Client) -> None:
    """Both clients ask for the limits and split; the answers come back in order."""
    given = features(1000, WIDE)
    with Client(str(without.base_url)) as client:
        answer = client.predict_features(given.astype(np.float16), top_k=1)

    best = tiny_head(1, NAMES, WIDE).logits(given.astype(np.float16).astype(np.float32)).argmax(1)
    assert [one.classes[0].index for one in answer.predictions] == best.tolist()


def test_a_head_that_is_swapped_under_load_answers_alone(serve: Serve, tmp_path: Path) -> None:
    """Every answer is numpy's of the head that it names, images and features mixed."""
    given, over = features(8), threading.Event()
    wrong: list[str] = []
    with serve() as client:
        stored = client.put("/v1/snapshots", content=_snapshot(client)).json()["sha256"]
        job = client.post("/v1/refit", json={"snapshots": [stored], "spec": {"activate": "never"}}).json()["id"]
        with Client(str(client.base_url)) as typed:
            typed.wait(job)
            known = {1: tiny_head(), 2: heads.from_onnx(typed.head_onnx(2))}

        def ask() -> None:
            while not over.is_set():
                client.post("/v1/predict", files=[("image", png(picture(1)))])
                answer = client.post("/v1/predict", **request(given, "json")).json()
                logits = known[answer["head"]["version"]].logits(given)
                found = [one["classes"][0]["index"] for one in answer["predictions"]]
                if found != logits.argmax(1).tolist():
                    wrong.append(json.dumps(answer))

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for swap in range(30):
            client.post(f"/v1/heads/{2 - swap % 2}/activate")
        over.set()
        for thread in threads:
            thread.join()

    assert wrong == []


def _snapshot(client: httpx.Client) -> bytes:
    """A snapshot of a few images, by the server's backbone."""
    files = [("image", png(picture(seed))) for seed in range(len(CLASSES))]
    words = {"labels": json.dumps(list(CLASSES)), "epoch": "9"}
    return client.post("/v1/features?format=safetensors", files=files, data=words).content
