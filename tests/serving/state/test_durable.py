"""A file is on the disk before it has its name; what fails to get there is not there afterwards either."""

import asyncio
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from refits import finish, upload
from running import make_settings, running

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.serving.state import durable
from breadcrumbs.serving.state.store import Conflict, Store, StoreError
from breadcrumbs.serving.upkeep import verify


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is flushed, linked and renamed, in order."""
    found: list[tuple[str, str]] = []

    def listening(name: str, what: Callable[..., str]) -> None:
        real = getattr(os, name)

        def call(*arguments: Any, **more: Any) -> Any:
            found.append((name, what(*arguments)))
            return real(*arguments, **more)

        monkeypatch.setattr(os, name, call)

    listening("fsync", lambda number: str(Path(f"/proc/self/fd/{number}").readlink()))
    listening("link", lambda _, to: str(to))
    listening("replace", lambda _, to: str(to))
    return found


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("kind", ["bytes", "file"])
def test_the_file_first_then_its_name_then_every_folder(
    tmp_path: Path, steps: list[tuple[str, str]], exclusive: bool, depth: int, kind: str
) -> None:
    """Up to the root, whichever of them are new."""
    root, path = tmp_path / "root", (tmp_path / "root").joinpath(*"abcd"[:depth])
    root.mkdir()
    source: bytes | Path = b"x" * 3_000_000
    if kind == "file":
        (tmp_path / "source").write_bytes(b"x" * 3_000_000)
        source = tmp_path / "source"
    durable.write(root, path, source, exclusive=exclusive)
    first, named, *folders = steps

    assert first[0] == "fsync"
    assert first[1].startswith(f"{path}#")
    assert named == ("link" if exclusive else "replace", str(path)) or named[0] == "fsync"
    places = [place for name, place in folders if name == "fsync"]
    assert places == [str(folder) for folder in path.parents if folder == root or root in folder.parents]
    assert path.read_bytes() == b"x" * 3_000_000
    assert list(durable.leftovers(root)) == []


def test_a_new_store_is_flushed_up_to_what_was_there(tmp_path: Path, steps: list[tuple[str, str]]) -> None:
    """Each new folder into the one that it is in."""
    Store.open(tmp_path / "a" / "b" / "c")

    assert {place for _, place in steps} == {str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")}


@pytest.mark.parametrize("failing", range(4))
def test_a_flush_that_fails_leaves_nothing_that_was_to_be_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """Of the file or of one of its folders: the error is told, and the name is free."""
    store, real, seen = Store.open(tmp_path), os.fsync, 0

    def fail(number: int) -> None:
        nonlocal seen
        seen += 1
        if seen == failing + 1:
            raise OSError(errno.EIO, "Input/output error")
        real(number)

    monkeypatch.setattr(os, "fsync", fail)
    if failing < 3:
        with pytest.raises(StoreError, match="store: a/b: Input/output error"):
            asyncio.run(store.create("a/b", b"one"))
    monkeypatch.setattr(os, "fsync", real)
    asyncio.run(store.create("a/b", b"two"))

    assert (tmp_path / "a" / "b").read_bytes() == b"two"
    with pytest.raises(Conflict):
        asyncio.run(store.create("a/b", b"three"))


def test_folders_that_are_removed_meanwhile_hold_no_writer_up(tmp_path: Path) -> None:
    """One prunes, the others write: all is there."""
    store, stop = Store.open(tmp_path), threading.Event()

    def prune() -> None:
        while not stop.is_set():
            store.prune()

    pruning = threading.Thread(target=prune)
    pruning.start()
    try:
        for number in range(100):
            asyncio.run(store.create(f"refits/{number}/request.json", b"x"))
    finally:
        stop.set()
        pruning.join()

    assert len(list(tmp_path.glob("refits/*/request.json"))) == 100


@pytest.mark.parametrize("failing", ["file", "folder"])
def test_an_activation_whose_flush_fails_is_not_live(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """It is refused, on this server and on the one beside it, also later; and it can be asked for again."""
    real = os.fsync

    def fail(number: int) -> None:
        place = str(Path(f"/proc/self/fd/{number}").readlink())
        if place.rpartition("/")[2] == "activations" if failing == "folder" else "/activations/" in place:
            raise OSError(errno.EIO, "Input/output error")
        real(number)

    store = tmp_path / "store"
    with (
        running(make_settings(tiny_bundle, store, follow=0.02)) as one,
        running(make_settings(tiny_bundle, store, follow=0.02, refit="elsewhere")) as two,
    ):
        finish(one, {"snapshots": [upload(one)], "spec": {"activate": "never"}})
        with monkeypatch.context() as broken:
            broken.setattr(os, "fsync", fail)
            refused = one.post("/v1/heads/2/activate", json={"reason": "now"})
        lives = [live(server) for _ in range(10) for server in (one, two)]
        again = one.post("/v1/heads/2/activate", json={"reason": "again"})
        log = one.get("/v1/activations").json()["activations"]

    assert (refused.status_code, again.status_code) == (503, 200)
    assert "Input/output error" in refused.text
    assert set(lives) == {1}
    assert [(entry["number"], entry["head"]) for entry in log] == [(2, 2), (1, 1)]
    assert asyncio.run(verify(Store.open(store))).sound


def live(client: httpx.Client) -> int:
    """The head that is live."""
    return int(client.get("/v1/heads").json()["live"])
