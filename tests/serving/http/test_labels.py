"""Labels over HTTP: of answers, images and features, by several servers and keys, and everything that is refused."""

import base64
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelling import holding
from running import Serve, make_settings, running
from tiny import CLASSES, SIDE, expected_features, picture, png, write_bundle_of_features

from breadcrumbs.models import printable
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.serving.http.examples.labels import MOST
from breadcrumbs.serving.learning import answer_ids
from breadcrumbs.serving.state import keys

PNG = {"content-type": "image/png"}


def text(image: bytes) -> str:
    """Base64."""
    return base64.b64encode(image).decode()


def asked(client: httpx.Client, seed: int = 0, **params: Any) -> str:
    """Ask about one image, and return the id of the answer."""
    answer = client.post("/v1/predict", content=png(picture(seed)), headers=PNG, params=params).raise_for_status()
    found: str = answer.json()["predictions"][0]["id"]
    return found


def say(client: httpx.Client, *labels: dict[str, Any]) -> httpx.Response:
    """Send labels."""
    return client.post("/v1/labels", json={"labels": list(labels)})


def told(answer: httpx.Response) -> str:
    """The message of a refusal."""
    found: str = answer.json()["error"]["message"]
    return found


@pytest.fixture(scope="module")
def remembering(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a server that remembers, for tests that do not mind what others left."""
    store = tmp_path_factory.mktemp("store")
    with running(make_settings(tiny_bundle, store, remember=1000, max_images=4, max_image_bytes=20_000)) as one:
        yield one


def test_without_the_setting_no_answer_has_an_id(client: httpx.Client) -> None:
    """And nothing is kept; labels of images are."""
    answer = client.post("/v1/predict", content=png(picture()), headers=PNG).json()

    assert "id" not in answer["predictions"][0]
    assert say(client, {"image": text(png(picture(77))), "class": "oak"}).status_code == 200


@pytest.mark.parametrize("way", ["raw", "parameters", "form", "json", "features", "v2 pixels", "v2 features"])
def test_every_way_of_asking_gets_ids(remembering: httpx.Client, way: str) -> None:
    """One an image, by which the answer is found with what it said."""
    image, feature = png(picture(3)), expected_features(picture(3)[None])
    if way in {"raw", "parameters"}:
        params = {"ref": "my tree ✓"} if way == "parameters" else {}
        answer = remembering.post("/v1/predict", content=image, headers=PNG, params=params)
    elif way == "form":
        answer = remembering.post("/v1/predict", files=[("image", image), ("image", png(picture(4)))])
    elif way == "json":
        answer = remembering.post("/v1/predict", json={"images": [text(image)]})
    elif way == "features":
        answer = remembering.post("/v1/predict", json={"features": feature.tolist()})
    else:
        pixels = {
            "name": "image",
            "shape": [1, SIDE, SIDE, 3],
            "datatype": "UINT8",
            "data": picture(3).ravel().tolist(),
        }
        row = {"name": "features", "shape": [1, 4], "datatype": "FP32", "data": feature.ravel().tolist()}
        model = "tiny" if way == "v2 pixels" else "tiny-features"
        answer = remembering.post(
            f"/v2/models/{model}/infer",
            json={
                "inputs": [pixels if model == "tiny" else row],
                "outputs": [{"name": "logits"}],
                "parameters": {"ref": "my tree ✓"},
            },
        )
    made = answer.raise_for_status().json()
    if way.startswith("v2"):
        ids = made["parameters"]["answer_ids"].split(",")
    else:
        ids = [one["id"] for one in made["predictions"]]
    found = remembering.get(f"/v1/answers/{ids[0]}").raise_for_status().json()

    assert len(set(ids)) == len(ids) == (2 if way == "form" else 1)
    assert found["kind"] == ("feature" if "features" in way else "image")
    assert found["ref"] == ("my tree ✓" if way == "parameters" or way.startswith("v2") else "")
    assert found["head"]["version"] == 1
    assert [one["class"] for one in found["classes"]] == sorted(
        CLASSES, key=lambda name: -next(one["probability"] for one in found["classes"] if one["class"] == name)
    )
    assert say(remembering, {"answer": ids[0], "class": "oak"}).status_code == 200


def test_features_alone_are_no_answer(remembering: httpx.Client) -> None:
    """Neither of `/v1/features` nor of an output `feature`."""
    tensor = {"name": "image", "shape": [1, SIDE, SIDE, 3], "datatype": "UINT8", "data": picture(3).ravel().tolist()}
    answer = remembering.post(
        "/v2/models/tiny/infer", json={"inputs": [tensor], "outputs": [{"name": "feature"}]}
    ).json()

    assert "parameters" not in answer


def test_three_ways_to_label_and_one_example_of_one_image(serve: Serve) -> None:
    """An answer and its image are one thing; a feature is another."""
    image, feature = png(picture(1)), expected_features(picture(1)[None])[0].tolist()
    with serve(remember=10) as client:
        answer = asked(client, 1)
        made = say(
            client,
            {"answer": answer, "class": "elm", "by": "ann"}, {"image": text(image), "class": 0, "verified": True},
            {"feature": feature, "class": "名前" * 30},
        ).json()  # fmt: skip
        first, second, third = made["labels"]
        assert [one["change"] for one in made["labels"]] == ["new", "changed", "new"]
        assert first["example"] == second["example"] != third["example"]
        assert made["new_classes"] == ["名前" * 30]
        shown = client.get(f"/v1/examples/{first['example']}").json()
        assert (shown["class"], shown["verified"], shown["by"]) == ("oak", True, "")
        assert [(one["class"], one["source"][:6]) for one in shown["history"]] == [("elm", "answer"), ("oak", "image:")]
        assert client.get(f"/v1/answers/{answer}").json()["example"]["class"] == "oak"
        again = say(client, {"image": text(image), "class": "oak", "verified": True}).json()
        assert again["labels"][0]["change"] == "same"


def test_examples_are_listed_by_filters_and_pages(serve: Serve) -> None:
    """Those labelled last first."""
    with serve() as client:
        for seed in range(6):
            label = {"feature": [seed, 1, 2, 3], "class": CLASSES[seed % 2], "by": "ann" if seed < 3 else "bob"}
            say(client, label | {"verified": seed % 3 == 0}).raise_for_status()
        (whole,) = [client.get("/v1/examples").json()["examples"]]
        assert [one["at"] for one in whole] == sorted((one["at"] for one in whole), reverse=True)

        def listed(**params: Any) -> list[str]:
            answer = client.get("/v1/examples", params=params).raise_for_status().json()
            return [one["id"] for one in answer["examples"]]

        for name, key, value in (("class", "class", "oak"), ("by", "by", "bob"), ("verified", "verified", True)):
            assert listed(**{name: value}) == [one["id"] for one in whole if one[key] == value]
        assert (
            listed(since=whole[2]["at"], verified=False)[:1] == [one["id"] for one in whole if not one["verified"]][:1]
        )
        assert listed(since="2999-01-01T00:00:00") == []
        for limit in (1, 4, 6):
            found, params = [], {"limit": limit}
            while True:
                page = client.get("/v1/examples", params=params).json()
                found += page["examples"]
                if page["next"] is None:
                    break
                params = {"limit": limit, "after": page["next"]}
            assert found == whole
        assert listed(after=whole[1]["id"]) == [one["id"] for one in whole[2:]]
        for wrong in ({"after": "x"}, {"limit": 0}, {"since": "yesterday"}, {"since": "0.5"}, {"verified": "perhaps"}):
            refusal = client.get("/v1/examples", params=wrong)
            assert refusal.status_code == 422
            assert next(iter(wrong)) in told(refusal)


def test_two_servers_on_one_store(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """A label for an answer that the other one has just given; an example of one is the other's."""
    with ExitStack() as stack:
        one, other = (
            stack.enter_context(running(make_settings(tiny_bundle, tmp_path, remember=100, refit=refit)))
            for refit in ("here", "elsewhere")
        )
        answer = asked(one)
        made = say(other, {"answer": answer, "class": "oak"}).raise_for_status().json()
        (shown,) = one.get("/v1/examples").json()["examples"]
        assert shown["id"] == made["labels"][0]["example"]
        erased = one.delete(f"/v1/answers/{answer}").raise_for_status().json()
        assert erased == {"answer": answer, "examples": [shown["id"]], "heads": []}
        assert other.get("/v1/examples").json()["examples"] == []
        assert say(other, {"answer": answer, "class": "oak"}).status_code == 404


@pytest.mark.parametrize("flushed", [True, False])
@pytest.mark.parametrize("labelled", [True, False])
def test_nothing_is_left_of_what_is_erased(serve: Serve, tmp_path: Path, flushed: bool, labelled: bool) -> None:
    """Not in the store's folder, in any form: feature as float16 or float32, thumbnail, name."""
    half, single = (expected_features(picture(5)[None])[0].astype(kind).tobytes() for kind in (np.float16, np.float32))
    with serve(remember=10, remember_images=True) as client:
        answer, other = asked(client, 5, ref="a person"), asked(client, 6)
        if flushed:
            thumbnail = base64.b64decode(client.get(f"/v1/answers/{answer}").json()["thumbnail"])
            assert holding(tmp_path / "store", half)
            assert holding(tmp_path / "store", thumbnail)
        if labelled:
            label = {"class": "oak", "by": "somebody", "ref": "a person"}
            say(client, {"answer": answer, **label}, {"image": text(png(picture(5))), **label}).raise_for_status()
        erased = client.delete(f"/v1/answers/{answer}").raise_for_status().json()
        assert len(erased["examples"]) == labelled
        for _ in range(2):
            assert client.delete(f"/v1/answers/{answer}").status_code == 404
        assert client.get(f"/v1/answers/{other}").status_code == 200
    words = [half, single, b"a person", b"somebody", *([thumbnail] if flushed else [])]
    assert [word for word in words if holding(tmp_path / "store", word)] == []


def test_an_example_is_erased_without_its_answer(serve: Serve, tmp_path: Path) -> None:
    """And may be said again."""
    with serve(remember=10) as client:
        answer = asked(client)
        example = say(client, {"answer": answer, "class": "oak"}).json()["labels"][0]["example"]
        assert client.delete(f"/v1/examples/{example}").json() == {"answer": None, "examples": [example], "heads": []}
        assert client.delete(f"/v1/examples/{example}").status_code == 404
        assert client.get(f"/v1/examples/{example}").status_code == 404
        assert say(client, {"answer": answer, "class": "oak"}).json()["labels"][0]["change"] == "new"


def test_an_erasure_names_the_heads_that_were_fitted_with_it(serve: Serve, tmp_path: Path) -> None:
    """By what their refit noted."""
    with serve(remember=10) as client:
        answers = [asked(client, seed) for seed in range(2)]
        made = say(client, *({"answer": one, "class": "oak"} for one in answers)).json()
        ids = [one["example"] for one in made["labels"]]
        folder = tmp_path / "store"
        record = json.loads((folder / "heads" / "000001" / "head.json").read_text())
        for version, noted in ((2, ids[:1]), (3, ids[1:]), (4, ids)):
            own = record | {"version": version, "lineage": {"refit": f"r{version}"}}
            for name, content in (
                (f"heads/{version:06d}/head.json", own), (f"refits/r{version}/examples.json", {"ids": noted}),
            ):  # fmt: skip
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text(json.dumps(content))
        assert client.delete(f"/v1/answers/{answers[0]}").json()["heads"] == [2, 4]
        assert client.delete(f"/v1/examples/{ids[1]}").json()["heads"] == [3, 4]


ONE_IMAGE = text(png(picture()))
REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({"class": "oak"}, 422, "label 2: expected one of answer, image and feature, got none"),
    ({"class": "oak", "answer": "a", "image": ONE_IMAGE}, 422, "label 2: expected one of .* got answer and image"),
    ({"class": "oak", "answer": "x"}, 404, "there is no answer 'x'"),
    ({"class": "oak", "answer": answer_ids.make(10**12)}, 410, "is not kept any more .*: send the image"),
    ({"class": "oak", "image": "?"}, 422, "label 2: its image is not base64"),
    ({"class": "oak", "image": ""}, 422, "label 2: its image is empty"),
    ({"class": "oak", "image": text(b"junk")}, 422, "label 2: not a JPEG, PNG or WebP image"),
    ({"class": "oak", "image": text(b"0" * 20_001)}, 413, "label 2: its image has 20001 bytes; the limit is 20000"),
    ({"class": "oak", "feature": [1, 2, 3]}, 422, "label 2: its feature has 3 numbers; expected 4"),
    ({"class": "oak", "feature": [1, 2, 3, 1e39]}, 422, "label 2: its feature is not finite"),
    ({"class": "oak", "feature": [1, 2, 3, "4"]}, 422, "labels.1.feature.3"),
    ({"class": "", "image": ONE_IMAGE}, 422, "labels.1.class"),
    ({"class": "o\nak", "image": ONE_IMAGE}, 422, "has a control character"),
    ({"class": "o" * 1001, "image": ONE_IMAGE}, 422, "labels.1.class"),
    ({"class": 3, "image": ONE_IMAGE}, 422, "label 2: class 3: expected 0 … 2, or a class name"),
    ({"class": -1, "image": ONE_IMAGE}, 422, "label 2: class -1: expected 0 … 2"),
    ({"class": None, "image": ONE_IMAGE}, 422, "labels.1.class"),
    ({"class": True, "image": ONE_IMAGE}, 422, "labels.1.class"),
    ({"image": ONE_IMAGE}, 422, "labels.1.class"),
    ({"class": "oak", "image": ONE_IMAGE, "by": "o\u202eak"}, 422, "has a bidi control"),
    ({"class": "oak", "image": ONE_IMAGE, "ref": "r" * 201}, 422, "labels.1.ref"),
    ({"class": "oak", "image": ONE_IMAGE, "verified": "yes"}, 422, "labels.1.verified"),
    ({"class": "oak", "image": ONE_IMAGE, "labels": []}, 422, "labels.1.labels"),
]


