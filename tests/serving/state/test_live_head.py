"""What is live: the log, the engine, and what becomes of them when something is damaged or someone else was first."""

import asyncio
import json
import time
import weakref
from pathlib import Path

import pytest
from patience import PATIENCE
from patience import soon as wait
from running import make_settings, running
from tiny import SIDE, picture, png, tiny_backbone, tiny_head, write_bundle

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.serving.predict.engine import Engine
from breadcrumbs.serving.retention import Retention
from breadcrumbs.serving.state import heads
from breadcrumbs.serving.state import live_head as lives
from breadcrumbs.serving.state.activation_log import Log
from breadcrumbs.serving.state.bound_heads import CACHE, BoundHeads
from breadcrumbs.serving.state.heads import Lineage
from breadcrumbs.serving.state.live_head import Live
from breadcrumbs.serving.state.store import Conflict, NotFound, Store, StoreError
from breadcrumbs.serving.upkeep import collect, verify


async def opened(folder: Path, bundle: Bundle, more: int = 0) -> tuple[Store, Live]:
    """A store with the bundle's head live and `more` others."""
    store = Store.open(folder)
    log = Log(store)
    activation = await lives.first(store, bundle, log)
    for seed in range(more):
        await heads.add(store, tiny_head(10 + seed), bundle, Lineage(parent=1), {"all": 0.1})
    _, head = await heads.read(store, activation.head)
    engine = Engine(bundle.backbone, head, activation.head, (SIDE, SIDE), "cpu", 1)
    return store, Live(BoundHeads(store, bundle, engine), log, activation, engine.live, engine.swap)


