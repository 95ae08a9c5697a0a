"""Indexes of answers: the queue reads them in place of features, and they say what the segments say."""

import asyncio
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelling import feature, holding, label
from tiny import CLASSES, tiny_head

from breadcrumbs.models.bundle import Bundle
from breadcrumbs.serving.learning import worth
from breadcrumbs.serving.learning.answer import Origin, to_bytes
from breadcrumbs.serving.learning.answers import Answers
from breadcrumbs.serving.learning.bounds import Bounds
from breadcrumbs.serving.learning.example import identity
from breadcrumbs.serving.learning.examples import Examples
from breadcrumbs.serving.learning.means import distances
from breadcrumbs.serving.learning.removal import Removal
from breadcrumbs.serving.predict.engine import BoundHead, Scores
from breadcrumbs.serving.state import segments
from breadcrumbs.serving.state.store import Store

HEAD = BoundHead(7, tiny_head(), None, None)
LATER = 3600 * 10**6
"""Microseconds."""


class Counted(Store):
    """A store that notes which objects are read whole."""

    whole: list[str]

    async def get(self, name: str) -> bytes:
        self.whole.append(name)
        return await super().get(name)


def opened(folder: Path) -> tuple[Counted, Answers, Examples]:
    """Answers and examples of a store."""
    store = Counted.open(folder)
    assert isinstance(store, Counted)
    store.whole = []
    groups = dict(zip(CLASSES, ("many", "medium", "few"), strict=True))
    return store, Answers(store, Bounds(10**6, 30, 2**40, False), groups), Examples(store)  # type: ignore[arg-type]


def kept(own: Answers, thing: int, backbone: str, owner: str | None = None) -> str:
    """Remember the answer to one thing."""
    made = feature(thing)
    scores = Scores(made, HEAD.head.logits(made[None])[0], HEAD)
    found = own.remember(scores, Origin("image", f"{thing:064x}", backbone, owner, "名前"))
    assert found is not None
    return found


async def labelled(examples: Examples, thing: int, backbone: str) -> None:
    """Label one thing."""
    one = label(thing)
    said = type(one.said)(**{**vars(one.said), "id": identity(None, f"{thing:064x}"), "backbone": backbone})
    await examples.add([type(one)(said, one.feature)])


async def keep(own: Answers, examples: Examples, bundle: Bundle) -> None:
    """Merge and index, as if an hour had passed."""

    async def measure() -> Any:
        return await worth.measure(examples, bundle)

    await own.keep(time.time_ns() // 1000 + LATER, measure)


async def asked(own: Answers, examples: Examples, bundle: Bundle, strategy: Any, most: int) -> list[tuple[str, float]]:
    """The ids and scores of a queue."""
    found = await worth.best(own, examples, bundle, strategy, most)
    return [(one.answer.origin.content, round(one.score, 3)) for one in found]


@settings(max_examples=15, deadline=None)
@given(
    writes=st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=5), min_size=1, max_size=12),
    taught=st.sets(st.integers(0, 40), max_size=5), most=st.integers(1, 50),
    strategy=st.sampled_from(["rare", "uncertain", "far", "mixed"]), early=st.booleans(),
)  # fmt: skip
def test_a_queue_is_the_same_with_indexes_and_without(
    tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Bundle, writes: list[list[int]], taught: set[int],
    most: int, strategy: Any, early: bool,
) -> None:  # fmt: skip
    """Whether they were made before the labels came or after, and by a server that has just started."""

    async def walk() -> None:
        folder = tmp_path_factory.mktemp("store")
        _, own, examples = opened(folder)
        for things in writes:
            for thing in things:
                kept(own, thing, tiny_bundle.backbone_digest)
            await own.flush()
        if early:
            await keep(own, examples, tiny_bundle)
        for thing in taught:
            await labelled(examples, thing, tiny_bundle.backbone_digest)
        _, plain, _ = opened(folder)
        before = await asked(plain, examples, tiny_bundle, strategy, most)
        await keep(own, examples, tiny_bundle)
        store, fresh, _ = opened(folder)
        after = await asked(fresh, examples, tiny_bundle, strategy, most)
        if strategy != "far" or taught:  # with nothing labelled, all are equally far
            assert after == before
        assert not [name for name in store.whole if name.startswith("answers/")]
        assert {thing for thing, _ in after}.isdisjoint(f"{thing:064x}" for thing in taught)

    asyncio.run(walk())