@pytest.mark.parametrize(("label", "status", "words"), REFUSED)
def test_what_is_no_label_is_refused(remembering: httpx.Client, label: dict[str, Any], status: int, words: str) -> None:
    """With one sentence that says which label it is; none of the request is kept."""
    before = remembering.get("/v1/examples").json()
    answer = say(remembering, {"feature": [9, 9, 9, 9], "class": "elm"}, label)

    assert answer.status_code == status, answer.text
    assert re.search(words, told(answer)), told(answer)
    assert remembering.get("/v1/examples").json() == before


def test_one_of_many_images_that_does_not_decode_is_named(remembering: httpx.Client) -> None:
    """Also where they are computed in several parts."""
    labels = [{"image": text(png(picture(seed))), "class": "oak"} for seed in range(11)]
    labels[9]["image"] = text(png(picture(9))[:45])
    answer = say(remembering, *labels)

    assert answer.status_code == 422
    assert told(answer).startswith("label 10: ")
    del labels[9]
    assert say(remembering, *labels).status_code == 200


def test_a_request_has_a_limit_of_labels(remembering: httpx.Client) -> None:
    """10,000 are taken, one more is refused, none is incomplete."""
    labels = [{"feature": [number, 0, 0, 0], "class": "oak"} for number in range(MOST + 1)]
    refused = say(remembering, *labels)
    assert (refused.status_code, told(refused)) == (
        413, "the request has 10001 labels; the limit is 10000: send them in several requests",
    )  # fmt: skip
    taken = say(remembering, *labels[:-1])
    assert taken.status_code == 200
    assert len(taken.json()["labels"]) == MOST
    for body in ("", "[]", "{}", '{"labels": []}', '{"labels": 1}', '{"labels": [1]}'):
        answer = remembering.post("/v1/labels", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 422, body


@settings(max_examples=30)
@given(ref=st.text(max_size=220))
def test_a_name_of_the_senders_own_is_printable_and_short(remembering: httpx.Client, ref: str) -> None:
    """Else it is refused; what is taken is remembered."""
    if any(0xD800 <= ord(letter) <= 0xDFFF for letter in ref):
        return
    answer = remembering.post("/v1/predict", content=png(picture()), headers=PNG, params={"ref": ref})
    good = len(ref) <= 200 and printable.defect(ref) is None

    assert answer.status_code == (200 if good else 422)


def test_a_bundle_of_features_takes_labels_of_features(tmp_path: Path) -> None:
    """And refuses images in one sentence."""
    bundle = write_bundle_of_features(tmp_path / "bundle")
    with running(make_settings(bundle, tmp_path / "store", remember=10)) as client:
        answer = client.post("/v1/predict", json={"features": [1, 2, 3, 4]}).json()["predictions"][0]["id"]
        assert (
            say(client, {"answer": answer, "class": "oak"}, {"feature": [1, 2, 3, 4], "class": "elm"}).json()["labels"][
                1
            ]["change"]
            == "changed"
        )
        refusal = say(client, {"image": ONE_IMAGE, "class": "oak"})
        assert refusal.status_code == 422
        assert "this server takes features only" in told(refusal)


def test_tenants_do_not_touch_each_other(serve: Serve, tmp_path: Path) -> None:
    """Nor see each other; admin may everything; what is verified takes another scope than what is not."""
    file = tmp_path / "keys.json"
    secret = {
        name: keys.add(file, name, scopes)
        for name, scopes in (("a", ("predict",)), ("b", ("predict", "refit")), ("root", ("admin",)))
    }
    with serve(keys=file, remember=10) as client:

        def as_(name: str) -> dict[str, str]:
            return {"authorization": f"Bearer {secret[name]}"}

        def send(name: str, **label: Any) -> httpx.Response:
            return client.post("/v1/labels", json={"labels": [label]}, headers=as_(name))

        asking = client.post("/v1/predict", content=png(picture()), headers=PNG | as_("a")).json()
        answer = asking["predictions"][0]["id"]
        refusal = send("b", **{"answer": answer, "class": "oak"})
        assert refusal.status_code == 403
        assert told(refusal).startswith(f"answer {answer} belongs to a, not to the key 'b'")
        for method, path in (("GET", f"/v1/answers/{answer}"), ("DELETE", f"/v1/answers/{answer}")):
            assert client.request(method, path, headers=as_("b")).status_code == 403
        example = send("a", **{"answer": answer, "class": "oak"}).json()["labels"][0]["example"]
        for method in ("GET", "DELETE"):
            assert client.request(method, f"/v1/examples/{example}", headers=as_("b")).status_code == 403
        assert send("b", **{"image": ONE_IMAGE, "class": "elm"}).json()["labels"][0]["example"] != example

        def listed(name: str) -> list[Any]:
            found = client.get("/v1/examples", headers=as_(name)).raise_for_status().json()["examples"]
            return sorted((one["owner"], one["by"], one["class"]) for one in found)

        assert listed("a") == [("a", "a", "oak")]
        assert listed("b") == [("b", "b", "elm")]
        assert listed("root") == [("a", "a", "oak"), ("b", "b", "elm")]
        other = client.post("/v1/predict", content=png(picture(2)), headers=PNG | as_("a")).json()
        queued = [client.get("/v1/queue", headers=as_(name)).json()["answers"] for name in ("a", "b", "root")]
        assert [[one["id"] for one in some] for some in queued] == [[other["predictions"][0]["id"]], [], [
            other["predictions"][0]["id"]
        ]]  # fmt: skip
        assert send("a", **{"answer": answer, "class": "oak", "verified": True}).status_code == 403
        assert send("root", **{"answer": answer, "class": "elm", "verified": True}).json()["labels"][0] == {
            "example": example, "change": "changed",
        }  # fmt: skip
        refusal = send("a", **{"answer": answer, "class": "oak"})
        assert refusal.status_code == 403
        assert "is verified; replacing it takes the scope refit" in told(refusal)
        assert client.delete(f"/v1/answers/{answer}", headers=as_("a")).json()["examples"] == [example]
        assert listed("root") == [("b", "b", "elm")]


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("class", "", "class: expected at least 1 characters, got ''"),
        ("class", "x" * 1001, "class: expected at most 1000 characters"),
        ("class", None, "class: Input should be a valid string, got None"),
        ("class", "a\nb", "class: has a control character, U+000A; expected printable text"),
        ("by", "x" * 201, "by: String should have at most 200 characters"),
        ("ref", "x" * 201, "ref: String should have at most 200 characters"),
    ],
)
def test_a_refusal_names_the_field_and_nothing_of_the_code(
    remembering: httpx.Client, field: str, value: Any, told: str
) -> None:
    """The field as it is written, and its length in characters."""
    answer = say(remembering, {"image": text(png(picture())), "class": "oak", field: value})

    assert answer.status_code == 422
    assert answer.json()["error"]["message"].startswith(f"JSON body: labels.0.{told}")
