"""Keys of one server: what each may keep and start, and what it may not take from another."""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from running import Serve
from tiny import tiny_snapshot

from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.serving.client.client import Client, ServerError
from breadcrumbs.serving.refusals import OverQuota
from breadcrumbs.serving.retention import Retention
from breadcrumbs.serving.state import keys, owners
from breadcrumbs.serving.state.keys import Key
from breadcrumbs.serving.state.owners import Claim
from breadcrumbs.serving.state.store import Store
from breadcrumbs.serving.upkeep import collect, verify
from breadcrumbs.training.config import RefitSpec

NEVER = RefitSpec(activate="never")


class Lab:
    """A file of keys, and clients with them."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "keys.json"
        self._folder = folder
        self._secrets: dict[str, str] = {}

    def add(self, name: str, *scopes: Any, **quota: int) -> None:
        self._secrets[name] = keys.add(self.file, name, scopes or ("refit",), **quota)

    @contextlib.contextmanager
    def client(self, server: httpx.Client, name: str) -> Iterator[Client]:
        with Client(str(server.base_url), key=self._secrets[name], retries=0) as client:
            yield client

    def snapshot(self, epoch: int = 1, rows: int = 12) -> Path:
        path = self._folder / f"{epoch}-{rows}.safetensors"
        if not path.exists():
            path.write_bytes(snapshots.to_bytes(tiny_snapshot("b" * 64, epoch, rows)))
        return path


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Two keys that may refit, and one that may do everything."""
    made = Lab(tmp_path)
    for name in ("a", "b"):
        made.add(name)
    made.add("root", "admin")
    return made


def test_a_key_does_not_delete_what_another_one_uploaded(serve: Serve, lab: Lab) -> None:
    """It may read it; its owner may delete it, and admin may."""
    with (
        serve(keys=lab.file) as server, lab.client(server, "a") as a, lab.client(server, "b") as b,
        lab.client(server, "root") as root,
    ):  # fmt: skip
        first, second = a.put_snapshot(lab.snapshot(1)), a.put_snapshot(lab.snapshot(2))
        with pytest.raises(ServerError, match=r"belongs to a, not to the key 'b'; its owner or a key with admin") as no:
            b.delete_snapshot(first.sha256)
        assert no.value.status == 403
        assert b.snapshot_record(first.sha256).owner == "a"
        a.delete_snapshot(first.sha256)
        root.delete_snapshot(second.sha256)
        assert a.snapshots() == []
        with pytest.raises(ServerError, match="there is no snapshot"):
            b.delete_snapshot(first.sha256)


def test_the_same_content_has_several_owners(serve: Serve, lab: Lab) -> None:
    """It stays until the last of them, or admin, has deleted it; then it is nobody's again."""
    with (
        serve(keys=lab.file) as server, lab.client(server, "a") as a, lab.client(server, "b") as b,
        lab.client(server, "root") as root,
    ):  # fmt: skip
        sha = a.put_snapshot(lab.snapshot()).sha256
        assert b.put_snapshot(lab.snapshot()).sha256 == sha
        a.delete_snapshot(sha)
        assert [one.sha256 for one in a.snapshots()] == [sha]
        with pytest.raises(ServerError, match="belongs to b, not to the key 'a'"):
            a.delete_snapshot(sha)
        b.delete_snapshot(sha)
        assert a.snapshots() == []
        a.put_snapshot(lab.snapshot())
        b.put_snapshot(lab.snapshot())
        root.delete_snapshot(sha)
        assert a.snapshots() == []
        assert a.put_snapshot(lab.snapshot()).owner == "a"
        with pytest.raises(ServerError, match="belongs to a"):
            b.delete_snapshot(sha)


def test_what_was_made_without_keys_is_admins_to_delete(serve: Serve, lab: Lab) -> None:
    """Yesterday's store opens; a key that uploads the same content owns it from then on."""
    with serve() as server, Client(str(server.base_url)) as client:
        sha = client.put_snapshot(lab.snapshot()).sha256
        other = client.put_snapshot(lab.snapshot(2)).sha256
        assert client.snapshot_record(sha).owner is None
        job = client.wait(client.refit(spec=NEVER).id)
    with serve(keys=lab.file) as server, lab.client(server, "a") as a, lab.client(server, "root") as root:
        for ending in (lambda: a.delete_snapshot(sha), lambda: a.cancel(job.id)):
            with pytest.raises(ServerError, match="belongs to no key, not to the key 'a'"):
                ending()
        a.put_snapshot(lab.snapshot())
        a.delete_snapshot(sha)
        root.delete_snapshot(other)
    with serve() as server, Client(str(server.base_url)) as client:
        assert client.snapshots() == []


