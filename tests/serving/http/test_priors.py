"""Priors, lists of classes and confidence, asked of a real server in every way that it is asked."""

import asyncio
import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from running import Serve, make_settings, running
from tiny import CLASSES, picture, png, tiny_head, write_bundle_of_features

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.head import softmax
from breadcrumbs.models.safetensor import encode
from breadcrumbs.serving.client.client import Client, ServerError
from breadcrumbs.serving.state import heads, keys
from breadcrumbs.serving.state.heads import Lineage
from breadcrumbs.serving.state.store import Store

FEATURE = [1.0, 2.0, -1.0, 0.5]
LOGITS = tiny_head().logits(np.array([FEATURE], np.float32))[0]
LONG = tuple(f"Ünusually long name of a species {place:027d}" for place in range(10_000))
TREE = "class,kind,all\noak,broadleaf,tree\nelm,broadleaf,tree\nWollemia nobilis,conifer,tree\n"
INFER = "/v2/models/tiny-features/infer"


def ask(client: httpx.Client, **params: Any) -> httpx.Response:
    return client.post("/v1/predict", params=params, json={"features": FEATURE})


def infer(client: httpx.Client, **parameters: Any) -> httpx.Response:
    tensor = {"name": "features", "shape": [1, 4], "datatype": "FP32", "data": FEATURE}
    return client.post(INFER, json={"inputs": [tensor], "parameters": parameters})


def probabilities(answer: httpx.Response) -> dict[str, float]:
    assert answer.status_code == 200, answer.text
    return {one["class"]: one["probability"] for one in answer.json()["predictions"][0]["classes"]}


def inferred(answer: httpx.Response) -> dict[str, float]:
    assert answer.status_code == 200, answer.text
    outputs = {one["name"]: one["data"] for one in answer.json()["outputs"]}
    assert all(np.isfinite(values).all() for values in outputs.values())
    pairs = zip(CLASSES, outputs["probabilities"], strict=True)
    return {name: probability for name, probability in pairs if probability}


def expected(weights: dict[str, float]) -> dict[str, float]:
    powers = {name: weights[name] * float(np.exp(LOGITS[CLASSES.index(name)])) for name in weights if weights[name]}
    return {name: pytest.approx(power / sum(powers.values()), abs=1e-5) for name, power in powers.items()}


@pytest.fixture(scope="module")
def treed(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny bundle with a taxonomy."""
    files = {name: (tiny_bundle.folder / name).read_bytes() for name in tiny_bundle.manifest.files}
    folder = tmp_path_factory.mktemp("tree") / "bundle"
    return bundles.write(folder, tiny_bundle.manifest, files | {"taxonomy.csv": TREE.encode()})


@pytest.fixture(scope="module")
def tree(treed: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server of it."""
    with running(make_settings(treed, tmp_path_factory.mktemp("store"))) as client:
        yield client


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None)
@given(st.dictionaries(st.sampled_from(CLASSES), st.floats(0.01, 100), min_size=1))
def test_a_stored_prior_is_a_factor_of_every_answer(client: httpx.Client, weights: dict[str, float]) -> None:
    """Of `/v1` and `/v2`; replaced, it counts at once."""
    put = client.put("/v1/priors/drawn", json={"weights": weights})

    assert put.status_code in {200, 201}, put.text
    assert probabilities(ask(client, prior="drawn")) == expected(weights)
    assert inferred(infer(client, prior="drawn")) == expected(weights)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None)
@given(st.sets(st.sampled_from(CLASSES), min_size=1))
def test_classes_are_the_only_ones_in_every_answer(client: httpx.Client, names: set[str]) -> None:
    """Repeated, with commas, and as JSON in `/v2`."""
    wanted = expected(dict.fromkeys(names, 1.0))

    assert probabilities(ask(client, classes=list(names))) == wanted
    assert probabilities(ask(client, classes=",".join(names))) == wanted
    assert inferred(infer(client, classes=",".join(names))) == wanted
    assert inferred(infer(client, classes=json.dumps(list(names)))) == wanted


