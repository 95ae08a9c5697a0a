"""The demo's stream: photos come, wrong answers are corrected by their ids, and heads learn, with real refits."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from running import make_settings, running
from tiny import SIDE, expected_features, png, tiny_backbone

from breadcrumbs.demo.photos import NEW, Photo, Photos
from breadcrumbs.demo.recognised import recognised
from breadcrumbs.demo.stream import stream
from breadcrumbs.models import bundle as bundles
from breadcrumbs.models import head as heads
from breadcrumbs.models.bundle import Bundle, Manifest
from breadcrumbs.models.head import LinearHead
from breadcrumbs.models.images.preprocess import Preprocess
from breadcrumbs.models.snapshots import snapshot as snapshots
from breadcrumbs.models.snapshots.snapshot import Snapshot
from breadcrumbs.serving.app import REFIT
from breadcrumbs.serving.client.client import Client

TRAINED = {"red": 40, "green": 25, "blue": 12}
COLOURS = {"red": (90, 0, 0), "green": (0, 90, 0), "blue": (0, 0, 90), NEW: (60, 60, 60)}
RNG = np.random.default_rng(0)


def pictures(name: str, count: int) -> NDArray[np.uint8]:
    """So many images of a class (N, 8, 8, 3): its colour under noise."""
    return (RNG.integers(0, 140, (count, SIDE, SIDE, 3)) + COLOURS[name]).astype(np.uint8)


def photos(name: str, count: int) -> list[Photo]:
    """The same as files."""
    return [Photo(png(pixels), name) for pixels in pictures(name, count)]


def rows(counts: dict[str, int], backbone: str, dataset: str) -> Snapshot:
    """Features of images of the trained classes, with ids."""
    features = np.concatenate([expected_features(pictures(name, count)) for name, count in counts.items()])
    labels = np.repeat(np.arange(len(counts)), list(counts.values()))
    return Snapshot(features, labels, tuple(counts), backbone, 1, ids=np.arange(len(labels)), dataset=dataset)


@pytest.fixture(scope="module")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle that knows three colours; its head goes by the nearest mean."""
    means = np.stack([expected_features(pictures(name, 100)).mean(0) for name in TRAINED])
    head = LinearHead(300 * means, -150 * (means**2).sum(1), tuple(TRAINED))
    manifest = Manifest(
        name="colours", architecture="mean-colour", feature_dim=4, classes=tuple(TRAINED),
        train_counts=tuple(TRAINED.values()),
        preprocess=Preprocess(height=SIDE, width=SIDE, mean=(0, 0, 0), std=(1, 1, 1)),
    )  # fmt: skip
    files = {"backbone.onnx": tiny_backbone(), "head.onnx": heads.to_onnx(head)}
    folder = tmp_path_factory.mktemp("colours")
    digest = bundles.write(folder / "plain", manifest, files).backbone_digest
    files["snapshots/epoch-0001.safetensors"] = snapshots.to_bytes(rows(TRAINED, digest, "1" * 64))
    files["holdout.safetensors"] = snapshots.to_bytes(rows(dict.fromkeys(TRAINED, 20), digest, "2" * 64))
    return bundles.write(folder / "bundle", manifest, files)


def test_a_class_that_nobody_trained_is_learned_from_corrections(coloured: Bundle, tmp_path: Path) -> None:
    """Right answers are not labelled; of three corrected photos a head is made that the gate lets go live."""
    arriving = [photo for name in COLOURS for photo in photos(name, 6)]
    arriving = [arriving[place] for place in np.random.default_rng(1).permutation(len(arriving))]
    dealt = Photos(TRAINED, arriving, [photo for name in COLOURS for photo in photos(name, 20)])
    settings = make_settings(coloured, tmp_path / "store", remember=100, max_images=50)
    with running(settings, command=REFIT) as http, Client(str(http.base_url)) as client:
        steps = stream(client, dealt.arriving, lambda: recognised(client, dealt), every=3)
        before, after = islice(steps, 2)
        kept, live = client.examples(), client.heads().live

    assert (before.corrections, before.gate, before.recognised.head) == (0, None, 1)
    assert not before.recognised.knows
    assert before.recognised.recalls[NEW] == 0
    assert sum(before.recognised.new_as.values()) == 20
    assert (after.gate, after.recognised.head, live) == ("yes", 2, 2)
    assert after.recognised.knows
    assert after.recognised.recalls[NEW] > 0.8
    assert after.recognised.recalls["all"] > 0.9
    assert after.corrections == after.new == len(kept) == 3
    assert sum(photo.cls == NEW for photo in arriving[: after.photos]) == 3
    assert {(one.cls, one.verified, one.source.partition(":")[0]) for one in kept} == {(NEW, True, "answer")}
