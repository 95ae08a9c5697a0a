"""The store on a real S3-compatible server: the same code, the same promises."""

import asyncio
import json
import logging
import os
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from buckets import bucket as bucket_of
from obstore.store import AzureStore, GCSStore, ObjectStore, from_url
from refits import finish, upload
from running import make_settings, running
from tiny import picture, png

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.serving.retention import Retention
from breadcrumbs.serving.state.store import Conflict, NotFound, Store, StoreError
from breadcrumbs.serving.upkeep import collect, verify

PNG = {"content-type": "image/png"}


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The URL of an empty bucket; what an operator would have in the environment is there."""
    with bucket_of("crumbs"):
        yield "s3://crumbs"


def test_objects_are_written_once_read_listed_and_removed(bucket: str, tmp_path: Path) -> None:
    """Put-if-absent has one winner; files go and come in pieces."""
    large = os.urandom(12 * 2**20)
    (tmp_path / "large").write_bytes(large)

    async def main() -> None:
        store = Store.open(f"{bucket}/objects", 14 * 2**20)
        results: list[Any] = await asyncio.gather(
            *(store.create("a/one", str(k).encode()) for k in range(8)), return_exceptions=True
        )
        assert [type(result) for result in results].count(Conflict) == 7
        winner = [result is None for result in results].index(True)
        assert await store.get("a/one") == str(winner).encode()
        await store.put_file("b/large", tmp_path / "large")
        sha = await store.fetch("b/large", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == large
        assert await store.sha256("b/large") == sha
        spans = [(5, 7), (0, 0), (2**20, 3), (len(large) - 2, 2), (0, 4)]
        assert await store.get_parts("b/large", spans) == [large[at : at + size] for at, size in spans]
        with pytest.raises(NotFound):
            await store.get_parts("b/none", spans)
        with pytest.raises(StoreError):
            await store.get_parts("b/large", [(len(large) + 9, 4)])
        assert await store.names("b") == ["b/large"]
        with pytest.raises(StoreError, match="the limit is"):
            await store.check_room(3 * 2**20)
        await store.delete("b/large")
        await store.check_room(3 * 2**20)
        with pytest.raises(NotFound):
            await store.get("b/large")

    asyncio.run(main())


def test_a_server_lives_on_it(bucket: str, tiny_bundle: Bundle) -> None:
    """Upload, refit, activation, rollback, restart; it verifies, and what is old goes."""
    place = f"{bucket}/lives"
    settings = make_settings(tiny_bundle, Path("unused")).model_copy(update={"store": place})
    with running(settings) as client:
        sha = upload(client)
        jobs = [finish(client, {"snapshots": [sha], "spec": {"activate": "always"}}) for _ in range(2)]
        client.post("/v1/heads/rollback")
    with running(settings) as client:
        answer = client.post("/v1/predict", content=png(picture()), headers=PNG).json()
        log = client.get("/v1/activations").json()["activations"]
        states = {job["id"]: job["state"] for job in client.get("/v1/refit").json()["refits"]}

        assert answer["head"]["version"] == 2
        assert [one["head"] for one in log] == [2, 3, 2, 1]
        assert states == {job["id"]: "succeeded" for job in jobs}
    found = asyncio.run(verify(Store.open(place)))
    assert (found.sound, found.heads, found.snapshots) == (True, 3, 1)
    asyncio.run(collect(Store.open(place), Retention(keep_heads=1, parents=0, max_bytes=1), settle=0.0))
    assert asyncio.run(verify(Store.open(place))).sound


def test_the_buckets_credential_is_never_written_down(
    bucket: str, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in logs, metrics, errors or objects: where all is well, where the bucket is gone, where nobody answers."""
    canary = "canary0000000000000000000000000000000000"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", canary)
    caplog.set_level(logging.DEBUG)
    place, told = f"{bucket}/secret", list[str]()
    settings = make_settings(tiny_bundle, Path("unused"), access_log="all").model_copy(update={"store": place})
    with running(settings, "crashes") as client:
        job = finish(client, {"snapshots": [upload(client)]})
        told += [client.get(path).text for path in ("/metrics", "/v2", "/v1/heads", "/v1/heads/9", "/openapi.json")]
        told += [json.dumps(job), client.get("/v1/refit").text]
    for gone, address in (("no-such-bucket", os.environ["AWS_ENDPOINT_URL"]), ("crumbs", "http://127.0.0.1:1")):
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        with pytest.raises(StoreError) as refused:
            asyncio.run(Store(from_url(f"s3://{gone}/x", retry_config={"max_retries": 0})).get("heads"))
        told.append("".join(traceback.format_exception(refused.value)))
    monkeypatch.undo()

    async def kept() -> list[bytes]:
        store = Store.open(place)
        return [await store.get(name) for name in await store.names("")]

    objects = asyncio.run(kept())
    assert len(objects) > 5
    assert not any(canary.encode() in data for data in objects)
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("breadcrumbs")]
    assert len(ours) > 5
    assert not any(canary in text for text in told + [record.getMessage() for record in caplog.records])


@pytest.mark.parametrize(("place", "kind"), [("gs://crumbs/x", GCSStore), ("az://crumbs/x", AzureStore)])
def test_the_other_clouds_are_opened_by_their_urls(
    place: str, kind: type[ObjectStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody of theirs is here to be asked; all that follows is the same code as for S3."""
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "nobody")

    assert isinstance(Store.open(place)._objects, kind)


def test_a_store_that_is_not_there_is_told(bucket: str) -> None:
    """By its name, within the time that a person waits."""
    with pytest.raises(StoreError, match="expected a folder or s3, gs, az"):
        Store.open("ftp://somewhere/else")
    with pytest.raises(StoreError):
        asyncio.run(Store.open("s3://no-such-bucket/x").names("heads"))
    assert bucket
