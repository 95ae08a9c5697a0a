"""`/v1/predict` and `/v1/features`, against numpy."""

import base64
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tiny import CLASSES, expected_features, picture, png, tiny_head

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.snapshots import snapshot as snapshots

PNG = {"content-type": "image/png"}


def probabilities(seeds: list[int]) -> np.ndarray:
    """What softmax(W z + b) gives, in numpy (N, C)."""
    logits = tiny_head().logits(expected_features(np.stack([picture(seed) for seed in seeds])))
    powers = np.exp(logits.astype(np.float64))
    return np.asarray(powers / powers.sum(1, keepdims=True))


def check(answer: httpx.Response, seeds: list[int]) -> None:
    body = answer.json()
    assert answer.status_code == 200, body
    assert len(body["predictions"]) == len(seeds)
    for prediction, expected in zip(body["predictions"], probabilities(seeds), strict=True):
        for place, ranked in zip(np.argsort(-expected), prediction["classes"], strict=True):
            assert (ranked["class"], ranked["index"]) == (CLASSES[place], place)
            assert ranked["probability"] == pytest.approx(expected[place], abs=1e-5)


def test_a_raw_image_is_classified_as_numpy_would(client: httpx.Client, tiny_bundle: Bundle) -> None:
    """Classes in order of probability, the head that answered, the times it took."""
    answer = client.post("/v1/predict", content=png(picture(3)), headers=PNG)

    check(answer, [3])
    body = answer.json()
    assert body["head"] == {"version": 1, "digest": tiny_bundle.head().digest}
    assert body["batch_size"] >= 1
    assert all(body["timing"][name] >= 0 for name in ("queue_ms", "decode_ms", "compute_ms"))


def test_several_images_in_a_form_come_back_in_order(client: httpx.Client) -> None:
    """Field names do not matter; order does."""
    files = [("image", png(picture(1))), ("other", png(picture(2))), ("image", png(picture(3)))]

    check(client.post("/v1/predict", files=files), [1, 2, 3])


def test_several_images_in_json_come_back_in_order(client: httpx.Client) -> None:
    """Base64 is the third form of the same request."""
    images = [base64.b64encode(png(picture(seed))).decode() for seed in (4, 5)]

    check(client.post("/v1/predict", json={"images": images}), [4, 5])


def test_top_k_is_kept_within_the_number_of_classes(client: httpx.Client) -> None:
    """Fewer if fewer are asked for, all if more are asked for than there are."""
    for asked, given in ((1, 1), (2, 2), (100, 3)):
        answer = client.post("/v1/predict", params={"top_k": asked}, content=png(picture()), headers=PNG)

        assert len(answer.json()["predictions"][0]["classes"]) == given


def test_a_head_may_be_named(client: httpx.Client) -> None:
    """By number, or as the active one."""
    for name in ("active", "1"):
        answer = client.post("/v1/predict", params={"head": name}, content=png(picture()), headers=PNG)

        assert answer.json()["head"]["version"] == 1


def test_features_are_those_of_numpy(client: httpx.Client, tiny_bundle: Bundle) -> None:
    """With the name of their feature space."""
    body = client.post("/v1/features", content=png(picture(6)), headers=PNG).json()

    np.testing.assert_allclose(body["features"], expected_features(picture(6)[None]), atol=1e-5)
    assert (body["backbone"], body["feature_dim"]) == (tiny_bundle.backbone_digest, 4)


def test_features_and_labels_make_a_snapshot_that_can_be_uploaded(
    client: httpx.Client, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    """Labels are names or indices; an unknown name becomes a class after those that are known."""
    files = [("image", png(picture(seed))) for seed in range(4)]
    words = {"labels": '["elm", 0, "yew", "elm"]', "epoch": "7"}
    answer = client.post("/v1/features", params={"format": "safetensors"}, files=files, data=words)
    path = tmp_path / "made.safetensors"
    path.write_bytes(answer.content)
    snapshot = snapshots.read(path)
    stored = client.put("/v1/snapshots", content=answer.content)

    assert snapshot.classes == (*CLASSES, "yew")
    assert snapshot.labels.tolist() == [1, 0, 3, 1]
    assert (snapshot.epoch, snapshot.backbone) == (7, tiny_bundle.backbone_digest)
    np.testing.assert_allclose(
        snapshot.features, expected_features(np.stack([picture(s) for s in range(4)])), atol=1e-5
    )
    assert stored.status_code == 201
    assert stored.json()["groups"] == {"many": 1, "medium": 2, "few": 0, "new": 1}
    assert stored.json()["group_of"]["yew"] == "new"
    assert stored.json()["deployed"] is True


@pytest.mark.parametrize("form", ["json", "form"])
def test_images_without_a_label_make_a_snapshot_too(form: str, client: httpx.Client, tmp_path: Path) -> None:
    """Null is no label; ids and data set are kept, in the snapshot and in the record of its upload."""
    images = [png(picture(seed)) for seed in range(3)]
    labels = [None, "elm", None] if form == "json" else [None] * 3
    words: dict[str, Any] = {"labels": labels, "epoch": 8, "ids": [7, 3, -(2**63)], "dataset": "d" * 64}
    if form == "json":
        sent: dict[str, Any] = {"json": {"images": [base64.b64encode(one).decode() for one in images], **words}}
    else:
        fields = {name: value if name == "dataset" else json.dumps(value) for name, value in words.items()}
        sent = {"files": [("image", one) for one in images], "data": fields}
    answer = client.post("/v1/features", params={"format": "safetensors"}, **sent)
    path = tmp_path / "made.safetensors"
    path.write_bytes(answer.content)
    snapshot = snapshots.read(path)
    stored = client.put("/v1/snapshots", content=answer.content).json()

    assert snapshot.labels.tolist() == [-1 if label is None else CLASSES.index(label) for label in labels]
    assert (snapshot.ids.tolist(), snapshot.dataset) == (words["ids"], "d" * 64)
    assert (stored["rows"], stored["unlabelled"], stored["dataset"]) == (3, labels.count(None), "d" * 64)
    assert sum(stored["classes"].values()) == 3 - labels.count(None)


def test_features_come_as_safetensors_where_binary_is_accepted(client: httpx.Client) -> None:
    """The Accept header is enough."""
    headers = PNG | {"accept": "application/octet-stream"}
    answer = client.post("/v1/features", content=png(picture()), headers=headers)

    assert answer.headers["content-type"] == "application/octet-stream"
    assert b'"features"' in answer.content[:200]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("topk", "did you mean 'top_k'?"),
        ("Prior", "did you mean 'prior'?"),
        ("zzzz", "there are: top_k, head, line, prior"),
    ],
)
def test_a_parameter_that_is_none_is_refused(client: httpx.Client, name: str, told: str) -> None:
    """Ignored, it would be an answer to another question; the sentence says which one may be meant."""
    answer = client.post("/v1/predict", params={name: "2"}, content=png(picture(0)), headers=PNG)

    assert answer.status_code == 422
    assert f"there is no parameter '{name}'; {told}" in answer.json()["error"]["message"]
