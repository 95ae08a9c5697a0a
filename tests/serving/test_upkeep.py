"""A store is verified byte by byte, and what is old goes; never what is live or needed."""

import asyncio
import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from refits import finish, upload
from running import Serve, make_settings, running

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.serving import upkeep
from breadcrumbs.serving.retention import Retention
from breadcrumbs.serving.state import heads
from breadcrumbs.serving.state.activation_log import Log
from breadcrumbs.serving.state.store import Store, StoreError
from breadcrumbs.serving.upkeep import Verified, collect, verify

ALWAYS = {"spec": {"activate": "always"}}
PARTS = (
    "heads/000003/head.safetensors", "heads/000003/head.onnx", "heads/000003/head.json", "snapshots/*.safetensors",
    "snapshots/*.json", "refits/*/request.json", "refits/*/events.jsonl", "refits/*/judged.json",
    "refits/*/report.json", "activations/00000002.json",
)  # fmt: skip
LATER = datetime.now(UTC) + timedelta(days=365)


def check(folder: Path) -> Verified:
    """Verify a folder's store."""
    return asyncio.run(verify(Store.open(folder)))


def remove(folder: Path, *, dry: bool = False, now: datetime = LATER, **retention: Any) -> set[str]:
    """Collect what is old and return the things that went."""
    found = asyncio.run(collect(Store.open(folder), Retention(**retention), dry=dry, settle=0.0, now=now))
    return {"/".join(item.name.split("/")[:2]).partition(".")[0] for item in found}


@pytest.fixture(scope="module")
def original(
    tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[str], list[dict[str, Any]]]:
    """A store after three refits that went live, each from a snapshot of its own; its snapshots and jobs."""
    folder = tmp_path_factory.mktemp("filled")
    with running(make_settings(tiny_bundle, folder)) as client:
        shas = [upload(client, epoch) for epoch in (1, 2, 3, 4)]
        jobs = [finish(client, {"snapshots": [sha], **ALWAYS}) for sha in shas[:3]]
    return folder, shas, jobs


@pytest.fixture
def filled(
    original: tuple[Path, list[str], list[dict[str, Any]]], tmp_path: Path
) -> tuple[Path, list[str], list[dict[str, Any]]]:
    """A copy of it for one test."""
    shutil.copytree(original[0], tmp_path / "store")
    return tmp_path / "store", *original[1:]


