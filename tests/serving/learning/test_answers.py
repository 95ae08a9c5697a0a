"""Remembered answers in a store: found by every server, bounded by number, bytes and age, and worth a label."""

import asyncio
import io
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelling import label
from PIL import Image
from tiny import CLASSES, picture, png, tiny_head

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.models.groups import Group
from breadcrumbs.models.images.thumbnail import SIDE, thumbnail
from breadcrumbs.serving.learning import answer_ids, answers, worth
from breadcrumbs.serving.learning.answer import Origin, from_record, narrowed, to_record
from breadcrumbs.serving.learning.answers import Answers, Expired
from breadcrumbs.serving.learning.bounds import DAY, Bounds
from breadcrumbs.serving.learning.example import identity
from breadcrumbs.serving.learning.examples import Examples
from breadcrumbs.serving.predict.engine import BoundHead, Scores
from breadcrumbs.serving.state.store import NotFound, Store

GROUPS: dict[str, Group] = dict(zip(CLASSES, ("many", "medium", "few"), strict=True))
HEAD = BoundHead(7, tiny_head(), None, None)


def scores(number: int, dim: int = 4) -> Scores:
    """What a head of three classes says of a feature of its own."""
    feature = np.random.default_rng(number).normal(size=dim).astype(np.float32)
    return Scores(feature, HEAD.head.logits(feature[None, :4])[0], HEAD)


def origin(number: int, backbone: str = "b" * 64, owner: str | None = None) -> Origin:
    """Where that comes from."""
    return Origin("image", f"{number:064x}", backbone, owner, "名前")


def bounds(count: int = 100, days: float = 30, size: int = 2**30, images: bool = False) -> Bounds:
    """What is remembered."""
    return Bounds(count, days, size, images)


def opened(folder: Path, **more: Any) -> Answers:
    """The answers of a store."""
    return Answers(Store.open(folder), bounds(**more), GROUPS)


async def every(own: Answers) -> list[str]:
    """The ids of all answers in the store."""
    return [one.id async for some in own.stream() for one in some]


def tick() -> None:
    """Wait until the next answer has a later time."""
    now = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 == now:
        pass


def kept(own: Answers, number: int, **more: Any) -> str:
    """Remember one answer."""
    found = own.remember(scores(number), origin(number, **more))
    assert found is not None
    return found


@given(milliseconds=st.lists(st.integers(0, 2**47), min_size=2, max_size=5))
def test_ids_tell_their_time_and_sort_by_it(milliseconds: list[int]) -> None:
    """And no two are the same."""
    made = [answer_ids.make(one) for one in milliseconds]

    assert [answer_ids.made_at(one) for one in made] == milliseconds
    assert [answer_ids.made_at(one) for one in sorted(made)] == sorted(milliseconds)
    assert len({answer_ids.make(1) for _ in range(100)}) == 100


@pytest.mark.parametrize("text", ["", "x", "8" + "0" * 25, "0" * 25, "0" * 27, "0" * 25 + "u", "../../heads"])
def test_other_text_is_no_id(text: str) -> None:
    """Whatever it is."""
    assert answer_ids.made_at(text) is None


@pytest.mark.parametrize("dim", [4, 2048])
def test_an_answer_is_kept_as_a_record_and_read_again(dim: int, tmp_path: Path) -> None:
    """With its feature as float16, its top classes and where it comes from."""

    async def walk() -> None:
        own = opened(tmp_path)
        one = own.remember(scores(1, dim), origin(1))
        assert one is not None
        before = (await own.find([one]))[one]
        await own.flush()
        after = (await opened(tmp_path).find([one]))[one]
        assert np.array_equal(after.feature, scores(1, dim).feature.astype(np.float16))
        assert after.feature.dtype == before.feature.dtype == np.float16
        assert (after.id, after.head, after.digest, after.classes) == (one, 7, HEAD.head.digest, before.classes)
        assert vars(after.origin) == vars(origin(1))
        rare = next(told["probability"] for told in after.classes if told["class"] == CLASSES[2])
        assert after.rare == pytest.approx(rare)
        again = from_record(to_record(after))
        assert again.feature.tobytes() == after.feature.tobytes()

    asyncio.run(walk())