def test_an_empty_store_gets_the_bundles_head(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """It is version 1, activation 1, by the bundle; a second start changes nothing."""

    async def main() -> None:
        store, live = await opened(tmp_path, tiny_bundle)
        await opened(tmp_path, tiny_bundle)
        (record,) = await Log(store).read()

        assert (record.number, record.head, record.actor, record.previous) == (1, 1, "bundle", None)
        assert live.head.head.digest == tiny_bundle.head().digest
        assert sorted(await store.names("heads/000001")) == [
            "heads/000001/head.json", "heads/000001/head.onnx", "heads/000001/head.safetensors",
        ]  # fmt: skip

    asyncio.run(main())


def test_servers_that_start_at_once_agree_on_the_first_head(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """On an empty store and on one whose live head is damaged: one activation is added, and all return it."""

    async def main() -> None:
        store = Store.open(tmp_path)
        for count in (1, 2):
            logs = [Log(store) for _ in range(5)]
            found = await asyncio.gather(*(lives.first(store, tiny_bundle, log) for log in logs))
            assert len(await Log(store).read()) == count
            assert found == found[:1] * 5
            (tmp_path / heads.folder(found[0].head) / "head.json").unlink()

    asyncio.run(main())


def test_of_many_activations_at_once_one_wins(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Compare-and-swap: all expected head 1 to be live, and only the first still finds it so."""

    async def main() -> None:
        store, _ = await opened(tmp_path, tiny_bundle, 5)
        wanted = [await heads.record(store, version) for version in range(2, 7)]
        results = await asyncio.gather(
            *(Log(store).append(head, "api", "race", 1) for head in wanted), return_exceptions=True
        )
        won = [result for result in results if not isinstance(result, BaseException)]
        log = await Log(store).read()

        assert len(won) == 1
        assert all(isinstance(result, Conflict) for result in results if result not in won)
        assert [record.head for record in log] == [1, won[0].head]

    asyncio.run(main())


def test_an_activation_that_expected_another_head_is_refused(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """The engine keeps what it has."""

    async def main() -> None:
        _, live = await opened(tmp_path, tiny_bundle, 2)
        await live.activate(2, "api", "")
        with pytest.raises(Conflict, match="head 2 is live; expected head 1: someone else was first"):
            await live.activate(3, "refit x", "", 1)

        assert live.head.version == 2

    asyncio.run(main())


def test_activating_what_is_live_changes_nothing(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """No record is written for it."""

    async def main() -> None:
        store, live = await opened(tmp_path, tiny_bundle)

        assert (await live.activate(1, "api", "again")).number == 1
        assert len(await Log(store).read()) == 1

    asyncio.run(main())


def test_rollback_goes_back_step_by_step_and_not_in_circles(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """1, 2, 3 and two rollbacks lead to 1; a third has nowhere to go; a later change can be taken back again."""

    async def main() -> None:
        store, live = await opened(tmp_path, tiny_bundle, 2)
        await live.activate(2, "api", "")
        await live.activate(3, "api", "")

        assert (await live.rollback("api", "")).head == 2
        assert (await live.rollback("api", "")).head == 1
        with pytest.raises(Conflict, match="no head to go back to"):
            await live.rollback("api", "")
        await live.activate(3, "api", "")
        assert (await live.rollback("api", "")).head == 1
        assert [record.head for record in await Log(store).read()] == [1, 2, 3, 2, 1, 3, 1]
        assert live.head.version == 1

    asyncio.run(main())


@pytest.mark.parametrize("damage", ["weights", "cut", "record", "gone"])
def test_a_damaged_live_head_gives_way_to_the_last_good_one(tiny_bundle: Bundle, tmp_path: Path, damage: str) -> None:
    """The log says that, and names the head; asking for the damaged head by name is refused."""

    async def main() -> None:
        store, live = await opened(tmp_path, tiny_bundle, 2)
        await live.activate(2, "api", "")
        await live.activate(3, "api", "")
        path = tmp_path / "heads/000003/head.safetensors"
        data = bytearray(path.read_bytes())
        if damage == "weights":
            data[-5] ^= 1
            path.write_bytes(data)
        elif damage == "cut":
            path.write_bytes(data[:50])
        elif damage == "record":
            (path.parent / "head.json").write_text("{}")
        else:
            path.unlink()
        store, live = await opened(tmp_path, tiny_bundle)
        last = (await Log(store).read())[-1]

        assert live.head.version == last.head == 2
        assert last.actor == "server"
        assert "head 3 is damaged" in last.reason
        with pytest.raises(StoreError, match="head 3 is damaged"):
            await live.activate(3, "api", "")
        assert live.head.version == 2

    asyncio.run(main())


def test_with_no_sound_head_left_the_bundles_own_serves(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """It comes in as a new version."""

    async def main() -> None:
        await opened(tmp_path, tiny_bundle)
        (tmp_path / "heads/000001/head.safetensors").write_bytes(b"")
        store, live = await opened(tmp_path, tiny_bundle)

        assert live.head.version == 2
        assert live.head.head.digest == tiny_bundle.head().digest
        assert (await Log(store).read())[-1].actor == "server"

    asyncio.run(main())


def test_a_store_of_another_backbone_gets_the_new_bundles_head(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Old heads stay, and cannot go live on features that they do not know."""
    other = write_bundle(tmp_path / "other", tiny_backbone() + b"\x32\x01x")  # an unknown producer field: other bytes

    async def main() -> None:
        await opened(tmp_path / "store", tiny_bundle)
        store, live = await opened(tmp_path / "store", other)

        assert live.head.version == 2
        assert (await heads.record(store, 2)).backbone == other.backbone_digest
        with pytest.raises(Conflict, match="head 1 was fitted to backbone"):
            await live.activate(1, "api", "")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record | {"reason": "another"}, "does not carry the hash of the record before it"),
        (lambda record: record | {"number": 7}, "expected activation 1, got 7"),
        (lambda _: {}, "is damaged"),
    ],
)
def test_a_changed_log_is_noticed(tiny_bundle: Bundle, tmp_path: Path, change: object, message: str) -> None:
    """Every record carries the hash of the one before it."""

    async def main() -> None:
        store, live = await opened(tmp_path, tiny_bundle, 1)
        await live.activate(2, "api", "")
        path = tmp_path / "activations/00000001.json"
        path.write_text(json.dumps(change(json.loads(path.read_text()))))  # type: ignore[operator]  # a function each
        with pytest.raises(StoreError, match=message):
            await Log(store).read()

    asyncio.run(main())


