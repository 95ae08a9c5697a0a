"""A refit for a deployment prior of the store, and what requests with a prior of their own are answered then."""

from typing import Any

import numpy as np
import pytest
from refits import finish, upload
from running import Serve

from breadcrumbs.models import head as heads
from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.head import LinearHead
from breadcrumbs.models.prior import Prior


def test_a_stored_prior_becomes_the_weights_of_the_spec(serve: Serve) -> None:
    """As they are when the refit runs, so that its record says what was meant; a later refit keeps them."""
    weights = {"oak": 3.0, "elm": 1.0, "Wollemia nobilis": 1.0}
    with serve() as client:
        client.put("/v1/priors/park", json={"weights": weights}).raise_for_status()
        finish(client, {"snapshots": [upload(client)], "spec": {"deployment_prior": "park"}})
        client.delete("/v1/priors/park").raise_for_status()
        finish(client, {"spec": {"seed": 1}})
        specs = [client.get(f"/v1/heads/{number}").json()["lineage"]["spec"] for number in (2, 3)]

    assert [spec["deployment_prior"] for spec in specs] == [weights, weights]


@pytest.mark.parametrize(
    ("prior", "status", "words"),
    [
        ("parc", 404, "there is no prior 'parc'; did you mean 'park'?"),
        ("list", 422, "prior list lists classes; expected a prior of weights"),
        ({"oak": -1.0}, 422, "the weight of 'oak' is -1.0"),
        ({}, 422, "deployment_prior"),
        ("No Name", 422, "deployment_prior"),
    ],
)
def test_a_prior_that_cannot_be_meant_is_refused_at_once(serve: Serve, prior: Any, status: int, words: str) -> None:
    """In a sentence, and no refit is started."""
    with serve() as client:
        client.put("/v1/priors/park", json={"weights": {"oak": 1}}).raise_for_status()
        client.put("/v1/priors/list", json={"classes": ["oak"]}).raise_for_status()
        answer = client.post("/v1/refit", json={"spec": {"deployment_prior": prior}})
        started = client.get("/v1/refit").json()["refits"]

    assert answer.status_code == status
    assert words in answer.text.replace('\\"', '"')
    assert started == []


def test_a_request_replaces_a_prior_and_a_list_keeps_it(tiny_bundle: Bundle) -> None:
    """A head with a prior of its own and one without answer alike to weights; a list leaves the odds as they are."""
    plain = tiny_bundle.head()
    own = np.log(np.array([0.7, 0.2, 0.1], np.float32))
    head = heads.from_onnx(heads.to_onnx(LinearHead(plain.weight, plain.bias + own, plain.classes, own)))
    names = list(plain.classes[:2])

    weighted = Prior(dict(zip(names, (1.0, 2.0), strict=True)))
    listed = Prior(dict.fromkeys(names, 1.0), listed=True)

    assert head.bias + weighted.log(head) == pytest.approx(plain.bias + weighted.log(plain), abs=1e-5)
    odds = np.diff((head.bias + listed.log(head))[:2])
    assert odds == pytest.approx(np.diff(head.bias[:2]), abs=1e-5)
