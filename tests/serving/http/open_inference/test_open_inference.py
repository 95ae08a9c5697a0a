"""`/v2` on a real server: what it says of itself, that it computes what /v1 computes, and how it refuses."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from infer_bytes import elements, read
from patience import PATIENCE
from running import Serve, make_settings, running
from tiny import CLASSES, SIDE, expected_features, picture, png, tiny_head, write_bundle_of_features

MODEL, FILES, FEATURES = "/v2/models/tiny", "/v2/models/tiny-files", "/v2/models/tiny-features"
RAW = {"Inference-Header-Content-Length": "0"}
INTEROP = Path(__file__).with_name("triton_client.py")


def pixels(*seeds: int) -> np.ndarray:
    return np.stack([picture(seed) for seed in seeds])


def probabilities(*seeds: int) -> np.ndarray:
    """What softmax gives, in numpy (N, C)."""
    powers = np.exp(tiny_head().logits(expected_features(pixels(*seeds))).astype(np.float64))
    return np.asarray(powers / powers.sum(1, keepdims=True), np.float32)


def binary(values: np.ndarray, **more: Any) -> tuple[bytes, dict[str, str]]:
    """The body and headers of a request with pixels behind the JSON."""
    given = {"name": "image", "shape": list(values.shape), "datatype": "UINT8"}
    given["parameters"] = {"binary_data_size": values.size}
    text = json.dumps({"inputs": [given], **more}).encode()
    return text + values.tobytes(), {"Inference-Header-Content-Length": str(len(text))}


def test_the_server_says_what_it_is(client: httpx.Client) -> None:
    """Its extensions and limits; alive, ready, its models' inputs and outputs, and their versions."""
    about, index = client.get("/v2").json(), client.post("/v2/repository/index", json={"ready": True}).json()
    model, files = client.get(MODEL).json(), client.get(f"{FILES}/versions/1").json()

    assert (about["name"], about["extensions"]) == (
        "breadcrumbs",
        ["binary_tensor_data", "classification", "model_configuration", "statistics"],
    )
    assert about["limits"]["max_images"] == 4
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get(f"{MODEL}/ready").json() == {"name": "tiny", "ready": True}
    assert [one["name"] for one in index] == ["tiny", "tiny-files", "tiny-probabilities", "tiny-features"]
    assert model["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, SIDE, SIDE, 3]}]
    assert files["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
    assert [one["shape"] for one in model["outputs"]] == [[-1, 4], [-1, 3], [-1, 3]]
    assert model["versions"] == ["1"]


def test_numbers_are_those_of_numpy_in_every_form(client: httpx.Client) -> None:
    """JSON, binary, raw, and image files give the same features, logits and probabilities."""
    given = {"name": "image", "shape": [2, SIDE, SIDE, 3], "datatype": "UINT8", "data": pixels(1, 2).tolist()}
    asked = {"inputs": [given], "id": "x"}
    body, headers = binary(pixels(1, 2), parameters={"binary_data_output": True})
    packed = elements(png(picture(1)), png(picture(2)))
    files = {"name": "image", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": len(packed)}}
    text = json.dumps({"inputs": [files]}).encode()

    answers = [
        client.post(f"{MODEL}/infer", json=asked),
        client.post(f"{MODEL}/versions/1/infer", content=body, headers=headers),
        client.post(
            f"{FILES}/infer", content=text + packed, headers={"Inference-Header-Content-Length": str(len(text))}
        ),
    ]

    for answer in answers:
        found = read(answer.content, dict(answer.headers))["found"]
        np.testing.assert_allclose(found["feature"], expected_features(pixels(1, 2)), atol=1e-5)
        np.testing.assert_allclose(found["logits"], tiny_head().logits(found["feature"]), atol=1e-5)
        np.testing.assert_allclose(found["probabilities"], probabilities(1, 2), atol=1e-5)
    assert answers[0].json()["id"] == "x"
    assert {read(one.content, dict(one.headers))["model_version"] for one in answers} == {"1"}


def behind(values: np.ndarray, **more: Any) -> tuple[bytes, dict[str, str]]:
    """The body and headers of a request with features behind the JSON."""
    given = {"name": "features", "shape": list(values.shape), "datatype": "FP32", **more}
    given["parameters"] = {"binary_data_size": values.nbytes}
    text = json.dumps({"inputs": [given], "parameters": {"binary_data_output": True}}).encode()
    return text + values.tobytes(), {"Inference-Header-Content-Length": str(len(text))}


@pytest.mark.parametrize("rows", [1, 4])
def test_features_are_answered_in_every_form(client: httpx.Client, rows: int) -> None:
    """JSON, nested and flat, binary and raw: what came, and numpy's logits of it."""
    given = np.random.default_rng(rows).normal(size=(rows, 4)).astype(np.float32)
    about = {"name": "features", "shape": [rows, 4], "datatype": "FP32"}
    body, headers = behind(given)
    answers = [
        client.post(f"{FEATURES}/infer", json={"inputs": [about | {"data": given.tolist()}]}),
        client.post(f"{FEATURES}/infer", json={"inputs": [about | {"data": given.ravel().tolist()}]}),
        client.post(f"{FEATURES}/versions/1/infer", content=body, headers=headers),
    ]
    if rows == 1:
        answers.append(client.post(f"{FEATURES}/infer", content=given.tobytes(), headers=RAW))

    for answer in answers:
        found = read(answer.content, dict(answer.headers))["found"]
        np.testing.assert_array_equal(found["feature"], given)
        np.testing.assert_allclose(found["logits"], tiny_head().logits(given), atol=1e-5)
        assert found["probabilities"].sum(1) == pytest.approx(np.ones(rows))


NAN = np.array([[0, np.nan, 0, 0]], np.float32)
ROW = {"name": "features", "shape": [1, 4], "datatype": "FP32"}
NO_FEATURES: list[tuple[dict[str, Any], str]] = [
    ({"json": {"inputs": [ROW | {"shape": [1, 5], "data": [1] * 5}]}}, "expected shape [-1, 4], got [1, 5]"),
    ({"json": {"inputs": [ROW | {"shape": [0, 4], "data": []}]}}, "expected at least one feature"),
    ({"json": {"inputs": [ROW | {"datatype": "FP64", "data": [1] * 4}]}}, "expected datatype FP32, got FP64"),
    ({"json": {"inputs": [ROW | {"name": "image", "data": [1] * 4}]}}, "expected one input, 'features'"),
    ({"json": {"inputs": [ROW | {"data": [1] * 3}]}}, "expected 4 elements for shape [1, 4], got 3"),
    ({"json": {"inputs": [ROW | {"data": [1, 2, "3", 4]}]}}, "expected numbers, got '3'"),
    ({"json": {"inputs": [ROW | {"data": [1, 2, None, 4]}]}}, "expected numbers, got None"),
    ({"json": {"inputs": [ROW | {"data": [1, 2, True, 4]}]}}, "expected numbers, got True"),
    ({"json": {"inputs": [ROW | {"data": [1, 2, 10**400, 4]}]}}, "expected"),
    ({"json": {"inputs": [ROW | {"data": [[1, 2], [3]]}]}}, "no regular array"),
    ({"json": {"inputs": [ROW | {"data": ["x" * 50_000] + ["y"] * 2_000}]}}, "expected numbers, got 'xxx"),
    ({"json": {"inputs": [ROW | {"data": [1, 2, 1e39, 4]}]}}, "expected finite numbers, got 1 of 4"),
    (dict(zip(("content", "headers"), behind(NAN), strict=True)), "expected finite numbers, got 1 of 4"),
    (dict(zip(("content", "headers"), behind(np.zeros((5, 4), np.float32)), strict=True)), "5 features came"),
    ({"content": b"1234", "headers": RAW}, "expected 16 bytes, got 4"),
]


@pytest.mark.parametrize(("given", "words"), NO_FEATURES, ids=range(len(NO_FEATURES)))
def test_what_are_no_features_is_refused(client: httpx.Client, given: dict[str, Any], words: str) -> None:
    """What was expected and what came, in the protocol's shape."""
    answer = client.post(f"{FEATURES}/infer", **given)

    assert answer.status_code == (413 if "came" in words else 400), answer.text
    assert words in answer.json()["error"]


def test_a_bundle_without_a_backbone_is_one_model(tmp_path: Path) -> None:
    """Listed, described, ready and answering; the others are not there."""
    bundle = write_bundle_of_features(tmp_path / "bundle")
    body, headers = behind(np.ones((2, 4), np.float32))
    with running(make_settings(bundle, tmp_path / "store")) as client:
        index = client.post("/v2/repository/index").json()
        about = client.get(FEATURES).json()
        answer = client.post(f"{FEATURES}/infer", content=body, headers=headers)

        assert [one["name"] for one in index] == ["tiny-features"]
        assert about["inputs"] == [{"name": "features", "datatype": "FP32", "shape": [-1, 4]}]
        assert client.get(f"{FEATURES}/ready").json() == {"name": "tiny-features", "ready": True}
        assert client.get("/v2/health/ready").json() == {"ready": True}
        assert [one["name"] for one in client.get("/v2/models/stats").json()["model_stats"]] == ["tiny-features"]
        assert "there is only tiny-features" in client.get(MODEL).json()["error"]
        np.testing.assert_allclose(
            read(answer.content, dict(answer.headers))["found"]["logits"],
            tiny_head().logits(np.ones((2, 4), np.float32)), atol=1e-5,
        )  # fmt: skip


def test_a_raw_request_is_answered_in_bytes(client: httpx.Client) -> None:
    """One image and nothing else, as pixels or as a file."""
    for path, body in ((MODEL, pixels(3).tobytes()), (FILES, png(picture(3)))):
        answer = client.post(f"{path}/infer", content=body, headers=RAW)

        found = read(answer.content, dict(answer.headers))["found"]
        np.testing.assert_allclose(found["probabilities"], probabilities(3), atol=1e-5)


def test_classes_come_by_name(client: httpx.Client) -> None:
    """The classification extension names the classes of /v1/predict, in its order."""
    outputs = [{"name": "probabilities", "parameters": {"classification": 2}}]
    body, headers = binary(pixels(4), outputs=outputs)
    listed = client.post("/v1/predict", content=png(picture(4)), headers={"content-type": "image/png"}).json()

    (output,) = client.post(f"{MODEL}/infer", content=body, headers=headers).json()["outputs"]

    names = [value.split(":")[2] for value in output["data"]]
    assert names == [one["class"] for one in listed["predictions"][0]["classes"][:2]]
    assert output["shape"] == [1, 2]
    assert set(names) < set(CLASSES)


def test_a_models_configuration_fits_its_metadata(client: httpx.Client) -> None:
    """For each model and version: names, types and dimensions, along the batch or not."""
    types = {"UINT8": "TYPE_UINT8", "BYTES": "TYPE_STRING", "FP32": "TYPE_FP32"}
    for name in ("tiny", "tiny-files", "tiny-probabilities", "tiny-features"):
        for version in ("", "/versions/1"):
            config = client.get(f"/v2/models/{name}{version}/config").json()
            about = client.get(f"/v2/models/{name}{version}").json()

            assert (config["name"], config["platform"]) == (name, about["platform"])
            first = 1 if config["max_batch_size"] else 0
            for ours, theirs in (("inputs", "input"), ("outputs", "output")):
                assert [(one["name"], types[one["datatype"]], one["shape"][first:]) for one in about[ours]] == [
                    (one["name"], one["data_type"], one["dims"]) for one in config[theirs]
                ]


def test_statistics_count_what_was_asked(serve: Serve) -> None:
    """Images, batches and requests of each model and version, those that failed too; nothing of /v1."""
    with serve(max_batch=8) as client:

        def told(path: str) -> list[tuple[Any, ...]]:
            found = client.get(f"/v2/models/{path}stats").json()["model_stats"]
            return [
                (
                    one["name"], one["inference_count"], one["execution_count"],
                    one["inference_stats"]["success"]["count"], one["inference_stats"]["fail"]["count"],
                )
                for one in found
            ]  # fmt: skip

        names = ("tiny", "tiny-files", "tiny-probabilities", "tiny-features")
        assert told("") == [(name, 0, 0, 0, 0) for name in names]
        body, headers = binary(pixels(1, 2, 3))
        client.post(f"{MODEL}/infer", content=body, headers=headers)
        client.post(f"{MODEL}/versions/1/infer", content=body, headers=headers)
        client.post(f"{MODEL}/infer", content=b"{}")
        client.post(f"{FILES}/infer", content=png(picture(3)), headers=RAW)
        client.post(f"{FILES}/infer", content=b"none", headers=RAW)
        client.post("/v1/predict", content=png(picture(4)), headers={"content-type": "image/png"})
        client.post("/v2/models/none/infer", content=b"{}")
        (name, images, batches, good, bad), files, nothing, _ = told("")

        assert (name, images, good, bad) == ("tiny", 6, 2, 1)
        assert 2 <= batches <= 6
        assert files == ("tiny-files", 1, 1, 1, 1)
        assert nothing == ("tiny-probabilities", 0, 0, 0, 0)
        assert told("tiny-files/versions/1/") == told("tiny-files/") == [files]
        whole = client.get(f"{MODEL}/stats").json()["model_stats"][0]
        spans = whole["inference_stats"]
        assert whole["version"] == "1"
        assert whole["last_inference"] > 10**12
        assert spans["success"]["ns"] >= spans["compute_infer"]["ns"] > 0
        assert client.get("/v2/models/none/stats").status_code == 404
        assert client.get(f"{MODEL}/versions/9/stats").status_code == 404


def test_every_head_that_answers_is_ready_in_the_index(serve: Serve) -> None:
    """As its own route says; and one for another backbone is not, with the reason."""
    with serve() as client:
        job = client.post("/v1/refit", json={"spec": {"activate": "never"}}).json()["id"]
        client.get(f"/v1/refit/{job}/events")
        index = client.post("/v2/repository/index").json()
        ready = client.post("/v2/repository/index", json={"ready": True}).json()
        states = {client.get(f"/v2/models/{one['name']}/versions/{one['version']}/ready").status_code for one in index}

    assert {(one["version"], one["state"]) for one in index} == {("1", "READY"), ("2", "READY")}
    assert ready == index
    assert states == {200}


def test_the_base_path_may_end_in_a_slash(client: httpx.Client) -> None:
    """As the protocol's own description writes it; without going round by a redirect."""
    assert client.get("/v2/").json() == client.get("/v2").json()


@pytest.mark.parametrize("shape", [[0, SIDE, SIDE, 3]])
def test_no_images_are_told(client: httpx.Client, shape: list[int]) -> None:
    """At least one is needed."""
    given = {"name": "image", "shape": shape, "datatype": "UINT8", "data": []}
    empty = client.post(f"{MODEL}/infer", json={"inputs": [given]})
    files = client.post(f"{FILES}/infer", json={"inputs": [given | {"shape": [0], "datatype": "BYTES"}]})

    for answer in (empty, files):
        assert (answer.status_code, "at least one image" in answer.json()["error"]) == (400, True)


REFUSED = [
    ("GET", "/v2/models/oak", {}, 404, "there is no model 'oak'"),
    ("POST", "/v2/models/oak/infer", {"content": b"{}"}, 404, "tiny-probabilities and tiny-features"),
    ("GET", f"{MODEL}/versions/9", {}, 404, "there is no head 9"),
    ("POST", f"{MODEL}/versions/x/infer", {"content": b"{}"}, 400, "expected active or a version number"),
    ("POST", f"{MODEL}/infer", {"content": b"{"}, 400, "Invalid JSON"),
    ("GET", f"{MODEL}/infer", {}, 405, "GET is not offered"),
    ("GET", "/v2/nothing", {}, 404, "nothing at"),
    ("POST", f"{MODEL}/infer", {"content": b"x", "headers": {"content-encoding": "br"}}, 415, "not compressed"),
    ("POST", f"{MODEL}/infer", {"content": b"x" * 70_000}, 413, "the limit is 60000"),
    ("POST", f"{FILES}/infer", {"content": b"no image", "headers": RAW}, 400, "not a JPEG"),
    ("POST", "/v2/repository/models/tiny/unload", {}, 403, "POST /v1/heads/{version}/activate"),
    ("POST", "/v2/repository/index", {"content": b"[]", "headers": {"content-type": "application/json"}}, 400, "body"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "given", "status", "message"), REFUSED)
def test_refusals_have_the_protocols_shape(
    client: httpx.Client, method: str, path: str, given: dict[str, Any], status: int, message: str
) -> None:
    """One field, `error`, whose text says what was expected and what came."""
    answer = client.request(method, path, **given)

    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    assert message in answer.json()["error"]


def test_too_many_images_or_too_large_ones_are_refused(client: httpx.Client) -> None:
    """The limits of /v1/predict hold here too."""
    body, headers = binary(pixels(*range(5)))
    many = client.post(f"{MODEL}/infer", content=body, headers=headers)
    large = client.post(f"{FILES}/infer", content=b"x" * 30_000, headers=RAW)

    assert (many.status_code, many.json()["error"]) == (413, "5 images came; the limit is 4")
    assert (large.status_code, "has 30000 bytes; the limit is 20000" in large.text) == (413, True)


def test_overload_and_a_short_timeout_are_told(serve: Serve) -> None:
    """503 with a time to try again; the request's own timeout, in microseconds, shortens the deadline."""
    with serve(queue=2) as client:
        body, headers = binary(pixels(1, 2, 3))
        full = client.post(f"{MODEL}/infer", content=body, headers=headers)
        body, headers = binary(pixels(1), parameters={"timeout": 1})
        late = client.post(f"{MODEL}/infer", content=body, headers=headers)

    assert (full.status_code, late.status_code) == (503, 503)
    assert int(full.headers["retry-after"]) >= 1
    assert "deadline of 1e-06 s" in late.json()["error"]


@pytest.mark.slow
def test_tritons_own_client_works_unchanged(serve: Serve) -> None:
    """Metadata, readiness, JSON and binary inference, classes, errors; in a process of its own, as it loads gevent."""
    with serve() as client:
        client.put("/v1/priors/some", json={"classes": ["oak", "elm"]}).raise_for_status()
        port = client.base_url.port
        ended = subprocess.run(
            [sys.executable, str(INTEROP), f"127.0.0.1:{port}"],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == {"classes": pytest.approx(probabilities(5)[0].max(), abs=1e-5), "requests": 6}
