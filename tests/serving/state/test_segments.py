"""Segments of records: exact bytes, merged and written anew without losing or bringing back anything."""

import asyncio
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from breadcrumbs.serving.state import erasure, segments
from breadcrumbs.serving.state.segment_file import Record, decode, encode, places
from breadcrumbs.serving.state.segments import FEWEST, SETTLED, Segments
from breadcrumbs.serving.state.store import Store, StoreError

NOW = 10**15


def record(number: int, blob: bytes = b"", names: tuple[str, ...] = ()) -> Record:
    """A record whose id and time are its number."""
    return Record(f"r{number}", number, names or (f"r{number}",), {"class": "Wollemia nobilis ✓"}, blob)


async def every(own: Segments) -> list[Record]:
    """All records, by time."""
    found = [one async for _, some in own.records() for one in some]
    return sorted(found, key=lambda one: one.at)


def test_a_segment_has_these_bytes() -> None:
    """As docs/formats.md says: sha256, length of the header, header, blobs."""
    one = Record("a", 7, ("a", "b"), {"x": 1}, b"\x01\x02")
    header = (
        b'{"format":"breadcrumbs.segment/1","records":[{"id":"a","at":7,"names":["a","b"],"data":{"x":1},"size":2}]}'
    )
    body = len(header).to_bytes(8, "little") + header + b"\x01\x02"

    assert encode([one]) == hashlib.sha256(body).digest() + body


@given(blobs=st.lists(st.binary(max_size=40), min_size=1, max_size=6))
def test_records_come_back_as_they_were(blobs: list[bytes]) -> None:
    """Whatever their blobs."""
    made = [record(place, blob) for place, blob in enumerate(blobs)]
    found = decode("s", encode(made))

    assert [(one.id, one.at, one.names, one.data, one.blob) for one in found] == [
        (one.id, one.at, one.names, one.data, one.blob) for one in made
    ]


@given(blobs=st.lists(st.binary(max_size=40), min_size=1, max_size=6), wrong=st.booleans())
def test_a_record_is_read_by_its_place(
    tmp_path_factory: pytest.TempPathFactory, blobs: list[bytes], wrong: bool
) -> None:
    """Without the rest of its segment; bytes that are not the record's are noticed."""
    made = [record(place, blob) for place, blob in enumerate(blobs)]

    async def walk() -> None:
        own = Segments(Store.open(tmp_path_factory.mktemp("store")), "some")
        segment = await own.append(made)
        there = [one._replace(told=one.told - wrong) for one in places(made)]
        found = await own.read_some(segment.name, there)
        expected = [None if wrong else (one.id, one.data, one.blob) for one in made]
        assert [one and (one.id, one.data, one.blob) for one in found] == expected

    asyncio.run(walk())


@given(place=st.integers(0, 10_000), other=st.integers(1, 255))
def test_a_changed_byte_is_noticed(place: int, other: int) -> None:
    """Wherever it is."""
    data = bytearray(encode([record(1, b"blob"), record(2)]))
    data[place % len(data)] ^= other

    with pytest.raises(StoreError, match="answers/x is damaged"):
        decode("answers/x", bytes(data))


@pytest.mark.parametrize(
    ("header", "came"),
    [
        ('{"format": "breadcrumbs.segment/9", "records": []}', "'breadcrumbs.segment/9'"),
        ("[]", "None"),
        ("{", "None"),
        ("\x00", "None"),
    ],
)
def test_a_segment_of_another_format_is_refused(header: str, came: str) -> None:
    """By name."""
    body = len(header).to_bytes(8, "little") + header.encode()

    with pytest.raises(StoreError, match=f"expected format breadcrumbs.segment/1, got {came}"):
        decode("x", hashlib.sha256(body).digest() + body)


