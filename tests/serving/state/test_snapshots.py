"""`/v1/snapshots`: what a stored snapshot is said to be."""

import asyncio
from pathlib import Path

from refits import upload
from running import Serve
from tiny import CLASSES, tiny_snapshot

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.serving.state import snapshots as stored
from breadcrumbs.serving.state.store import Store


def test_a_snapshot_is_described_and_kept_once(serve: Serve, tmp_path: Path) -> None:
    """201 and then 200; its bytes in the store are those that were sent, under their sha256."""
    data = snapshots.to_bytes(tiny_snapshot("c" * 64, 5))
    with serve() as client:
        first, second = (client.put("/v1/snapshots", content=data) for _ in range(2))
        sha = first.json()["sha256"]
        got = client.get(first.headers["location"])
        answers = [client.get("/v1/snapshots").json()["snapshots"], client.delete(f"/v1/snapshots/{sha}").status_code]
        gone = client.get("/v1/snapshots").json()["snapshots"]

    body = first.json()
    assert (first.status_code, second.status_code, answers[1]) == (201, 200, 204)
    assert (body["rows"], body["feature_dim"], body["epoch"], body["deployed"]) == (12, 4, 5, False)
    assert body["classes"] == dict.fromkeys(CLASSES, 4)
    assert body["groups"] == {"many": 4, "medium": 4, "few": 4, "new": 0}
    assert body["group_of"] == dict(zip(CLASSES, ("many", "medium", "few"), strict=True))
    assert got.json() == body == answers[0][0]
    assert gone == []


def test_what_a_snapshot_is_beside_the_bundle_is_found_anew(serve: Serve, tiny_bundle: Bundle, tmp_path: Path) -> None:
    """A store outlives a bundle: by another one's classes and counts the groups are others."""
    with serve() as client:
        sha = upload(client)
    manifest = tiny_bundle.manifest.model_copy(update={"train_counts": (5, 120, 40), "classes": ("oak", "elm", "yew")})
    other = Bundle(tiny_bundle.folder, manifest)
    record = asyncio.run(stored.get(Store.open(tmp_path / "store"), sha, other))

    assert record.group_of == {"oak": "few", "elm": "many", "Wollemia nobilis": "new"}
    assert record.groups == {"many": 4, "medium": 0, "few": 4, "new": 4}
