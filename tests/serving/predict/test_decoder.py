"""Image files that are decoded by the thread that computes, and the engine with several such threads."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tiny import SIDE, expected_features, picture, png, tiny_backbone, tiny_head

from breadcrumbs.models.images.budget import Budget
from breadcrumbs.models.images.errors import ImageError
from breadcrumbs.models.images.preprocess import Preprocess
from breadcrumbs.serving.predict.decoder import Decoder, File
from breadcrumbs.serving.predict.engine import Engine, Row, Scores

TRANSFORM = Preprocess(height=SIDE, width=SIDE, mean=(0, 0, 0), std=(1, 1, 1))


@pytest.fixture(scope="module")
def engine() -> Engine:
    """An engine of three threads."""
    return Engine(tiny_backbone, tiny_head(), 1, (SIDE, SIDE), "cpu", 3)


def test_a_file_gives_what_its_pixels_give(engine: Engine) -> None:
    """Files and rows may be mixed in a batch; each result is at its item's place, each decoding is told."""
    told: list[float] = []
    decoder = Decoder(TRANSFORM, 100, Budget(), engine.compute, told.append)
    other = engine.bind(5, tiny_head(5))

    scores = decoder.compute([Row(picture(0)), File(png(picture(1))), File(png(picture(2)), other)])

    assert all(isinstance(one, Scores) for one in scores)
    found = [one for one in scores if isinstance(one, Scores)]
    features = expected_features(np.stack([picture(seed) for seed in range(3)]))
    np.testing.assert_allclose(np.stack([one.feature for one in found]), features, atol=1e-5)
    assert [one.head.version for one in found] == [1, 1, 5]
    assert len(told) == 2


def test_a_file_that_cannot_be_decoded_fails_alone(engine: Engine) -> None:
    """Its result is the error, by its name where it has one; the model sees the others only, if there are any."""
    seen: list[int] = []

    def compute(rows: Sequence[Row]) -> list[Scores]:
        seen.append(len(rows))
        return engine.compute(rows)

    decoder = Decoder(TRANSFORM, SIDE * SIDE, Budget(), compute)
    large = png(np.zeros((SIDE + 1, SIDE, 3), np.uint8))

    one, bad, huge = decoder.compute([File(png(picture())), File(b"no image", name="image 2 of 3"), File(large)])
    alone = decoder.compute([File(b"")])

    assert isinstance(one, Scores)
    assert isinstance(bad, ImageError)
    assert str(bad).startswith("image 2 of 3: ")
    assert "the limit is 64" in str(huge)
    assert isinstance(alone[0], ImageError)
    assert seen == [1]


def test_threads_side_by_side_give_what_one_gives(engine: Engine) -> None:
    """Lone images and batches, on either session, from several threads at a time: the numbers are numpy's."""
    pictures = [[picture(seed) for seed in range(start, start + size)] for start in range(40) for size in (1, 3)]

    with ThreadPoolExecutor(engine.workers) as threads:
        found = list(threads.map(lambda some: engine.compute([Row(one) for one in some]), pictures))

    assert engine.workers == 3
    for some, scores in zip(pictures, found, strict=True):
        features = np.stack([one.feature for one in scores])
        np.testing.assert_allclose(features, expected_features(np.stack(some)), atol=1e-5)
        np.testing.assert_allclose(np.stack([one.logits for one in scores]), tiny_head().logits(features), atol=1e-5)
