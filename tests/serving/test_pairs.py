"""A server collects pairs: a share of what it answers also goes through the backbone that comes next."""

import asyncio
import logging
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from patience import PATIENCE
from spaces import SIDE, Spaces
from tiny import png

from breadcrumbs.models import collected_pairs
from breadcrumbs.models.bundle import Bundle, BundleError
from breadcrumbs.models.head import LinearHead
from breadcrumbs.serving.app import create_app
from breadcrumbs.serving.predict.engine import BoundHead, Scores
from breadcrumbs.serving.predict.pairing import TOGETHER, WAITING, Pair, Pairing, SecondBackbone
from breadcrumbs.serving.settings import Settings
from breadcrumbs.serving.state.pairs import Pairs
from breadcrumbs.serving.state.store import Store
from breadcrumbs.training.config import RefitSpec
from breadcrumbs.training.migrate.files import run as migrate
from breadcrumbs.training.refit.rows import RefitError

OLD, NEW = "1" * 64, "2" * 64
HEAD = LinearHead(np.zeros((2, 3), np.float32), np.zeros(2, np.float32), ("a", "b" * 60))


def images(count: int, seed: int = 0) -> list[bytes]:
    """Drawn images, each another, as PNG."""
    rng = np.random.default_rng(seed)
    return [png(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)) for _ in range(count)]


def scores(count: int) -> list[Scores]:
    """Of as many images, with features of three dimensions."""
    bound = BoundHead(1, HEAD, None, None)
    return [Scores(np.full(3, number, np.float32), np.zeros(2, np.float32), bound) for number in range(count)]


def bundles(folder: Path) -> tuple[Spaces, Bundle, Bundle]:
    """An old bundle and a better one."""
    made = Spaces(dims=(6, 5))
    return made, made.bundle(folder / "old"), made.bundle(folder / "better", side=1, stored=False)


async def until(pairing: Pairing, have: int) -> None:
    """Wait until so many pairs are kept."""
    ends = time.monotonic() + PATIENCE
    while pairing.have < have:
        assert time.monotonic() < ends
        await asyncio.sleep(0.01)


async def answer(settings: Settings, sent: list[bytes]) -> None:
    """Start a server, send it images one after the other, and stop it."""
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            for image in sent:
                told = await client.post("/v1/predict", content=image, headers={"content-type": "image/png"})
                assert told.status_code == 200, told.text
                await asyncio.sleep(0)


def test_pairs_of_a_server_let_rows_migrate(tmp_path: Path) -> None:
    """Its features and those of the other backbone, of the same images, from the store straight to `migrate`."""
    _, old, better = bundles(tmp_path)
    settings = Settings(
        bundle=old.folder, store=str(tmp_path / "store"), device="cpu", threads=1, migrate_to=better.folder,
        migrate_share=1, migrate_pairs=1000, log_level="error",
    )  # fmt: skip
    for seed in range(20):  # what a server has not written when it stops is written then; a restart goes on
        asyncio.run(answer(settings, images(15, seed)))
        if seed < 2:
            continue
        first, second = collected_pairs.read(tmp_path / "store", old.backbone_digest, better.backbone_digest)
        if len(first.labels) >= 20:  # the rest came while others waited: on a busy machine that is most of them
            break

    spec = RefitSpec(l2=1e-2, prior_offset=0.0, members=("plain",))
    report = migrate(old.folder, str(better.folder), tmp_path / "store", spec, tmp_path / "new")

    assert len(first.labels) >= 20
    assert np.array_equal(first.ids, second.ids)
    assert (first.feature_dim, second.feature_dim) == (6, 5)
    assert first.dataset == second.dataset != ""
    assert set(first.labels.tolist()) == {-1}
    assert report.migration is not None
    assert report.migration.pairs == len(first.labels)


@pytest.mark.parametrize("wanted", [2, 1000])
def test_readiness_tells_how_many_pairs_there_are(wanted: int, tmp_path: Path) -> None:
    """And whether more are collected; a server that collects none says nothing of them."""
    _, old, better = bundles(tmp_path)

    async def told(**more: Any) -> list[dict[str, Any] | None]:
        app = create_app(Settings(
            bundle=old.folder, store=str(tmp_path / "store"), device="cpu", threads=1, log_level="error", **more
        ))  # fmt: skip
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
        ):
            found = [(await client.get("/readyz")).json().get("pairs")]
            for image in images(2):
                await client.post("/v1/predict", content=image, headers={"content-type": "image/png"})
            ends = time.monotonic() + PATIENCE
            while more and wanted == 2 and (await client.get("/readyz")).json()["pairs"]["collecting"]:
                assert time.monotonic() < ends
                await asyncio.sleep(0.01)
            return [*found, (await client.get("/readyz")).json().get("pairs")]

    collecting = {"migrate_to": better.folder, "migrate_share": 1, "migrate_pairs": wanted}
    before, after = asyncio.run(told(**collecting))

    assert before == {"have": 0, "wanted": wanted, "dropped": 0, "collecting": True}
    assert after == {**before, "have": 2 if wanted == 2 else 0, "collecting": wanted > 2}
    assert asyncio.run(told()) == [None, None]