def test_far_measures_some_answers_again_and_goes_on_the_next_time(
    tmp_path: Path, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was far before a class was taught makes room for what is far now."""
    monkeypatch.setattr(worth, "LOOKED", 4)
    monkeypatch.setattr(worth, "FEWEST", 2)

    async def walk() -> None:
        _, own, examples = opened(tmp_path)
        for thing in range(40):
            kept(own, thing, tiny_bundle.backbone_digest)
        await own.flush()
        await labelled(examples, 0, tiny_bundle.backbone_digest)
        await keep(own, examples, tiny_bundle)
        await labelled(examples, 1, tiny_bundle.backbone_digest)
        shift = np.stack([feature(0), feature(1)]).mean(0)
        truth = sorted((float(np.linalg.norm(feature(thing) - shift)) for thing in range(2, 40)), reverse=True)
        for _ in range(20):
            found = await worth.best(own, examples, tiny_bundle, "far", 2)
        assert [one.score for one in found] == pytest.approx(truth[:2], rel=1e-2)

    asyncio.run(walk())


@pytest.mark.parametrize("change", ["cut", "other", "empty", "of another segment"])
def test_a_damaged_index_is_not_believed(
    tmp_path: Path, tiny_bundle: Bundle, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The segment is read in its place, and nothing is lost."""

    async def walk() -> None:
        _, own, examples = opened(tmp_path)
        names = [kept(own, thing, tiny_bundle.backbone_digest) for thing in range(3)]
        await own.flush()
        await keep(own, examples, tiny_bundle)
        kept(own, 3, tiny_bundle.backbone_digest)
        await own.flush()
        expected = await asked(own, examples, tiny_bundle, "rare", 9)
        (path,) = (tmp_path / "indexes").iterdir()
        data = path.read_bytes()
        if change == "of another segment":
            (other,) = [one for one in (tmp_path / "answers").iterdir() if one.name != path.name]
            path.rename(path.with_name(other.name))
        else:
            path.write_bytes({"cut": data[:-9], "other": data[:-1] + bytes([data[-1] ^ 1]), "empty": b""}[change])
        _, fresh, _ = opened(tmp_path)
        assert await asked(fresh, examples, tiny_bundle, "rare", 9) == expected
        assert set(await fresh.find(names)) == set(names)

    asyncio.run(walk())
    assert "damaged" in caplog.text


def test_an_index_that_does_not_fit_is_made_anew(tmp_path: Path, tiny_bundle: Bundle) -> None:
    """Each answer is compared with its check when it is read."""

    async def walk() -> None:
        _, own, examples = opened(tmp_path)
        names = [kept(own, thing, tiny_bundle.backbone_digest) for thing in range(3)]
        await own.flush()
        expected = await asked(own, examples, tiny_bundle, "rare", 9)
        await keep(own, examples, tiny_bundle)
        (index,) = await own.columns(lambda: worth.measure(examples, tiny_bundle))
        index.rows["told"] += 1
        assert await asked(own, examples, tiny_bundle, "rare", 9) == expected
        (index,) = await own.columns(lambda: worth.measure(examples, tiny_bundle))
        index.rows["check"] += 1
        assert set(await own.find(names)) == set(names)

    asyncio.run(walk())


def test_an_answer_is_found_without_its_segment(tmp_path: Path, tiny_bundle: Bundle) -> None:
    """Its bytes alone are read where there is an index."""

    async def walk() -> None:
        _, own, examples = opened(tmp_path)
        names = [kept(own, thing, tiny_bundle.backbone_digest) for thing in range(20)]
        await own.flush()
        await keep(own, examples, tiny_bundle)
        store, fresh, _ = opened(tmp_path)
        (found,) = (await fresh.find([names[7]])).values()
        assert to_bytes(found.feature) == to_bytes(feature(7).astype(np.float16))
        assert not [name for name in store.whole if name.startswith("answers/")]

    asyncio.run(walk())


def test_an_index_goes_with_its_segment(tmp_path: Path, tiny_bundle: Bundle) -> None:
    """Merged, removed or erased: no number of an erased answer stays, and none is asked about."""

    async def walk() -> None:
        store, own, examples = opened(tmp_path)
        names = []
        for thing in range(segments.FEWEST):
            names.append(kept(own, thing, tiny_bundle.backbone_digest))
            await own.flush()
        await keep(own, examples, tiny_bundle)
        assert await store.names("indexes") == [
            name.replace("answers", "indexes") for name in await store.names("answers")
        ]
        assert len(await asked(own, examples, tiny_bundle, "rare", 99)) == len(names)
        removal = Removal(store, own, examples)
        await removal.carry_out(await removal.of_answer(names[0]))
        assert await store.names("indexes") == []
        thing = int(identity(None, f"{0:064x}")[:16], 16).to_bytes(8, "little")
        assert holding(tmp_path, thing) == []
        assert len(await asked(own, examples, tiny_bundle, "rare", 99)) == len(names) - 1

    asyncio.run(walk())


@given(scores=st.lists(st.floats(0, 1, width=32) | st.just(float("inf")), max_size=60), block=st.integers(1, 20))
def test_scores_are_brought_in_order_block_by_block(scores: list[float], block: int) -> None:
    """The same order as sorting all of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worth, "BLOCK", block)
        found = list(worth._falling(np.array(scores, np.float32)))

    assert sorted(found) == list(range(len(scores)))
    assert [scores[place] for place in found] == sorted(scores, reverse=True)


@given(
    rows=st.integers(0, 600),
    classes=st.integers(1, 7),
    width=st.integers(1, 9),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
)
def test_distances_are_to_the_nearest_mean(rows: int, classes: int, width: int, scale: float) -> None:
    """As a loop over all pairs finds them."""
    draw = np.random.default_rng(rows)
    features, means = scale * draw.normal(size=(rows, width)), scale * draw.normal(size=(classes, width))
    slow = [min(float(np.linalg.norm(one - mean)) for mean in means) for one in features]

    assert distances(features, means).tolist() == pytest.approx(slow, rel=1e-5, abs=1e-6 * scale)