def test_a_feature_beyond_float16_stays_float32() -> None:
    """It must be finite."""
    rows = np.array([[1e6, 1.0], [1e3, 1.0], [1.0, -1e5]], np.float32)
    found = narrowed(rows)

    assert [one.dtype for one in found] == [np.float32, np.float16, np.float32]
    assert all(np.allclose(one, row, rtol=1e-3) for one, row in zip(found, rows, strict=True))


def test_an_answer_of_another_server_is_waited_for(tmp_path: Path) -> None:
    """Until that has written it."""

    async def walk() -> None:
        one, other = opened(tmp_path), opened(tmp_path)
        name = kept(one, 1)
        finding = asyncio.create_task(other.find([name]))
        await asyncio.sleep(0)
        await one.flush()
        assert (await finding)[name].id == name

    asyncio.run(walk())


def test_what_cannot_be_found_says_why(tmp_path: Path) -> None:
    """No id, never remembered, too old, removed by number."""
    now = time.time_ns() // 1_000_000

    async def walk() -> None:
        own = opened(tmp_path, count=2, days=2)

        async def missing(name: str, kind: type, words: str) -> None:
            with pytest.raises(NotFound, match=words) as refusal:
                await own.find([name])
            assert type(refusal.value) is kind

        await missing("x", NotFound, "expected the id of a prediction")
        await missing(answer_ids.make(now + 10**9), NotFound, "expected the id of a prediction")
        await missing(answer_ids.make(now - 20_000), NotFound, "never remembered, or was erased")
        await missing(answer_ids.make(now - 3 * 86_400_000), Expired, "kept for 2 days, and at most 2")
        first = kept(own, 1)
        await own.flush()
        tick()
        for number in (2, 3):
            kept(own, number)
        await own.flush()
        await own.keep()
        await missing(first, Expired, "send the image or its feature")

    asyncio.run(walk())