def test_a_key_does_not_cancel_what_another_one_started(serve: Serve, lab: Lab, tmp_path: Path) -> None:
    """Waiting or running; its owner may, and admin may; the head that a refit makes names its owner."""
    lab.add("c", "refit", "predict")
    with (
        serve("hangs", str(tmp_path / "pid"), keys=lab.file) as server, lab.client(server, "a") as a,
        lab.client(server, "b") as b, lab.client(server, "root") as root,
    ):  # fmt: skip
        running, waiting, other = a.refit(spec=NEVER), a.refit(spec=NEVER), a.refit(spec=NEVER)
        assert (running.owner, b.job(waiting.id).owner) == ("a", "a")
        for job in (running, waiting):
            with pytest.raises(ServerError, match=f"refit {job.id} belongs to a, not to the key 'b'") as no:
                b.cancel(job.id)
            assert no.value.status == 403
        assert a.cancel(waiting.id).state == "cancelled"
        assert root.cancel(other.id).state == "cancelled"
        again = b.restart(waiting.id)
        assert again.owner == "b"
        assert b.cancel(again.id).state == "cancelled"
        assert a.cancel(running.id).state == "cancelled"
    with serve(keys=lab.file) as server, lab.client(server, "c") as c:
        assert c.job(waiting.id).owner == "a"
        done = c.wait(c.refit(spec=NEVER).id)
        assert done.verdict is not None
        assert c.head(done.verdict.head).lineage.owner == "c"


def test_refits_in_line_have_a_limit_of_their_own(serve: Serve, lab: Lab, tmp_path: Path) -> None:
    """429 with the limit and what to do; the same Idempotency-Key is the same refit; other keys are not held up."""
    lab.add("two", max_jobs=2)
    lab.add("none", max_jobs=0)
    with (
        serve("hangs", str(tmp_path / "pid"), keys=lab.file) as server, lab.client(server, "a") as a,
        lab.client(server, "two") as two, lab.client(server, "none") as none,
    ):  # fmt: skip
        first, second = two.refit(spec=NEVER, key="one"), two.refit(spec=NEVER)
        with pytest.raises(ServerError, match=r"2 refits of the key 'two' wait or run; its limit is 2: wait") as full:
            two.refit(spec=NEVER)
        assert (full.value.status, full.value.kind) == (429, "quota")
        assert two.refit(spec=NEVER, key="one").id == first.id
        with pytest.raises(ServerError, match="its limit is 0"):
            none.refit(spec=NEVER)
        assert a.cancel(a.refit(spec=NEVER).id).state == "cancelled"
        two.cancel(second.id)
        two.refit(spec=NEVER)
        with pytest.raises(ServerError, match="its limit is 2"):
            two.restart(second.id)
        for job in two.jobs():
            if job.owner == "two" and job.state in {"queued", "running"}:
                two.cancel(job.id)
        two.cancel(two.refit(spec=NEVER).id)


def test_stored_bytes_have_a_limit_of_their_own(serve: Serve, lab: Lab) -> None:
    """403 with the sum, the limit and what to do; nothing of what is refused is kept, whatever format it came in."""
    size = lab.snapshot().stat().st_size
    lab.add("small", max_bytes=2 * size + 100)
    with (
        serve(keys=lab.file) as server, lab.client(server, "a") as a, lab.client(server, "small") as small,
    ):  # fmt: skip
        first = small.put_snapshot(lab.snapshot(1))
        small.put_snapshot(lab.snapshot(2))
        assert small.put_snapshot(lab.snapshot(1)).sha256 == first.sha256
        for epoch in (3, 4):
            with pytest.raises(ServerError, match=rf"'small' has {2 * size} bytes .*its limit is .*delete some") as no:
                small.put_snapshot(lab.snapshot(epoch))
            assert (no.value.status, no.value.kind) == (403, "quota")
        form = server.post(
            "/v1/refit", headers={"Authorization": f"Bearer {lab._secrets['small']}"},
            files=[("snapshot", lab.snapshot(5).read_bytes())], data={"spec": json.dumps({"activate": "never"})},
        )  # fmt: skip
        assert form.status_code == 403
        assert len(a.snapshots()) == 2
        sha = a.put_snapshot(lab.snapshot(3)).sha256
        with pytest.raises(ServerError, match="its limit is"):
            small.put_snapshot(lab.snapshot(3))
        a.delete_snapshot(sha)
        assert len(a.snapshots()) == 2
        small.delete_snapshot(first.sha256)
        small.put_snapshot(lab.snapshot(3))