def test_a_prior_and_classes_count_together(client: httpx.Client) -> None:
    """And with images, a named head and fewer classes than there are."""
    client.put("/v1/priors/both", json={"weights": {"oak": 1, "elm": 3}}).raise_for_status()
    asked: dict[str, Any] = {"prior": "both", "classes": ["oak", "Wollemia nobilis"], "head": "1", "top_k": 1}

    assert probabilities(ask(client, **asked)) == {"oak": 1.0}
    image = client.post("/v1/predict", params=asked, content=png(picture()), headers={"content-type": "image/png"})
    assert probabilities(image) == {"oak": 1.0}


@pytest.mark.parametrize(
    ("params", "status", "words"),
    [
        ({"prior": "bavria"}, 404, "there is no prior 'bavria'; did you mean 'bavaria'?"),
        ({"classes": "oak,elf"}, 422, "class 'elf': not among the 3 of the head; did you mean 'elm'?"),
        ({"classes": ""}, 422, "classes: expected names of classes, got none"),
        ({"classes": "Wollemia nobilis", "prior": "bavaria"}, 422, "prior and classes have no class in common"),
        ({"confidence": 0.5}, 422, "the bundle tiny has none; leave it out"),
        ({"prior": "late"}, 409, "prior late, head 1: the prior leaves none of the head's 3 classes"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_sentence(
    client: httpx.Client, params: dict[str, Any], status: int, words: str
) -> None:
    """By both protocols, in the same words."""
    client.put("/v1/priors/bavaria", json={"classes": ["oak"]}).raise_for_status()
    client.put("/v1/priors/late?allow_unknown=true", json={"classes": ["coming"]}).raise_for_status()
    first, second = ask(client, **params), infer(client, **params)

    assert (first.status_code, second.status_code) == (status, 400 if status == 422 else status)
    if params != {"classes": ""}:  # of which /v2 says that it is no name
        assert words in first.json()["error"]["message"]
        assert words in second.json()["error"]


def every_form() -> dict[str, dict[str, Any]]:
    """A request of each form that `/v1/predict` takes."""
    feature = np.array([FEATURE], np.float32)
    file = io.BytesIO()
    np.save(file, feature)
    octets = {"content-type": "application/octet-stream"}
    return {
        "image": {"content": png(picture()), "headers": {"content-type": "image/png"}},
        "form": {"files": [("image", png(picture()))]},
        "images in JSON": {"json": {"images": [base64.b64encode(png(picture())).decode()]}},
        "features in JSON": {"json": {"features": FEATURE}},
        "npy": {"content": file.getvalue(), "headers": {"content-type": "application/x-npy"}},
        "safetensors": {"content": encode({"features": feature}, {}), "headers": octets},
    }


@pytest.mark.parametrize("form", every_form())
def test_every_form_is_refused_and_answered_alike(client: httpx.Client, form: str) -> None:
    """Whatever is sent, a prior, classes and a confidence that cannot be are the same sentence."""
    client.put("/v1/priors/bavaria", json={"classes": ["oak"]}).raise_for_status()

    def asked(**params: Any) -> httpx.Response:
        return client.post("/v1/predict", params=params, **every_form()[form])

    assert probabilities(asked(prior="bavaria")) == {"oak": 1.0}
    for params, status, words in (
        ({"prior": "bavria"}, 404, "did you mean 'bavaria'?"),
        ({"classes": "oak,elf"}, 422, "did you mean 'elm'?"),
        ({"classes": "elm", "prior": "bavaria"}, 422, "no class in common"),
        ({"confidence": 0.5}, 422, "leave it out"),
        ({"known": True}, 409, "carries no points"),
        ({"explain": 21}, 422, "explain"),
    ):
        refused = asked(**params)
        assert (refused.status_code, words in refused.json()["error"]["message"]) == (status, True), refused.text


@pytest.mark.parametrize("name", ["../heads", "A", "a" * 65, "ä"])
def test_a_name_that_cannot_be_a_priors_is_refused(client: httpx.Client, name: str) -> None:
    """In the query, in the path and as a parameter of `/v2`."""
    assert ask(client, prior=name).status_code == 422
    assert client.get(f"/v1/priors/{quote(name, safe='')}").status_code in {404, 422}
    assert infer(client, prior=name).status_code == 404


@pytest.mark.parametrize("confidence", [0, 1.5, "nan", True, "high"])
def test_a_confidence_is_a_probability(tree: httpx.Client, confidence: Any) -> None:
    """Over 0, and 1 at most, for both protocols."""
    assert infer(tree, confidence=confidence).status_code == 400
    if confidence is not True:
        assert ask(tree, confidence=confidence).status_code == 422


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"weights": {"oak": 0, "elm": 0}}', "all weights of the prior are 0"),
        (b'{"weights": {}}', "at least one class, got none"),
        (b'{"classes": []}', "at least one class, got none"),
        (b'{"weights": {"oak": -1}}', "the weight of 'oak' is -1.0"),
        (b'{"weights": {"oak": NaN}}', "the weight of 'oak' is nan"),
        (b'{"weights": {"oak": 1e999}}', "the weight of 'oak' is inf"),
        (b'{"weights": {"oak": "x"}}', "valid number"),
        (b'{"classes": ["oka"]}', "class 'oka': not among the 3 of the head; did you mean 'oak'?"),
        (b"{}", "expected either weights or classes, got neither"),
        (b'{"classes": ["oak"], "weights": {"oak": 1}}', "got both"),
        (b'{"names": ["oak"]}', "names"),
        (b"[]", "object"),
        (b"", "JSON"),
    ],
)
def test_a_body_that_is_no_prior_changes_nothing(client: httpx.Client, body: bytes, words: str) -> None:
    """One sentence, and the prior of that name goes on."""
    client.put("/v1/priors/kept", json={"weights": {"oak": 2}}).raise_for_status()

    answer = client.put("/v1/priors/kept", content=body)

    assert answer.status_code == 422
    assert words in answer.json()["error"]["message"]
    assert client.get("/v1/priors/kept").json()["weights"] == {"oak": 2.0}


