"""The search: speed first, then recall, then layers in float, within its time."""

import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from small_graphs import graph, pictures

from breadcrumbs.models.arrays import Pixels
from breadcrumbs.models.groups import groups
from breadcrumbs.training.export import run_onnx
from breadcrumbs.training.int8.quantizer import Quantizer
from breadcrumbs.training.int8.search import Reference, Tried, search
from breadcrumbs.training.refit.without_training import nearest_class_mean

CLASSES = 4


def searched(
    folder: Path, speeds: list[float], *, spoilt: bool = False, layers: int = 6, seconds: float = 60.0
) -> list[Tried]:
    """Search for a graph with speeds as given; `spoilt` judges by features that no int8 graph can give."""
    labels = np.arange(40) % CLASSES
    light = (pictures(40) * ((1 + labels) / CLASSES)[:, None, None, None]).astype(np.uint8)  # a class is a brightness
    full, images = graph(layers), [torch.from_numpy(light)]
    features = run_onnx(full, images)
    head = nearest_class_mean(features, labels, tuple("abcd"))
    quantizer = Quantizer(full, (batch.numpy() for batch in images), folder)
    left = list(speeds)

    def speed(_slow: bytes, _fast: bytes, image: Pixels) -> float:
        assert image.ndim == 3
        return left.pop(0)

    judged = [torch.zeros_like(images[0])] if spoilt else images
    own = groups([200, 100, 50, 5], "A")
    reference = Reference(full, features, labels, lambda: judged, head, own, speed)
    return search(quantizer, reference, images, time.monotonic() + seconds)


def test_what_is_fast_and_costs_little_is_taken_at_once(tmp_path: Path) -> None:
    """With no layer in float."""
    (only,) = searched(tmp_path, [1.2])

    assert only.refusal is None
    assert only.floats == ()
    assert only.features is not None
    assert only.as_dict()["times_as_fast"] == 1.2
    assert "layers in float" in only.verdict()


@pytest.mark.parametrize("ratio", [0.4, 1.19, float("nan")])
def test_what_is_too_slow_is_not_judged(ratio: float, tmp_path: Path) -> None:
    """More layers in float would be slower still, so it ends."""
    (only,) = searched(tmp_path, [ratio])

    assert only.features is None
    assert str(only.refusal).endswith("times as fast as in float on this machine; expected 1.2 times")


def test_layers_are_left_in_float_while_it_costs_too_much(tmp_path: Path) -> None:
    """1, 2, 4 of 6; then no more would be in int8."""
    tries = searched(tmp_path, [2.0] * 4, spoilt=True)

    assert [len(one.floats) for one in tries] == [0, 1, 2, 4]
    assert all(set(few.floats) <= set(more.floats) for few, more in pairwise(tries))
    assert all("recall changes by" in str(one.refusal) for one in tries)


def test_it_ends_where_layers_in_float_make_it_too_slow(tmp_path: Path) -> None:
    """The last try says so."""
    tries = searched(tmp_path, [2.0, 1.3, 1.1], spoilt=True)

    assert [one.speed for one in tries] == [2.0, 1.3, 1.1]
    assert "1.10 times as fast" in str(tries[-1].refusal)


def test_it_ends_when_the_time_is_up(tmp_path: Path) -> None:
    """The first try is made whatever the time."""
    assert len(searched(tmp_path, [2.0], spoilt=True, seconds=0.0)) == 1