def test_a_store_without_such_pairs_is_told(tmp_path: Path) -> None:
    """And how some are collected."""
    _, old, better = bundles(tmp_path)
    (tmp_path / "store" / "pairs").mkdir(parents=True)

    with pytest.raises(RefitError, match="serve --migrate-to"):
        migrate(old.folder, str(better.folder), tmp_path / "store", RefitSpec(), tmp_path / "new")


@pytest.mark.parametrize("same", [True, False])
def test_a_bundle_that_gives_no_pairs_is_refused(same: bool, tmp_path: Path) -> None:
    """At start: one with the backbone that serves, or none at all."""
    _, old, _ = bundles(tmp_path)
    other = old.folder if same else tmp_path / "nowhere"
    settings = Settings(bundle=old.folder, store=str(tmp_path / "store"), device="cpu", threads=1, migrate_to=other)

    with pytest.raises(BundleError, match="backbone that serves" if same else "no bundle"):
        asyncio.run(answer(settings, []))


@pytest.mark.parametrize("enough", [1, TOGETHER, TOGETHER + 3])
def test_no_more_than_enough_are_collected(enough: int, tmp_path: Path) -> None:
    """Written a few at a time; what a store has already counts."""
    _, _, better = bundles(tmp_path)
    pairs = Pairs(Store.open(tmp_path / "store"), OLD, NEW, HEAD.classes)
    sent = images(enough + 5)

    async def collect() -> tuple[int, int]:
        pairing = Pairing(SecondBackbone(better, 10_000), pairs.add, 1, enough, 0)
        for image, one in zip(sent, scores(len(sent)), strict=True):
            while pairing.have < enough and pairing._waiting.full():  # noqa: ASYNC110  # else it is dropped
                await asyncio.sleep(0.001)
            pairing.offer([image], [one])
            if pairing.have >= enough:
                break
        await until(pairing, enough)
        await pairing.close()
        return pairing.have, await pairs.count()

    have, kept = asyncio.run(collect())

    assert have == kept == enough


def test_what_comes_while_others_wait_is_dropped(tmp_path: Path) -> None:
    """And counted; nothing waits for it."""
    _, _, better = bundles(tmp_path)
    pairs = Pairs(Store.open(tmp_path / "store"), OLD, NEW, HEAD.classes)

    async def offer() -> int:
        pairing = Pairing(SecondBackbone(better, 10_000), pairs.add, 1, 500, 0)
        pairing.offer(images(20), scores(20))
        dropped = pairing.dropped
        await pairing.close()
        return dropped

    assert asyncio.run(offer()) == 20 - WAITING


def test_images_that_come_twice_or_cannot_be_read_are_no_pairs(tmp_path: Path) -> None:
    """An image of too many pixels, one that is damaged, and one that was seen before."""
    _, _, better = bundles(tmp_path)
    pairs = Pairs(Store.open(tmp_path / "store"), OLD, NEW, HEAD.classes)
    (good,) = images(1)
    large = png(np.zeros((101, 100, 3), np.uint8))

    async def collect() -> int:
        pairing = Pairing(SecondBackbone(better, 10_000), pairs.add, 1, 500, 0)
        for image in (good, b"no image", large, good):
            await pairing._add(image, np.zeros(3, np.float32))  # offered, it might be dropped
        await pairing.close()
        return await pairs.count()

    assert asyncio.run(collect()) == 1


def test_a_full_store_ends_it_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The server goes on answering."""
    _, _, better = bundles(tmp_path)
    pairs = Pairs(Store.open(tmp_path / "store", most=10), OLD, NEW, HEAD.classes)

    async def collect() -> None:
        pairing = Pairing(SecondBackbone(better, 10_000), pairs.add, 1, 1, 0)
        pairing.offer(images(1), scores(1))
        await asyncio.wait_for(asyncio.shield(pairing._task), PATIENCE)  # nothing else tells the end
        pairing.offer(images(2), scores(2))
        await pairing.close()

    with caplog.at_level(logging.WARNING):
        asyncio.run(collect())

    assert "no more are collected" in caplog.text


def test_writers_do_not_collide(tmp_path: Path) -> None:
    """Several write at once; an image that two of them saw is read once."""
    pairs = Pairs(Store.open(tmp_path / "store"), OLD, NEW, HEAD.classes)
    made = [[Pair(number, *(np.full(size, number, np.float32) for size in (3, 4))) for number in (writer, 99)]
            for writer in range(5)]  # fmt: skip

    async def write() -> None:
        await asyncio.gather(*map(pairs.add, made))

    asyncio.run(write())
    first, second = collected_pairs.read(tmp_path / "store", OLD, NEW)

    assert asyncio.run(pairs.count()) == 10
    assert sorted(first.ids.tolist()) == [0, 1, 2, 3, 4, 99]
    assert np.array_equal(first.features[:, 0], second.features[:, 0])
    assert np.array_equal(first.features[:, 0], first.ids)