def test_unknown_names_may_be_stored_and_are_told(client: httpx.Client) -> None:
    """They weigh nothing until a head has them."""
    body = {"weights": {"oak": 1, "coming": 3}}
    client.put("/v1/priors/later?allow_unknown=true", json=body).raise_for_status()

    assert client.get("/v1/priors/later").json()["unknown"] == ["coming"]
    assert probabilities(ask(client, prior="later")) == {"oak": 1.0}


def test_priors_are_listed_shown_and_deleted_by_the_client(serve: Serve) -> None:
    """Every method of it; what is deleted is not there for the next request."""
    with serve() as http, Client(str(http.base_url)) as client:
        made = client.put_prior("some", classes=["oak", "elm"])
        client.put_prior("more", {"oak": 1, "elm": 3})
        assert client.prior("some") == made
        assert [(one.name, one.kind, one.count) for one in client.priors()] == [
            ("more", "weights", 2), ("some", "classes", 2),
        ]  # fmt: skip
        for found in (
            client.predict_features(FEATURE, prior="more", classes=["oak", "elm"]),
            client.predict(png(picture()), prior="more"),
        ):
            assert {one.name for one in found.predictions[0].classes} == {"oak", "elm"}
        client.delete_prior("more")
        with pytest.raises(ServerError, match="there is no prior 'more'"):
            client.predict_features(FEATURE, prior="more")
        with pytest.raises(ServerError, match="there is no prior 'more'"):
            client.delete_prior("more")


