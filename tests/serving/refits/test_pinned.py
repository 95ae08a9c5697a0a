"""A hold-out that the operator has pinned: checked at start, given to every refit, and told."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from refits import finish
from running import Serve, make_settings
from starlette.testclient import TestClient
from tiny import tiny_snapshot

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.serving.app import create_app
from breadcrumbs.serving.refits import pinned
from breadcrumbs.serving.setting_names import with_notes


def written(path: Path, bundle: Bundle, **change: Any) -> Path:
    """A hold-out of the bundle's backbone."""
    snapshots.write(path, replace(tiny_snapshot(bundle.backbone_digest, 9), **change))
    return path


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("asks", [True, False])
def test_every_refit_is_judged_on_it(asks: bool, serve: Serve, tiny_bundle: Bundle, tmp_path: Path) -> None:
    """The child gets it beside the request's own; the verdict and the head's record say that it judged."""
    held = written(tmp_path / "held.safetensors", tiny_bundle)
    with serve("judges", str(tmp_path / "given"), gate_holdout=held) as client:
        own = client.put("/v1/snapshots", content=snapshots.to_bytes(tiny_snapshot("b" * 64, 3))).json()["sha256"]
        job = finish(client, {"holdout": own} if asks else {})
        lineage = client.get("/v1/heads/2").json()["lineage"]

    assert json.loads((tmp_path / "given").read_text()) == [sha(held), own if asks else None]
    told = f"judged on the server's pinned hold-out {sha(held)[:12]}"
    assert job["verdict"]["note"].endswith(f"{told}, not on the request's" if asks else told)
    assert (lineage["holdout"], lineage["holdout_source"]) == (sha(held), "pinned")


def test_without_one_the_request_has_its_own(serve: Serve, tmp_path: Path) -> None:
    """Nothing is said of a pinned one, and the head's record says what the report says."""
    with serve("judges", str(tmp_path / "given")) as client:
        job = finish(client)
        lineage = client.get("/v1/heads/2").json()["lineage"]

    assert json.loads((tmp_path / "given").read_text()) == [None, None]
    assert job["verdict"]["note"] == "activated: the gate says yes"
    assert (lineage["holdout"], lineage["holdout_source"]) == (None, job["report"]["holdout"]["source"])


def test_one_that_was_changed_judges_nothing(serve: Serve, tiny_bundle: Bundle, tmp_path: Path) -> None:
    """What was checked at start is what judges: a refit after a change fails, with the remedy, and no head is made."""
    held = written(tmp_path / "held.safetensors", tiny_bundle)
    with serve(gate_holdout=held) as client:
        written(held, tiny_bundle, epoch=10)
        changed = finish(client)
        held.unlink()
        gone = finish(client)
        heads = client.get("/v1/heads").json()["heads"]

    assert (changed["state"], gone["state"], len(heads)) == ("failed", "failed", 1)
    assert "has changed since the server started" in changed["error"]["message"]
    assert changed["error"]["message"].endswith("restart the server to have it checked")
    assert "held.safetensors cannot be read: No such file" in gone["error"]["message"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"backbone": "e" * 64}, "a hold-out made by backbone eeeeeeeeeeee, expected the deployed"),
        ({"labels": np.arange(12) % 4 - 1}, "3 of 12 rows of the hold-out have no label"),
        ({"classes": ("a", "b", "c")}, "no row of the hold-out is of one of the 3 classes"),
        (None, "is damaged|not a snapshot|not a safetensors file"),
    ],
)
def test_one_that_cannot_judge_stops_the_start(
    change: dict[str, Any] | None, words: str, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    """In one sentence with the file's name, and the setting that names it."""
    held = tmp_path / "held.safetensors"
    held.write_bytes(b"no snapshot") if change is None else written(held, tiny_bundle, **change)
    app = create_app(make_settings(tiny_bundle, tmp_path / "store", gate_holdout=held))

    with pytest.raises(BreadcrumbsError, match=words) as caught, TestClient(app):
        pass

    assert with_notes(caught.value).startswith("held.safetensors: ")
    assert with_notes(caught.value).endswith("set by --gate-holdout (BREADCRUMBS_GATE_HOLDOUT)")


def test_it_may_be_in_another_format_and_have_other_classes(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """As an upload may; classes that a later head may have are no fault."""
    one = tiny_snapshot(tiny_bundle.backbone_digest)
    with (tmp_path / "held").open("wb") as file:
        names = np.array(["oak", "yew", "elm"])[one.labels]
        np.savez(file, features=one.features, labels=names, backbone=one.backbone, epoch=2)

    found = pinned.read(tmp_path / "held", tiny_bundle)

    assert (found.rows, found.classes, found.sha256) == (12, 3, sha(tmp_path / "held"))
