"""A head of other classes than the bundle's: asked for by name, made, served, rolled back, refitted again."""

import json
from pathlib import Path

import pytest
from refits import finish, upload
from running import Serve
from tiny import CLASSES, picture, png

OAK, ELM, WOLLEMIA = CLASSES


@pytest.mark.parametrize(
    ("mapping", "classes"),
    [
        ({OAK: "holm oak"}, ["holm oak", ELM, WOLLEMIA]),
        ({OAK: ELM}, [ELM, WOLLEMIA]),
        ({OAK: WOLLEMIA, WOLLEMIA: OAK}, [WOLLEMIA, ELM, OAK]),
        ({OAK: None}, [ELM, WOLLEMIA]),
    ],
    ids=str,
)
def test_a_head_with_edited_classes_serves_and_is_rolled_back(
    serve: Serve, mapping: dict[str, str | None], classes: list[str]
) -> None:
    """By its own names, in both protocols, counted by group; the head before has its own again."""
    image = {"content": png(picture()), "headers": {"content-type": "image/png"}}
    with serve() as client:
        job = finish(client, {"snapshots": [upload(client)], "spec": {"classes": mapping}})
        after = client.post("/v1/predict", **image).json()["predictions"][0]["classes"]
        model = client.get("/v2/models/tiny").json()["outputs"]
        metrics = client.get("/metrics").text
        back = client.post("/v1/heads/rollback", json={"reason": "no"}).status_code
        before = client.post("/v1/predict", **image).json()["predictions"][0]["classes"]
        again = finish(client, {"spec": {"activate": "always"}})["state"]

    assert job["verdict"]["activated"], job
    assert {one["index"]: one["class"] for one in after} == dict(enumerate(classes))
    assert [len(classes)] in [one["shape"][1:] for one in model]
    groups = {OAK: "many", ELM: "medium", WOLLEMIA: "few"}
    assert f'breadcrumbs_predictions_total{{group="{groups.get(after[0]["class"], "new")}",head="2"}} 1.0' in metrics
    assert (back, again) == (200, "succeeded")
    assert {one["index"]: one["class"] for one in before} == dict(enumerate(CLASSES))


def test_an_edit_of_a_name_that_the_live_head_does_not_have_is_refused(serve: Serve) -> None:
    """Before there is a job, with the names near it; that of head 1 is unknown once head 2 has another."""
    with serve() as client:
        slip = client.post("/v1/refit", json={"spec": {"classes": {"oka": None}}})
        finish(client, {"spec": {"classes": {OAK: "holm oak"}}})
        old = client.post("/v1/refit", json={"spec": {"classes": {OAK: "elm"}}})
        few = client.post("/v1/refit", json={"spec": {"classes": {ELM: None, WOLLEMIA: None}}})
        count = len(client.get("/v1/refit").json()["refits"])

    assert [answer.status_code for answer in (slip, old, few)] == [422, 422, 422]
    assert slip.json()["error"]["message"] == "classes: the live head has no class 'oka'; near it: oak"
    assert "no class 'oak'; its 3 classes have no name near it" in old.json()["error"]["message"]
    assert "1 of 3 classes would be left; expected 2 or more" in few.json()["error"]["message"]
    assert count == 1


def test_a_head_that_ignores_the_edit_is_not_stored(serve: Serve) -> None:
    """The child is not trusted: the classes must be those that were asked for."""
    with serve("ignores-edits") as client:
        job = finish(client, {"spec": {"classes": {OAK: "holm oak"}}})
        heads = client.get("/v1/heads").json()["heads"]

    assert (job["state"], len(heads)) == ("failed", 1)
    assert "those of the live head, as edited, must come first" in job["error"]["message"]


def test_a_later_refit_knows_what_old_names_became(serve: Serve, tmp_path: Path) -> None:
    """The child is told, and the head's record says so; what was asked for stays as it was asked."""
    told = tmp_path / "spec"
    with serve("copies-spec", str(told)) as client:
        finish(client, {"spec": {"classes": {OAK: "holm oak", ELM: None}, "allow_new_classes": True}})
        job = finish(client, {"spec": {"activate": "never"}})
        head = client.get("/v1/heads/3").json()

    assert json.loads(told.read_text())["aliases"] == {OAK: "holm oak", ELM: None}
    assert head["lineage"]["spec"]["aliases"] == {OAK: "holm oak", ELM: None}
    assert job["request"]["spec"]["aliases"] == {}