def test_uploads_at_once_keep_within_the_limit(serve: Serve, lab: Lab) -> None:
    """As many as fit are kept, whichever come first."""
    paths = [lab.snapshot(epoch) for epoch in range(1, 9)]
    lab.add("small", max_bytes=2 * paths[0].stat().st_size)
    with serve(keys=lab.file) as server, lab.client(server, "small") as small, ThreadPoolExecutor(8) as threads:

        def kept(path: Path) -> bool:
            try:
                return bool(small.put_snapshot(path))
            except ServerError as error:
                kinds.add(error.kind)
                return False

        kinds = set[str]()
        assert sum(threads.map(kept, paths)) == 2
        assert kinds == {"quota"}
        assert len(small.snapshots()) == 2


def test_an_upload_that_fails_leaves_no_claim(serve: Serve, lab: Lab, tmp_path: Path) -> None:
    """A damaged snapshot is nobody's."""
    data = bytearray(lab.snapshot().read_bytes())
    data[20] ^= 255
    (tmp_path / "bad").write_bytes(data)
    with serve(keys=lab.file) as server, lab.client(server, "a") as a, pytest.raises(ServerError):
        a.put_snapshot(tmp_path / "bad")
    assert asyncio.run(Store.open(tmp_path / "store").names("owners")) == []


def test_marks_of_what_is_gone_go(serve: Serve, lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`store gc` removes them, and `store verify` does not mind those that are there."""
    store = Store.open(tmp_path / "store")
    with serve(keys=lab.file) as server, lab.client(server, "a") as a:
        a.put_snapshot(lab.snapshot())
    assert asyncio.run(verify(store)).findings == ()
    asyncio.run(collect(store, Retention(max_bytes=1), settle=0))
    assert len(asyncio.run(store.names("owners"))) == 1
    monkeypatch.setattr(owners, "UNDER_WAY", owners.UNDER_WAY * 0)
    asyncio.run(collect(store, Retention(max_bytes=1), settle=0))
    assert asyncio.run(store.names("owners")) == []


@settings(deadline=None, max_examples=30)
@given(
    sizes=st.lists(st.integers(0, 100), max_size=8), most=st.integers(0, 300),
    uploaders=st.lists(st.sampled_from("ab"), min_size=8, max_size=8),
)  # fmt: skip
def test_a_quota_is_never_exceeded(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], most: int, uploaders: list[str]
) -> None:
    """Whatever sizes come in whatever order; and what fits is taken."""
    known = {name: Key(name=name, sha256="0" * 64, scopes=("refit",), created="", max_bytes=most) for name in "ab"}
    store = Store.open(tmp_path_factory.mktemp("store"))
    held = dict.fromkeys("ab", 0)
    claims = owners.Claims(store)

    async def upload() -> None:
        for number, (size, name) in enumerate(zip(sizes, uploaders, strict=False)):
            sha = f"{number:064x}"
            try:
                async with claims.claiming(known[name]) as claim:
                    await claim.make(sha, size)
                    await store.replace(f"snapshots/{sha}.safetensors", bytes(size))
            except OverQuota:
                assert held[name] + size > most
            else:
                held[name] += size
                assert held[name] <= most
        for name in "ab":
            assert sum((await owners.sizes(store, name)).values()) == held[name]

    asyncio.run(upload())


def test_without_a_key_nothing_is_claimed(tmp_path: Path) -> None:
    """As it was before there were owners."""
    store = Store.open(tmp_path)
    claim = Claim(store, None)
    asyncio.run(claim.make("0" * 64, 10**12))

    assert claim.name is None
    assert asyncio.run(store.names("owners")) == []


def test_a_file_of_keys_says_only_the_limits_that_there_are(lab: Lab) -> None:
    """So that a file without any is what it was; those of the command line are those that count."""
    lab.add("limited", max_bytes=5, max_jobs=0)
    found = {key["name"]: key for key in json.loads(lab.file.read_text())["keys"]}

    assert "max_bytes" not in found["a"]
    assert (found["limited"]["max_bytes"], found["limited"]["max_jobs"]) == (5, 0)
    for quota in ({"max_bytes": -1}, {"max_jobs": -1}):
        with pytest.raises(keys.KeysError, match=r"max_.*got -1"):
            lab.add("wrong", **quota)
