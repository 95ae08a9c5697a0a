"""Which precision a server takes: as asked for, as the store has it, or what is fastest here."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from running import make_settings, running
from tiny import CLASSES, SIDE, picture, png, tiny_backbone, tiny_head, tiny_snapshot, write_bundle

from breadcrumbs.models import bundle as bundles
from breadcrumbs.models.arrays import Pixels
from breadcrumbs.models.bundle import Bundle, BundleError
from breadcrumbs.models.head import parse_onnx
from breadcrumbs.models.known import STEPS, Known, to_bytes, unit
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.serving.precision import chosen
from breadcrumbs.serving.predict.devices import EngineError
from breadcrumbs.serving.state import heads
from breadcrumbs.serving.state import live_head as lives
from breadcrumbs.serving.state.activation_log import Log
from breadcrumbs.serving.state.heads import Lineage
from breadcrumbs.serving.state.store import Store


def another_backbone() -> bytes:
    """The tiny backbone as another file: the same answers under another digest."""
    model = parse_onnx(tiny_backbone())
    model.doc_string = "in int8"
    return bytes(model.SerializeToString())


@pytest.fixture
def both(tmp_path: Path) -> Bundle:
    """A bundle with a second space in `int8/`."""
    own = write_bundle(tmp_path / "own", another_backbone())
    plain = write_bundle(tmp_path / "bundle")
    files = {name: (plain.folder / name).read_bytes() for name in plain.manifest.files}
    return bundles.write(plain.folder, plain.manifest, files, own)


def chooses(bundle: Bundle, store: Path, ratio: float | None = None, live: Bundle | None = None, **more: Any) -> str:
    """The precision that is chosen, on a store where the head of some bundle is live; no ratio: nothing is timed."""

    def speed(_full: Path, _int8: Path, image: Pixels) -> float:
        assert ratio is not None
        assert image.shape == (SIDE, SIDE, 3)
        return ratio

    async def main() -> str:
        opened = Store.open(store)
        if live is not None:
            await lives.first(opened, live, Log(opened))
        settings = make_settings(bundle, store, **more)
        served, precision = await chosen(settings, bundle, opened, Log(opened), speed)
        assert served.backbone_digest == bundle.of(precision).backbone_digest
        return precision

    return asyncio.run(main())


@pytest.mark.parametrize("precision", ["full", "int8"])
def test_what_is_asked_for_is_taken(precision: str, both: Bundle, tmp_path: Path) -> None:
    """Whatever is live, and without a measurement."""
    for live in (None, both, both.of("int8")):
        store = tmp_path / f"store-{live and live.backbone_digest}"
        assert chooses(both, store, live=live, precision=precision) == precision


@pytest.mark.parametrize(("ratio", "expected"), [(0.7, "full"), (1.19, "full"), (1.2, "int8"), (4.0, "int8")])
def test_auto_takes_what_is_fastest_here(ratio: float, expected: str, both: Bundle, tmp_path: Path) -> None:
    """In an empty store."""
    assert chooses(both, tmp_path / "store", ratio, precision="auto") == expected


@pytest.mark.parametrize("expected", ["full", "int8"])
def test_auto_goes_on_with_what_is_live(expected: Any, both: Bundle, tmp_path: Path) -> None:
    """Heads of one space cannot serve the other, and servers on one store must agree."""
    live = both.of(expected)

    assert chooses(both, tmp_path / "store", live=live, precision="auto") == expected


def test_auto_without_int8_is_full(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """On a CPU; nothing is timed."""
    assert chooses(tiny_bundle, tmp_path / "store", precision="auto") == "full"


def test_int8_that_is_not_there_says_how_to_make_it(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """The server does not start."""
    with pytest.raises(BundleError, match="has no int8 backbone; `breadcrumbs export RUN --int8` makes one"):
        chooses(tiny_bundle, tmp_path / "store", precision="int8")


def test_auto_serves_whatever_it_measures(both: Bundle, tmp_path: Path) -> None:
    """A second server on the store takes the same, without measuring."""
    named = []
    for _ in range(2):
        with running(make_settings(both, tmp_path / "store", precision="auto")) as client:
            named.append(client.get("/readyz").json())

    assert named[0]["precision"] == named[1]["precision"]
    assert named[0]["backbone"] == both.of(named[0]["precision"]).backbone_digest


def test_backbones_that_cannot_run_are_told_in_one_sentence(both: Bundle, tmp_path: Path) -> None:
    """As where ONNX Runtime refuses a graph."""

    def broken(_full: Path, _int8: Path, _image: Pixels) -> float:
        raise RuntimeError("no such operator")

    async def main() -> None:
        store = Store.open(tmp_path / "store")
        await chosen(make_settings(both, tmp_path / "store", precision="auto"), both, store, Log(store), broken)

    with pytest.raises(EngineError, match=r"^ONNX Runtime cannot run the backbones of .*: no such operator"):
        asyncio.run(main())


@pytest.mark.parametrize("name", ["manifest.json", "backbone.onnx", "head.onnx"])
def test_a_damaged_bundle_inside_is_refused(name: str, both: Bundle, tmp_path: Path) -> None:
    """Its manifest by the digest in the outer one, its files by its own."""
    path = both.folder / "int8" / name
    path.write_bytes(path.read_bytes() + b" ")

    with pytest.raises(BundleError, match=f"{name} is damaged"):
        chooses(bundles.read(both.folder), tmp_path / "store", precision="int8")


@pytest.mark.parametrize("precision", ["full", "int8"])
def test_a_server_names_what_runs(
    precision: Any, both: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In its log, in /readyz, in features and in the snapshots that are made of them."""
    space = both.of(precision).backbone_digest
    with caplog.at_level(logging.INFO), running(make_settings(both, tmp_path / "store", precision=precision)) as client:
        ready = client.get("/readyz").json()
        sent = {"files": {"image": png(picture())}, "data": {"labels": '["oak"]', "epoch": "3"}}
        made = client.post("/v1/features", params={"format": "safetensors"}, **sent)
        record = client.get("/v1/heads").json()["heads"][0]

    assert (ready["precision"], ready["backbone"], record["backbone"]) == (precision, space, space)
    path = tmp_path / "made.safetensors"
    path.write_bytes(made.content)
    assert snapshots.read(path).backbone == space
    assert f"in {precision} precision" in caplog.text