def test_heads_added_at_once_get_numbers_of_their_own(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """A number is claimed by put-if-absent."""

    async def main() -> None:
        store = Store.open(tmp_path)
        added = await asyncio.gather(
            *(heads.add(store, tiny_head(seed), tiny_bundle, Lineage(), {}) for seed in range(8))
        )

        assert sorted(record.version for record in added) == list(range(1, 9))
        for record in added:
            _, head = await heads.read(store, record.version)
            assert head.digest == record.digest

    asyncio.run(main())


def test_a_claim_without_its_mark_is_no_head(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """A crash between claim and mark leaves a number that is skipped."""

    async def main() -> None:
        store, live = await opened(tmp_path, tiny_bundle)
        await store.create("heads/000002/head.safetensors", b"half")
        (tmp_path / "heads" / "notes.txt").write_text("not ours")
        added = await heads.add(store, tiny_head(3), tiny_bundle, Lineage(), {})

        assert added.version == 3
        assert [record.version for record in await heads.records(store)] == [3, 1]
        with pytest.raises(NotFound, match="there is no head 2"):
            await live.activate(2, "api", "")

    asyncio.run(main())


def test_named_heads_are_bound_once_and_the_cache_is_bounded(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """A version asked for twice is the same object; the least recently used goes first."""

    async def main() -> None:
        _, live = await opened(tmp_path, tiny_bundle, CACHE + 1)
        second = weakref.ref(await live.named(2))
        assert await live.named(2) is second()
        for version in range(3, CACHE + 3):
            await live.named(version)

        assert await live.named(CACHE + 2) is not None
        assert second() is None

    asyncio.run(main())


def test_servers_on_one_store_follow_each_other(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """What one makes live the other serves within a second; a damaged head it does not take; both go back together.

    A line is followed beside, and goes its own way.
    """
    settings = make_settings(tiny_bundle, tmp_path / "store", follow=0.1)
    with running(settings) as one, running(settings.model_copy(update={"refit": False})) as other:

        def version() -> int:
            return int(other.get("/v1/heads").json()["live"])

        def soon(expected: int) -> bool:
            until = time.monotonic() + PATIENCE
            while version() != expected and time.monotonic() < until:
                time.sleep(0.01)
            return version() == expected

        for number in (2, 3):
            job = one.post("/v1/refit", json={"spec": {"activate": "always"}}).json()["id"]
            assert soon(number), one.get(f"/v1/refit/{job}").json()
        answer = other.post("/v1/predict", content=png(picture()), headers={"content-type": "image/png"}).json()
        assert answer["head"]["version"] == 3
        one.put("/v1/lines/lab-a", json={"head": 1}).raise_for_status()
        one.post("/v1/heads/2/activate?line=lab-a").raise_for_status()
        wait(lambda: other.get("/v1/heads?line=lab-a").json()["live"] == 2, "the line's head on the other server")
        assert one.post("/v1/trials", json={"head": 1}).status_code == 201
        assert other.post("/v1/heads/rollback").json()["head"] == 2
        assert soon(2)
        for server in (one, other):
            end = wait(lambda server=server: server.get("/v1/trials/1").json()["end"], "the end of a trial that it met")
            assert end["outcome"] == "overtaken"
        assert one.get("/v1/activations").json()["activations"][0]["head"] == 2
        assert other.post("/v1/heads/rollback?line=lab-a").json()["head"] == 1
        wait(lambda: one.get("/v1/heads?line=lab-a").json()["live"] == 1, "the line's rollback on the first server")
        path = tmp_path / "store" / "heads" / "000003" / "head.safetensors"
        whole = path.read_bytes()
        assert one.post("/v1/heads/3/activate").status_code == 200
        assert soon(3)
        one.post("/v1/heads/1/activate")
        assert soon(1)
        path.write_bytes(whole[:-1])
        assert one.post("/v1/heads/3/activate").status_code == 503
        assert version() == 1


def test_a_damaged_head_that_another_server_made_live_is_no_obstacle(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """This server goes on with the one before; any other head can still be made live here, and by rollback too."""
    settings = make_settings(tiny_bundle, tmp_path / "store", follow=0.05)
    with running(settings) as client:
        for _ in range(2):
            job = client.post("/v1/refit", json={"spec": {"activate": "never"}}).json()["id"]
            while client.get(f"/v1/refit/{job}").json()["state"] != "succeeded":
                time.sleep(0.01)
        (tmp_path / "store" / "heads" / "000002" / "head.safetensors").write_bytes(b"damaged")
        store = Store.open(tmp_path / "store")

        def elsewhere() -> None:
            record = asyncio.run(heads.record(store, 2))
            asyncio.run(Log(store).append(record, "other", "on another server"))

        elsewhere()
        time.sleep(0.2)
        assert client.get("/v1/heads").json()["live"] == 1
        assert client.post("/v1/heads/1/activate").json()["number"] == 3
        elsewhere()
        assert client.post("/v1/heads/3/activate").json()["number"] == 5
        elsewhere()
        assert client.post("/v1/heads/rollback").json()["head"] == 3
        assert client.get("/v1/heads").json()["live"] == 3


@pytest.mark.parametrize("damage", [b"", b"{", b"\0" * 300, "other digest"])
def test_a_damaged_newest_activation_gives_way_to_the_last_good_one(
    tiny_bundle: Bundle, tmp_path: Path, damage: bytes | str
) -> None:
    """At start: the record is named, by the log too, whose chain goes on over it; and the store verifies again."""

    async def main() -> None:
        store, live = await opened(tmp_path, tiny_bundle, 2)
        await live.activate(2, "api", "")
        await live.activate(3, "api", "")
        path = tmp_path / "activations/00000003.json"
        if isinstance(damage, str):
            path.write_text(path.read_text().replace(live.activation.digest, "0" * 64))
        else:
            path.write_bytes(damage)
        (finding,) = (await verify(store)).findings
        assert finding.name == "activations"
        with pytest.raises(StoreError, match=r"00000003\.json is damaged" if isinstance(damage, bytes) else "digest"):
            await collect(store, Retention())
        store, live = await opened(tmp_path, tiny_bundle)

        assert (live.head.version, live.activation.number, live.activation.actor) == (2, 4, "server")
        assert ("activations/00000003.json is damaged" if isinstance(damage, bytes) else "digest 0000") in (
            live.activation.reason
        )
        assert (await verify(store)).sound
        assert (await live.activate(3, "api", "")).number == 5
        assert (await live.rollback("api", "")).head == 2
        _, again = await opened(tmp_path, tiny_bundle)
        assert (again.head.version, again.activation.number) == (2, 6)

    asyncio.run(main())


def test_a_record_that_rots_under_a_server_stops_neither_it_nor_the_next(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """What is live does not hang on an older record; `verify` names that one, and nothing is collected."""

    async def main() -> None:
        _, live = await opened(tmp_path, tiny_bundle, 2)
        await live.activate(2, "api", "")
        (tmp_path / "activations/00000002.json").write_bytes(b"rotten")
        await live.activate(3, "api", "")
        store, again = await opened(tmp_path, tiny_bundle)

        assert (again.head.version, again.activation.number) == (3, 3)
        assert (await again.activate(1, "api", "")).number == 4
        (finding,) = (await verify(store)).findings
        assert finding.kind == "damaged"
        assert finding.text.startswith("activations/00000002.json is damaged")
        with pytest.raises(StoreError, match=r"activations/00000002\.json is damaged"):
            await collect(store, Retention())

    asyncio.run(main())


def test_a_record_that_is_gone_is_named(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """The newest one still says what is live."""

    async def main() -> None:
        _, live = await opened(tmp_path, tiny_bundle, 2)
        await live.activate(2, "api", "")
        await live.activate(3, "api", "")
        (tmp_path / "activations/00000002.json").unlink()
        (tmp_path / "activations/00000003.json.bak").write_bytes(b"not ours")
        store, again = await opened(tmp_path, tiny_bundle)

        assert again.head.version == 3
        with pytest.raises(StoreError, match=r"activations/00000002\.json is missing"):
            await Log(store).read()

    asyncio.run(main())


def test_a_damaged_record_of_another_server_is_not_followed(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """This server goes on, and what it makes live next comes after it."""
    with running(make_settings(tiny_bundle, tmp_path / "store", follow=0.05)) as client:
        (tmp_path / "store/activations/00000002.json").write_bytes(b"half")
        assert client.get("/v1/activations").json()["activations"][0]["number"] == 1
        assert client.get("/v1/heads").json()["live"] == 1
        assert client.post("/v1/heads/1/activate").json()["number"] == 3
        assert [one["number"] for one in client.get("/v1/activations").json()["activations"]] == [3, 1]
    assert asyncio.run(verify(Store.open(tmp_path / "store"))).sound