@pytest.mark.parametrize("scope", ["predict", "refit", "promote"])
def test_a_key_reads_priors_and_one_that_promotes_writes_them(serve: Serve, tmp_path: Any, scope: Any) -> None:
    """As it is with heads."""
    path = tmp_path / "keys"
    secret = keys.add(path, "ann", tuple({"predict", scope}))
    with serve(keys=path) as client:
        client.headers["authorization"] = f"Bearer {secret}"
        put = client.put("/v1/priors/a", json={"classes": ["oak"]})
        assert put.status_code == (201 if scope == "promote" else 403)
        assert client.get("/v1/priors").status_code == 200
        assert client.delete("/v1/priors/a").status_code == (204 if scope == "promote" else 403)


def test_the_deepest_sure_node_is_named(tree: httpx.Client) -> None:
    """By the server's confidence or the request's, with a prior or without; `/v2` names it where it is asked."""
    chances = dict(zip(CLASSES, softmax(LOGITS), strict=True))
    best = max(chances, key=lambda name: chances[name])
    kind = {"oak": "broadleaf", "elm": "broadleaf", "Wollemia nobilis": "conifer"}
    nodes = {"class": best, "kind": kind[best], "all": "tree"}
    sums = {
        "class": chances[best], "kind": sum(chances[name] for name in kind if kind[name] == kind[best]), "all": 1.0
    }  # fmt: skip

    for confidence in (None, 0.01, *(min(1.0, float(one) - 1e-6) for one in sums.values()), 1.0):
        rank = next(one for one in sums if sums[one] >= (0.9 if confidence is None else confidence) - 1e-7)
        wanted = {"name": nodes[rank], "rank": rank, "probability": pytest.approx(sums[rank], abs=1e-5)}
        params = {} if confidence is None else {"confidence": confidence}
        assert ask(tree, **params).json()["predictions"][0]["node"] == wanted
        if confidence is not None:
            answer = infer(tree, **params).json()
            assert json.loads(answer["parameters"]["node"]) == [wanted]
    assert ask(tree, classes=["oak"]).json()["predictions"][0]["node"]["rank"] == "class"
    assert "parameters" not in infer(tree).json()
    with Client(str(tree.base_url)) as client:
        found = client.predict_features([FEATURE, FEATURE], confidence=1.0).predictions
        assert [one.node.name for one in found if one.node] == ["tree", "tree"]


def test_what_a_refit_renamed_is_followed(treed: Bundle, tmp_path: Path) -> None:
    """A stored prior and the taxonomy have the old name; the live head, the new one and a class that was added."""
    store = Store.open(tmp_path / "store")
    head = tiny_head(1, ("Eiche", "elm", "Wollemia nobilis", "new"))
    with running(make_settings(treed, tmp_path / "store")) as client:
        client.put("/v1/priors/oaks", json={"classes": ["oak"]}).raise_for_status()
        lineage = Lineage(parent=1, spec={"classes": {"oak": "Eiche"}, "aliases": {}})
        record = asyncio.run(heads.add(store, head, treed, lineage, {}))
        assert list(probabilities(ask(client, prior="oaks"))) == ["oak"]

        client.post(f"/v1/heads/{record.version}/activate").raise_for_status()

        assert list(probabilities(ask(client, prior="oaks"))) == ["Eiche"]
        assert list(probabilities(ask(client, prior="oaks", head="1"))) == ["oak"]
        assert client.get("/v1/priors/oaks").json()["unknown"] == []
        for classes, node in (
            (["Eiche", "elm"], "broadleaf"), (["Eiche", "Wollemia nobilis"], "tree"), (["new"], "new"),
        ):  # fmt: skip
            found = ask(client, classes=classes, confidence=1.0).json()["predictions"][0]["node"]
            assert found["name"] == node
        assert ask(client, classes=["Eiche", "new"], confidence=1.0).json()["predictions"][0]["node"] is None
        refused = ask(client, classes=["oak"]).json()["error"]["message"]
        assert refused.startswith("class 'oak': not among the 4 of the head")


