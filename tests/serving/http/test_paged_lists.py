"""Lists come in pages: every entry once, the newest first, whatever the limit; a page reads only its own records."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refits import finish, upload
from running import make_settings, running

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.serving.client.async_client import AsyncClient
from breadcrumbs.serving.client.client import Client
from breadcrumbs.serving.state import heads, pages, snapshots
from breadcrumbs.serving.state.store import Store

COUNT = 23
LISTS = {
    "/v1/heads": ("heads", "version"), "/v1/snapshots": ("snapshots", "sha256"), "/v1/refit": ("refits", "id"),
    "/v1/activations": ("activations", "number"),
}  # fmt: skip


def fill(folder: Path, count: int, names: int = 1) -> None:
    """Copy the first of each kind of thing until there are so many; `names` makes a snapshot's record larger."""
    (folder / "snapshots" / "x").parent.mkdir(exist_ok=True)
    record = json.loads(next((folder / "snapshots").glob("*.json")).read_text())
    request = next((folder / "refits").iterdir())
    for number in range(count):
        sha = f"{number:064x}"
        more = {"sha256": sha, "classes": {f"class {place}": 1 for place in range(names)}, "group_of": {}}
        (folder / "snapshots" / f"{sha}.json").write_text(json.dumps(record | more))
        job = folder / "refits" / f"20200101T000000-{number:08x}"
        shutil.copytree(request, job)
        head = folder / "heads" / f"{number + 10:06d}"
        head.mkdir()
        text = json.loads((folder / "heads" / "000001" / "head.json").read_text())
        (head / "head.json").write_text(json.dumps(text | {"version": number + 10}))


@pytest.fixture(scope="module")
def many(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server with more of each thing than some pages have."""
    folder = tmp_path_factory.mktemp("many")
    with running(make_settings(tiny_bundle, folder)) as client:
        finish(client, {"snapshots": [upload(client)], "spec": {"activate": "always"}})
    fill(folder, COUNT)
    with running(make_settings(tiny_bundle, folder)) as client:
        for number in range(4):
            client.post(f"/v1/heads/{1 + number % 2}/activate").raise_for_status()
        yield client


def walk(client: httpx.Client, path: str, limit: int) -> list[list[Any]]:
    """Every page's entries, by what names them."""
    name, key = LISTS[path]
    found, after = [], {}
    while True:
        answer = client.get(path, params={"limit": limit, **after}).raise_for_status().json()
        found.append([one[key] for one in answer[name]])
        if answer["next"] is None:
            return found
        after = {"after": answer["next"]}


@pytest.mark.parametrize("path", LISTS)
@settings(deadline=None, max_examples=10)
@given(limit=st.integers(1, COUNT + 5))
def test_pages_have_every_entry_once(many: httpx.Client, path: str, limit: int) -> None:
    """In one order, which is that of a single page."""
    (whole,) = walk(many, path, 100)
    found = walk(many, path, limit)

    assert len(whole) == (5 if path == "/v1/activations" else COUNT + (2 if path == "/v1/heads" else 1)) + (
        1 if path == "/v1/activations" else 0
    )
    assert [one for page in found for one in page] == whole
    assert [len(page) for page in found[:-1]] == [limit] * (len(found) - 1)


@pytest.mark.parametrize("path", LISTS)
def test_a_list_goes_on_after_any_entry(many: httpx.Client, path: str) -> None:
    """Named by what it is called everywhere else, too."""
    (whole,) = walk(many, path, 100)
    name, key = LISTS[path]
    for place in (0, 2, len(whole) - 1):
        answer = many.get(path, params={"after": str(whole[place])}).raise_for_status().json()
        assert [one[key] for one in answer[name]] == whole[place + 1 :]


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(
    "wrong", [{"limit": "0"}, {"limit": "100001"}, {"limit": "x"}, {"after": "x"}, {"after": ""}, {"after": "-1"}]
)
def test_what_is_no_page_is_refused(many: httpx.Client, path: str, wrong: dict[str, str]) -> None:
    """With 422 and a sentence that names the parameter."""
    answer = many.get(path, params=wrong)

    assert answer.status_code == 422
    assert next(iter(wrong)) in answer.json()["error"]["message"]


def test_both_clients_go_through_all_pages(many: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of whatever size."""
    url = str(many.base_url)

    async def ask() -> tuple[int, int, int]:
        async with AsyncClient(url) as client:
            return (
                len((await client.heads()).heads), len(await client.snapshots()), len(await client.jobs()),
            )  # fmt: skip

    for most in (2, pages.MOST):
        monkeypatch.setattr("breadcrumbs.serving.client.calls.MOST", most)
        with Client(url) as client:
            found = (len(client.heads().heads), len(client.snapshots()), len(client.jobs()))

        assert found == asyncio.run(ask()) == (COUNT + 2, COUNT + 1, COUNT + 1)


@pytest.mark.parametrize("names", [10, 10_000])
def test_a_page_reads_its_own_records_and_no_more(tiny_bundle: Bundle, tmp_path: Path, names: int) -> None:
    """Of many thousands, and of as many bytes as a page may have: then it has fewer entries."""
    with running(make_settings(tiny_bundle, tmp_path)) as client:
        finish(client, {"snapshots": [upload(client)]})
    fill(tmp_path, 60, names)
    read: list[str] = []

    class Counting(Store):
        async def get(self, name: str) -> bytes:
            read.append(name)
            return await super().get(name)

    async def ask() -> int:
        store = Counting.open(tmp_path)
        found, more = await snapshots.page(store, tiny_bundle, 50)
        assert more is not None
        assert len(read) == len(found)
        assert sum(len(one.model_dump_json()) for one in found) < 2 * pages.BYTES
        read.clear()
        assert len((await heads.page(store, 7))[0]) == len(read) == 7
        return len(found)

    assert asyncio.run(ask()) == (50 if names == 10 else min(50, pages.BYTES // (names * 17)))


def test_pages_are_cut_by_entries_and_bytes() -> None:
    """One entry at least, however large it is."""
    assert pages.cut([1, 2, 3], 2, lambda _: 1) == [1, 2]
    assert pages.cut([1, 2, 3], 9, lambda _: pages.BYTES) == [1]
    assert pages.cut([1, 2, 3], 9, lambda _: pages.BYTES * 2) == [1]
    assert pages.cut(list[int](), 9, lambda _: 1) == []
