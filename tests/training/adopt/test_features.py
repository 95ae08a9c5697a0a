"""Features of images, once: what is computed, what is found again, and what happens when something fails midway."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from breadcrumbs.models.arrays import Pixels
from breadcrumbs.models.images.preprocess import Preprocess
from breadcrumbs.training.adopt.features import Extractor
from breadcrumbs.training.adopt.opened import AdoptError, Opened
from breadcrumbs.training.data.dataset import DataError
from breadcrumbs.training.data.split import Split

ROWS, SIDE = 40, 8
PLAIN = Preprocess(height=SIDE, width=SIDE, mean=(0, 0, 0), std=(1, 1, 1))


def graph(operator: str = "ReduceMean") -> bytes:
    """`image` -> the mean of each colour; with another operator something else."""
    nodes = [
        helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=0),
        helper.make_node(*(("Identity", ["mean"]) if operator == "ReduceMean" else (operator, ["mean"])), ["feature"]),
    ]
    made = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("feature", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2])],
    )  # fmt: skip
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()


def opened(operator: str = "ReduceMean") -> Opened:
    return Opened("mean", graph(operator), PLAIN, 3)


def split(seed: int = 0) -> Split:
    pixels = np.random.default_rng(seed).integers(1, 256, (ROWS, SIDE, SIDE, 3), dtype=np.uint8)
    return Split(np.arange(ROWS) % 2, np.arange(ROWS), pixels=pixels)


@dataclass(frozen=True, eq=False)
class Breaks(Split):
    """A split whose images cannot be read from some row on."""

    at: int = 25

    def fitted(self, row: int, preprocess: Preprocess) -> Pixels:
        """Return an image before `at`."""
        if row >= self.at:
            raise DataError(f"image {row} is gone")
        return super().fitted(row, preprocess)


@pytest.mark.parametrize("batch", [1, 7, 16, 100])
def test_features_are_in_the_order_of_the_images(tmp_path: Path, batch: int) -> None:
    """Whatever the batch; the second time from the cache."""
    own = split()
    assert own.pixels is not None
    first, again = Extractor(opened(), tmp_path, batch), Extractor(opened(), tmp_path, batch)

    features, digests = first.clean(own, "images")

    assert np.allclose(features, own.pixels.mean((1, 2)), atol=1e-3)
    assert np.array_equal(again.clean(own, "images")[0], features)
    assert (first.computed, again.computed) == (ROWS, 0)
    assert len(set(digests)) == ROWS


def test_what_was_computed_before_a_failure_is_kept(tmp_path: Path) -> None:
    """The next run goes on; what was not yet a whole batch is computed again."""
    own = split()
    broken = Breaks(own.labels, own.ids, own.pixels)

    with pytest.raises(DataError, match="image 25 is gone"):
        Extractor(opened(), tmp_path, 10).clean(broken, "images")

    again = Extractor(opened(), tmp_path, 10)
    again.clean(own, "images")
    assert again.computed == ROWS - 20


def test_equal_images_are_one(tmp_path: Path) -> None:
    """In another split, in another order, under other labels."""
    own = split()
    Extractor(opened(), tmp_path, 8).clean(own, "images")
    again = Extractor(opened(), tmp_path, 8)

    features, _ = again.clean(own.take(np.arange(ROWS)[::-1]), "images")

    assert again.computed == 0
    assert own.pixels is not None
    assert np.allclose(features, own.pixels.mean((1, 2))[::-1], atol=1e-3)


@pytest.mark.parametrize("change", ["graph", "preprocessing"])
def test_another_space_has_features_of_its_own(tmp_path: Path, change: str) -> None:
    """Another graph, or other pixels for the same one."""
    Extractor(opened(), tmp_path, 8).clean(split(), "images")
    other = opened("Sqrt") if change == "graph" else Opened("mean", graph(), PLAIN.model_copy(update={"resize": 9}), 3)
    again = Extractor(other, tmp_path, 8)

    again.clean(split(), "images")

    assert again.computed == ROWS


def test_a_feature_that_is_not_finite_names_its_image(tmp_path: Path) -> None:
    """Log 0 of a black image."""
    own = split()
    assert own.pixels is not None
    own.pixels[33] = 0

    with pytest.raises(AdoptError, match="image 33: the backbone's feature is not finite"):
        Extractor(opened("Log"), tmp_path, 8).clean(own, "images")