@settings(max_examples=30)
@given(
    count=st.integers(1, 40), writes=st.lists(st.integers(1, 12), min_size=1, max_size=12), merged=st.booleans()
)  # fmt: skip
def test_no_more_are_kept_than_were_asked_for(
    tmp_path_factory: pytest.TempPathFactory, count: int, writes: list[int], merged: bool
) -> None:
    """The newest; a sixteenth less at most."""

    async def walk() -> None:
        own = opened(tmp_path_factory.mktemp("store"), count=count)
        names: list[str] = []
        for many in writes:
            names += [kept(own, number) for number in range(many)]
            await own.flush()
        later = time.time_ns() // 1000 + (DAY if merged else 0)
        await own.keep(later)
        await own.keep(later)
        found = await every(own)
        assert len(found) <= count
        assert len(found) > min(len(names), count) - max(1, count // 16)
        assert set(found) <= set(names)

    asyncio.run(walk())


def test_bytes_and_age_are_bounded(tmp_path: Path) -> None:
    """The oldest go first; with nothing remembered any more, what there is stays until it is old."""

    async def walk() -> None:
        own = opened(tmp_path)
        for number in range(4):
            kept(own, number)
            await own.flush()
            tick()
        sizes = [path.stat().st_size for path in (tmp_path / "answers").iterdir()]
        names = await every(own)
        small = opened(tmp_path, size=sum(sizes) - 1)
        await small.keep()
        assert await every(own) == names[1:]
        await opened(tmp_path, count=0).keep()
        assert await every(own) == names[1:]
        await opened(tmp_path, count=0, days=1).keep(time.time_ns() // 1000 + 2 * DAY)
        assert await every(own) == []

    asyncio.run(walk())


def test_memory_is_bounded_while_the_store_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Beyond it, answers are not remembered, which is logged once; what is in memory is written later."""
    monkeypatch.setattr(answers, "PENDING_BYTES", 3 * (16 + 12))

    async def walk() -> None:
        own = opened(tmp_path)
        names = [own.remember(scores(number), origin(number)) for number in range(5)]
        assert [name is not None for name in names] == [True, True, True, False, False]
        await own.flush()
        assert set(await every(own)) == set(names) - {None}
        assert own.remember(scores(9), origin(9)) is not None

    asyncio.run(walk())
    assert len(caplog.records) == 1


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (600, 20), (1, 3000), (400, 400)])
def test_a_thumbnail_is_small(shape: tuple[int, int]) -> None:
    """Of any image, from its file or its pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)

    for image in (png(pixels), pixels):
        found = Image.open(io.BytesIO(thumbnail(image)))
        assert found.format == "JPEG"
        assert max(found.size) <= SIDE


def test_thumbnails_are_kept_only_where_that_is_set(tmp_path: Path) -> None:
    """From files and from pixels; a file that cannot be decoded again has none."""

    async def walk(images: bool) -> list[bool]:
        own = opened(tmp_path / str(images), images=images)
        for image in (png(picture()), picture(), b"no image"):
            own.remember(scores(1), origin(1), image)
        await own.flush()
        return [one.thumbnail is not None async for some in own.stream() for one in some]

    assert sorted(asyncio.run(walk(images=True))) == [False, True, True]
    assert asyncio.run(walk(images=False)) == [False] * 3


def asking(tmp_path: Path, bundle: Bundle, work: Callable[[Answers, Examples], Awaitable[None]]) -> None:
    """Remember some answers of a bundle's backbone, and do something with them."""

    async def walk() -> None:
        own = opened(tmp_path)
        for number in range(12):
            kept(own, number, backbone=bundle.backbone_digest, owner="a" if number % 2 else "b")
            kept(own, number, backbone=bundle.backbone_digest, owner="a" if number % 2 else "b")  # asked twice
        kept(own, 99)  # of another backbone
        await work(own, Examples(Store.open(tmp_path)))

    asyncio.run(walk())


@pytest.mark.parametrize("strategy", ["rare", "uncertain"])
@pytest.mark.parametrize("most", [1, 5, 100])
def test_the_queue_is_in_order_of_worth(tmp_path: Path, tiny_bundle: Bundle, strategy: Any, most: int) -> None:
    """By numpy's own count; each thing once, nothing of another backbone."""

    async def work(own: Answers, examples: Examples) -> None:
        found = await worth.best(own, examples, tiny_bundle, strategy, most)
        powers = [np.exp(scores(number).logits.astype(float)) for number in range(12)]
        chances = [one / one.sum() for one in powers]
        if strategy == "rare":
            expected = [one[2] for one in chances]
        else:
            expected = [1 - np.subtract(*np.sort(one)[::-1][:2]) for one in chances]
        assert [one.score for one in found] == pytest.approx(sorted(expected, reverse=True)[:most])
        assert len({one.answer.origin.content for one in found}) == len(found)

    asking(tmp_path, tiny_bundle, work)


def test_far_is_far_from_every_labelled_class(tmp_path: Path, tiny_bundle: Bundle) -> None:
    """And what has a label is not asked for; `mixed` has some of each; an owner sees its own."""

    async def work(own: Answers, examples: Examples) -> None:
        (first, *_) = await worth.best(own, examples, tiny_bundle, "far", 12)
        assert first.score == 0.0  # nothing is labelled: nothing is far
        one = label(5)
        said = type(one.said)(**{
            **vars(one.said), "id": identity("a", f"{5:064x}"), "backbone": tiny_bundle.backbone_digest,
        })  # fmt: skip
        await examples.add([type(one)(said, scores(5).feature)])
        found = await worth.best(own, examples, tiny_bundle, "far", 12)
        assert len(found) == 11
        expected = [np.linalg.norm(scores(number).feature - scores(5).feature) for number in range(12) if number != 5]
        assert [one.score for one in found] == pytest.approx(sorted(expected, reverse=True), rel=1e-2)
        mixed = await worth.best(own, examples, tiny_bundle, "mixed", 6)
        assert {one.strategy for one in mixed} == {"rare", "uncertain", "far"}
        assert len({one.answer.id for one in mixed}) == 6
        assert {one.answer.origin.owner for one in await worth.best(own, examples, tiny_bundle, "mixed", 12, "b")} == {
            "b"
        }
        assert await worth.best(own, examples, tiny_bundle, "mixed", 12, None) == []

    asking(tmp_path, tiny_bundle, work)