def test_a_sound_store_is_sound(filled: tuple[Path, list[str], Any]) -> None:
    """And everything in it was looked at."""
    found = check(filled[0])

    assert (found.heads, found.snapshots, found.refits, found.activations) == (4, 4, 3, 4)
    assert found.sound
    assert found.findings == ()
    assert found.size == sum(path.stat().st_size for path in filled[0].rglob("*") if path.is_file())


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("how", ["flipped", "cut", "emptied"])
def test_damage_is_found_by_name(filled: tuple[Path, list[str], Any], part: str, how: str) -> None:
    """Whatever part it is in: one changed bit, a missing end, an empty file."""
    path = min(filled[0].glob(part))
    data = bytearray(path.read_bytes())
    if how == "flipped":
        data[0 if path.suffix in {".json", ".jsonl"} else len(data) // 2] ^= 4
    path.write_bytes({"cut": data[: len(data) // 2], "emptied": b""}.get(how, data))
    found = check(filled[0])

    if part == "refits/*/events.jsonl" and how == "emptied":
        return  # a job of which nothing was said yet
    assert not found.sound
    (finding,) = [one for one in found.findings if one.kind == "damaged"]
    assert part.split("/", maxsplit=1)[0] in finding.name


def test_a_report_of_version_1_is_no_damage(filled: tuple[Path, list[str], Any]) -> None:
    """A store from before has some: other parts, and a gate that said `passed`."""
    path = min(filled[0].glob("refits/*/report.json"))
    report = json.loads(path.read_text())
    del report["members"], report["notes"]
    old = {"format": "breadcrumbs.refit/1", "chosen": {"l2": 1.0}, "gate": {"passed": True, "reasons": []}}
    path.write_text(json.dumps(report | old))

    assert check(filled[0]).findings == ()


def test_a_live_head_that_is_not_there_is_damage(filled: tuple[Path, list[str], Any]) -> None:
    """As in a copy that was made in the wrong order; an older one may have been collected."""
    shutil.rmtree(filled[0] / "heads" / "000001")
    assert check(filled[0]).sound
    shutil.rmtree(filled[0] / "heads" / "000004")
    (finding,) = check(filled[0]).findings

    assert (finding.name, finding.kind) == ("heads/000004", "damaged")


def test_what_a_killed_writer_left_is_no_damage(filled: tuple[Path, list[str], Any]) -> None:
    """It is told, and goes after an hour."""
    store = filled[0]
    (store / "heads" / "000005").mkdir()
    (store / "heads" / "000005" / "head.safetensors").write_bytes(b"x")
    (store / "snapshots" / ("0" * 64 + ".safetensors")).write_bytes(b"x")
    (store / "activations" / "00000005.json#7").write_bytes(b"x")
    os.utime(store / "activations" / "00000005.json#7", (0, 0))
    found = check(store)

    assert found.sound
    assert [one.kind for one in found.findings] == ["leftover"] * 3
    assert remove(store, now=datetime.now(UTC)) == set()
    assert remove(store, now=datetime.now(UTC) + timedelta(hours=2)) == {"heads/000005", "snapshots/" + "0" * 64}
    assert check(store).findings == ()


def test_what_is_young_stays_and_what_is_old_goes(filled: tuple[Path, list[str], Any]) -> None:
    """The live head, its parents, and what the newest heads were made of are kept whatever their age."""
    store, shas, jobs = filled
    first, last = f"refits/{jobs[0]['id']}", f"snapshots/{shas[3]}"

    assert remove(store, now=datetime.now(UTC)) == set()
    assert remove(store, keep_heads=10) == {last}
    planned = remove(store, dry=True, keep_heads=1, parents=1)
    assert planned == {"heads/000001", "heads/000002", f"snapshots/{shas[0]}", first}
    assert check(store).heads == 4
    assert remove(store, keep_heads=1, parents=1) == planned
    assert check(store).sound
    assert (check(store).heads, check(store).activations) == (2, 4)


@pytest.mark.parametrize(("days", "whole", "stays"), [(29, True, True), (31, True, False), (0.5, False, False)])
def test_old_pairs_go(tmp_path: Path, days: float, whole: bool, stays: bool) -> None:
    """Both files of each; one without the other is what a killed writer left."""
    store = Store.open(tmp_path)
    stem = f"pairs/{'a' * 16}-{'b' * 16}/50-{'c' * 16}"
    names = [f"{stem}.{side}.safetensors" for side in ("old", "new")[: 1 + whole]]
    for name in names:
        asyncio.run(store.create(name, b"rows"))

    remove(tmp_path, now=datetime.now(UTC) + timedelta(minutes=30))
    assert asyncio.run(store.names("pairs")) == sorted(names)
    remove(tmp_path, now=datetime.now(UTC) + timedelta(days=days))
    assert asyncio.run(store.names("pairs")) == (sorted(names) if stays else [])


def test_an_old_head_that_is_live_stays(filled: tuple[Path, list[str], Any], serve: Serve) -> None:
    """Also where it was taken back long after newer ones, and a server goes on with what is left."""
    store = filled[0]
    with serve() as client:
        client.post("/v1/heads/1/activate")
        gone = remove(store, keep_heads=1, parents=0)
        assert "heads/000001" not in gone
        assert {"heads/000002", "heads/000003"} <= gone
        assert client.get("/v1/heads").json()["live"] == 1
        assert client.post("/v1/heads/2/activate").status_code == 404
        assert client.post("/v1/heads/4/activate").status_code == 200
    with serve() as client:
        assert client.get("/v1/heads").json()["live"] == 4


def test_room_is_made_whatever_the_age(filled: tuple[Path, list[str], Any]) -> None:
    """From the oldest on, but not what is live."""
    gone = remove(filled[0], now=datetime.now(UTC), max_bytes=1, parents=0)

    assert "heads/000004" not in gone
    assert {"heads/000001", "heads/000002", "heads/000003"} <= gone
    assert check(filled[0]).sound


def test_an_unfinished_refit_keeps_its_snapshots(serve: Serve, tmp_path: Path) -> None:
    """However old they are."""
    gate = tmp_path / "gate"
    with serve("waits", str(gate)) as client:
        sha = upload(client)
        job = client.post("/v1/refit", json={"snapshots": [sha]}).json()["id"]
        assert remove(tmp_path / "store") == set()
        gate.touch()
        while client.get(f"/v1/refit/{job}").json()["state"] != "succeeded":
            pass


def test_what_went_live_in_the_very_moment_comes_back(filled: tuple[Path, list[str], Any], serve: Serve) -> None:
    """Its mark was gone for a moment, and is put back."""
    store = filled[0]

    async def race() -> set[str]:
        opened = Store.open(store)
        record = await heads.record(opened, 2)
        removing = asyncio.create_task(collect(opened, Retention(keep_heads=1, parents=0), settle=3, now=LATER))
        while (store / "heads/000002/head.json").exists():  # noqa: ASYNC110 - nobody tells when it goes
            await asyncio.sleep(0.01)
        await Log(opened).append(record, "other", "took it up before")
        return {item.name for item in await removing}

    gone = asyncio.run(race())

    assert not any("000002" in name for name in gone)
    assert (store / "heads/000002/head.json").exists()
    assert check(store).sound


def test_an_upload_that_comes_while_it_is_collected_is_kept(filled: tuple[Path, list[str], Any], serve: Serve) -> None:
    """The same snapshot, uploaded between its mark's end and its own: it was acknowledged, so it stays."""
    store, shas, _ = filled
    path = store / "snapshots" / f"{shas[3]}.json"

    async def race(client: httpx.Client) -> set[str]:
        removing = asyncio.create_task(collect(Store.open(store), Retention(keep_heads=10), settle=3, now=LATER))
        while path.exists():  # noqa: ASYNC110 - nobody tells when it goes
            await asyncio.sleep(0.01)
        assert await asyncio.to_thread(upload, client, 4) == shas[3]
        return {item.name for item in await removing}

    with serve() as client:
        assert asyncio.run(race(client)) == set()
        assert client.get(f"/v1/snapshots/{shas[3]}").status_code == 200
    assert check(store).sound


def test_what_cannot_be_finished_is_undone(
    filled: tuple[Path, list[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store fails in the middle: everything is visible again."""
    before = check(filled[0])
    real, calls = upkeep._needed, 0

    async def failing(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise StoreError("the disk")
        return await real(*arguments)

    monkeypatch.setattr(upkeep, "_needed", failing)  # it is asked again when all is marked, and reads the store
    with pytest.raises(StoreError, match="the disk"):
        remove(filled[0], keep_heads=1, parents=0)

    assert check(filled[0]) == before