@given(names=st.lists(st.text(max_size=60), min_size=1, max_size=6))
def test_a_segment_of_an_earlier_version_is_read_and_merged(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    """Its JSON was escaped to ASCII: places are those of its own bytes, which stay as they are in a merged segment."""
    told = [
        json.dumps(
            {"id": f"r{place}", "at": place, "names": [], "data": {"class": name}, "size": 1}, separators=(",", ":")
        )
        for place, name in enumerate(names)
    ]
    header = f'{{"format":"breadcrumbs.segment/1","records":[{",".join(told)}]}}'.encode()
    body = len(header).to_bytes(8, "little") + header + b"x" * len(names)
    old = hashlib.sha256(body).digest() + body

    async def walk() -> None:
        store = Store.open(tmp_path_factory.mktemp("store"))
        own, name = Segments(store, "some"), f"some/{0:016x}-{len(names) - 1:016x}-{len(names):06x}-{1:016x}"
        await store.create(name, old)
        (segment,) = await own.listed()
        records = await own.read(segment)
        found = await own.read_some(name, places(records))
        assert [one and one.data["class"] for one in found] == [one.data["class"] for one in records] == names
        assert encode(records) == old

    asyncio.run(walk())


def test_its_name_tells_times_and_number(tmp_path: Path) -> None:
    """So that most segments need not be read; other objects are passed over."""

    async def walk() -> None:
        own = Segments(Store.open(tmp_path), "some")
        written = await own.append([record(300), record(20), record(100)])
        (tmp_path / "some" / "note.txt").write_text("x")
        assert await own.listed() == [written]
        assert (written.first, written.last, written.count) == (20, 300, 3)
        assert [written.may_have(at) for at in (19, 20, 150, 300, 301)] == [False, True, True, True, False]

    asyncio.run(walk())


@given(
    sizes=st.lists(st.integers(1, 3), min_size=1, max_size=20), size=st.integers(100, 3000), count=st.integers(1, 20)
)
def test_merging_loses_nothing(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], size: int, count: int
) -> None:
    """Whatever the bounds; nothing is there twice, and no merged segment has more records than it may."""

    async def walk() -> None:
        own = Segments(Store.open(tmp_path_factory.mktemp("store")), "some")
        number = 0
        for many in sizes:
            await own.append([record(number + place) for place in range(many)])
            number += many
        before = len(await own.listed())
        await own.merge(NOW, size, count)
        there = await own.listed()
        assert [one.at for one in await every(own)] == list(range(number))
        assert len(there) <= before
        assert all(one.count <= max(count, *sizes) for one in there)

    asyncio.run(walk())


def test_what_is_fresh_or_few_is_not_merged(tmp_path: Path) -> None:
    """It may be read most, or would gain little."""

    async def walk() -> None:
        own = Segments(Store.open(tmp_path), "some")
        for number in range(FEWEST):
            await own.append([record(number)])
        await own.merge(SETTLED, 2**20, 100)  # the last one is too fresh, the others are too few
        assert len(await own.listed()) == FEWEST
        await own.merge(NOW, 2**20, 100)
        assert len(await own.listed()) == 1

    asyncio.run(walk())


def test_a_segment_that_is_merged_twice_has_its_records_once(tmp_path: Path) -> None:
    """Two servers may merge the same segments at the same time."""

    async def walk() -> None:
        store = Store.open(tmp_path)
        own, other = Segments(store, "some"), Segments(store, "some")
        for number in range(3 * FEWEST):
            await own.append([record(number)])
        await asyncio.gather(own.merge(NOW, 2**20, 100), other.merge(NOW, 2**20, 100))
        assert [one.at for one in await every(own)] == list(range(3 * FEWEST))

    asyncio.run(walk())


def test_a_reader_finds_what_is_merged_meanwhile(tmp_path: Path) -> None:
    """It looks again where a segment has gone between the list and the reading."""

    class Late(Store):
        merged = False

        async def get_all(self, names: Sequence[str]) -> dict[str, bytes]:  # type: ignore[override]
            if not self.merged:
                self.merged = True
                await Segments(Store.open(tmp_path), "some").merge(NOW, 2**20, 100)
            return await super().get_all(names)

    async def walk() -> None:
        own = Segments(Late.open(tmp_path), "some")
        for number in range(FEWEST):
            await own.append([record(number)])
        assert [one.at for one in await every(own)] == list(range(FEWEST))

    asyncio.run(walk())


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_erased_record_does_not_come_back_by_a_merge(tmp_path: Path, when: str) -> None:
    """That had read it before it was erased, and writes it after; or is written before it was erased."""
    secret = b"a feature, byte by byte"

    class Slow(Segments):
        async def append(self, records: Sequence[Record]) -> segments.Segment:
            if when == "after":
                await erase()
            written = await super().append(records)
            if when == "before":
                await erase()
            return written

    async def erase() -> None:
        await erasure.mark(store, ["r3"])
        await Segments(store, "some").drop_erased()

    async def walk() -> None:
        own = Segments(store, "some")
        for number in range(FEWEST):
            await own.append([record(number, secret if number == 3 else b"other")])
        await Slow(store, "some").merge(NOW, 2**20, 100)
        assert [one.at for one in await every(own)] == [number for number in range(FEWEST) if number != 3]

    store = Store.open(tmp_path)
    asyncio.run(walk())
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and secret in path.read_bytes()]


def test_a_mark_erases_up_to_its_time(tmp_path: Path) -> None:
    """What has the name later is another thing; a mark without a time erases for ever."""

    async def walk() -> None:
        store = Store.open(tmp_path)
        own = Segments(store, "some")
        await own.append([record(at, names=("x", f"n{at}")) for at in (1, 2, 3)])
        await erasure.mark(store, ["x"], 2)
        assert [one.at for one in await every(own)] == [3]
        await erasure.mark(store, ["n3"])
        assert await every(own) == []
        await own.drop_erased()
        assert await own.listed() == []

    asyncio.run(walk())