def with_rows(folder: Path, backbone: bytes, seed: int, int8: Bundle | None = None) -> Bundle:
    """A tiny bundle with rows of its own space, and their points."""
    plain = write_bundle(folder, backbone)
    rows = np.random.default_rng(seed).normal(size=(6, 4)).astype(np.float32)
    scales = np.tile(np.linspace(-1, 1, STEPS, dtype=np.float32), (3, 1))
    points = Known(np.eye(4, dtype=np.float32), unit(rows), np.zeros(6, np.int64), scales)
    files = {name: (plain.folder / name).read_bytes() for name in plain.manifest.files} | {
        "snapshots/epoch-0002.safetensors": snapshots.to_bytes(
            Snapshot(rows, np.arange(6) % 3, CLASSES, plain.backbone_digest, 2)
        ),
        bundles.KNOWN: to_bytes(points, plain.head().digest),
    }
    return bundles.write(plain.folder, plain.manifest, files, int8)


@pytest.mark.parametrize("precision", ["full", "int8"])
def test_what_is_known_and_near_is_told_of_the_space_that_runs(precision: Any, tmp_path: Path) -> None:
    """Each space has its own points and rows; int8 answers by its own."""
    own = with_rows(tmp_path / "own", another_backbone(), 1)
    bundle = with_rows(tmp_path / "bundle", tiny_backbone(), 2, own)
    rows = np.asarray(bundle.of(precision).snapshots()[0].features, np.float32)

    with running(make_settings(bundle, tmp_path / "store", precision=precision, max_images=6)) as client:
        asked = {"known": True, "explain": 2}
        found = client.post("/v1/predict", params=asked, json={"features": rows.tolist()}).json()["predictions"]

    assert [one["known"] for one in found] == pytest.approx([1] * 6, abs=0.01)
    assert [one["nearest"][0]["row"] for one in found] == list(range(6))
    assert [one["nearest"][0]["distance"] for one in found] == pytest.approx([0] * 6, abs=1e-5)


def test_a_snapshot_of_the_float_space_is_of_another_space(both: Bundle, tmp_path: Path) -> None:
    """A server in int8 keeps it, and says so; one of its own space is of the deployed backbone."""
    with running(make_settings(both, tmp_path / "store", precision="int8")) as client:
        answers = [
            client.put("/v1/snapshots", content=snapshots.to_bytes(tiny_snapshot(own.backbone_digest))).json()
            for own in (both, both.of("int8"))
        ]

    assert [answer["deployed"] for answer in answers] == [False, True]


def test_heads_of_the_float_space_wait_in_the_store(both: Bundle, tmp_path: Path) -> None:
    """Whoever changes the precision begins with the bundle's head, and finds the old one on the way back."""
    store = tmp_path / "store"

    async def refitted() -> None:
        opened = Store.open(store)
        await lives.first(opened, both, Log(opened))
        record = await heads.add(opened, tiny_head(5), both, Lineage(), {})
        await Log(opened).append(record, "somebody", "better")

    asyncio.run(refitted())
    served = []
    for precision in ("int8", "full"):
        with running(make_settings(both, store, precision=precision)) as client:
            served.append(client.get("/readyz").json()["head"])

    assert served == [3, 2]