def strict(answer: httpx.Response) -> Any:
    """The JSON of an answer; NaN and infinities are none."""
    assert answer.status_code == 200, answer.text

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} in {answer.text}")

    return json.loads(answer.text, parse_constant=refuse)


@pytest.mark.parametrize("protocol", ["v1", "v2"])
@pytest.mark.parametrize(
    "names", [["oak"], ["elm", "Wollemia nobilis"], list(CLASSES)], ids=["one", "two", "all"]
)  # fmt: skip
@pytest.mark.parametrize("word", ["classes", "prior"])
def test_an_answer_with_a_prior_is_remembered_queued_and_labelled(
    treed: Bundle, tmp_path: Path, protocol: str, names: list[str], word: str
) -> None:
    """With the classes that could be; a label may name one that could not, and the answer leaves the queue."""
    with running(make_settings(treed, tmp_path / "store", remember=10)) as client:
        client.put("/v1/priors/some", json={"classes": names}).raise_for_status()
        if protocol == "v1":
            value: Any = names if word == "classes" else "some"
            (made,) = strict(ask(client, confidence=0.5, ref="mine", **{word: value}))["predictions"]
            answer, node = made["id"], made["node"]
        else:
            value = json.dumps(names) if word == "classes" else "some"
            parameters = strict(infer(client, confidence=0.5, **{word: value}))["parameters"]
            answer, (node,) = parameters["answer_ids"], json.loads(parameters["node"])
        kept = strict(client.get(f"/v1/answers/{answer}"))
        assert {one["class"]: one["probability"] for one in kept["classes"]} == expected(dict.fromkeys(names, 1.0))
        assert (kept["ref"], node["probability"] >= 0.5) == ("mine" if protocol == "v1" else "", True)
        for strategy in ("rare", "uncertain", "far", "mixed"):
            (queued,) = strict(client.get("/v1/queue", params={"strategy": strategy}))["answers"]
            assert (queued["id"], queued["classes"]) == (answer, kept["classes"])
        label = {"answer": answer, "class": "Wollemia nobilis", "verified": True}
        assert strict(client.post("/v1/labels", json={"labels": [label]}))["new_classes"] == []
        assert strict(client.get("/v1/queue"))["answers"] == []
        assert strict(client.get(f"/v1/answers/{answer}"))["example"]["class"] == "Wollemia nobilis"


def test_without_a_taxonomy_an_answer_is_as_it_was(client: httpx.Client) -> None:
    """No member is added."""
    assert ask(client).json()["predictions"][0].keys() == {"classes"}


def test_more_classes_than_can_be_are_not_asked_for(client: httpx.Client) -> None:
    """The classification extension has a fixed number of them; `/v1` lists what there is."""
    tensor = {"name": "features", "shape": [1, 4], "datatype": "FP32", "data": FEATURE}
    outputs = [{"name": "probabilities", "parameters": {"classification": 2}}]
    body = {"inputs": [tensor], "outputs": outputs, "parameters": {"classes": "oak"}}

    answer = client.post(INFER, json=body)

    assert answer.status_code == 400
    assert answer.json()["error"].endswith("classification asks for 2 classes; there are 1")


def test_ten_thousand_classes(tmp_path: Any) -> None:
    """A prior of all of them, and an unknown name among them."""
    bundle = write_bundle_of_features(tmp_path / "bundle", 4, LONG)
    with running(make_settings(bundle, tmp_path / "store")) as client:
        weights = {name: 1.0 + (place == 17) * 1e9 for place, name in enumerate(LONG)}
        client.put("/v1/priors/all", json={"weights": weights}).raise_for_status()

        assert next(iter(probabilities(ask(client, prior="all")))) == LONG[17]
        assert list(probabilities(ask(client, classes=[LONG[3]]))) == [LONG[3]]
        refused = client.put("/v1/priors/more", json={"weights": weights | {LONG[5] + "x": 1.0}})
        assert refused.status_code == 422
        assert "not among the 10000 of the head; did you mean" in refused.json()["error"]["message"]
