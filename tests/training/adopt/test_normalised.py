"""Whether a graph normalises its pixels itself."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx.helper import make_node
from onnx_backbones import adopted, backbone, images, plain, saved

from breadcrumbs.training.adopt.config import BackboneConfig
from breadcrumbs.training.adopt.normalised import white
from breadcrumbs.training.adopt.onnx_graph import open_onnx


def reckoning(*steps: tuple[str, Any], channels_first: bool = True, constant: bool = False) -> Any:
    """A backbone that begins with a reckoning: each step an operator with a number, or one for each channel."""
    model = backbone(channels_first=channels_first)
    rest = list(model.graph.node)
    name, nodes = "input", []
    for place, (operator, value) in enumerate(steps):
        values = np.array(value, np.float32)
        if values.size == 3:
            values = values.reshape((1, 3, 1, 1) if channels_first else (3,))
        number = numpy_helper.from_array(values, f"number {place}")
        if constant:
            nodes.append(make_node("Constant", [], [number.name], value=number))
        else:
            model.graph.initializer.append(number)
        nodes.append(make_node(operator, [name, number.name], [f"step {place}"]))
        name = f"step {place}"
    rest[0].input[0] = name
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])
    return model


MEANS = [0.485, 0.456, 0.406]
STDS = [0.229, 0.224, 0.225]


@pytest.mark.parametrize("channels_first", [True, False])
@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([], None),
        ([("Mul", 1 / 255)], 255),
        ([("Div", 127.5), ("Sub", 1.0)], 255),
        ([("Div", 255.0), ("Sub", MEANS), ("Div", STDS)], 255),
        ([("Sub", [103.9, 116.8, 123.7])], 255),
        ([("Sub", MEANS), ("Div", STDS)], 1),
        ([("Mul", 2.0), ("Add", -1.0)], 1),
        ([("Mul", [0.458, 0.448, 0.45]), ("Add", [-0.03, -0.088, -0.188])], None),  # a correction, as in Inception
        ([("Div", 0.0)], None),
        ([("Mul", float("nan"))], None),
    ],
)
def test_the_beginning_tells(steps: list[Any], expected: int | None, constant: bool, channels_first: bool) -> None:
    """Which value of white a graph expects, or that it does not normalise."""
    graph = reckoning(*steps, constant=constant, channels_first=channels_first).graph

    assert white(graph, "input") == expected


@pytest.mark.parametrize(
    ("steps", "scale"),
    [([("Div", 255.0), ("Sub", MEANS), ("Div", STDS)], 255), ([("Sub", MEANS), ("Div", STDS)], 1)],
)
def test_it_is_not_done_twice(steps: list[Any], scale: int, tmp_path: Path) -> None:
    """Pixels come to such a graph on its own scale, and a note says so; --mean and --std overrule it."""
    model = reckoning(*steps)
    path = saved(model, tmp_path)
    expected = plain(model, images(), np.zeros(3), np.full(3, 1 / scale))

    found = open_onnx(path, BackboneConfig())
    forced = open_onnx(path, BackboneConfig(mean=(0.5,) * 3, std=(0.5,) * 3))

    assert np.abs(adopted(found.model, images()) - expected).max() <= 1e-4 * np.abs(expected).max()
    assert any("normalises" in note for note in found.notes)
    assert forced.preprocess.mean == (0.5, 0.5, 0.5)


@given(
    mean=st.lists(st.floats(0.2, 0.8), min_size=3, max_size=3),
    std=st.lists(st.floats(0.1, 0.9), min_size=3, max_size=3),
)
def test_any_usual_mean_and_deviation_is_recognised(mean: list[float], std: list[float]) -> None:
    """On both scales of pixels."""
    wide = [("Sub", [255 * value for value in mean]), ("Div", [255 * value for value in std])]

    assert white(reckoning(("Sub", mean), ("Div", std)).graph, "input") == 1
    assert white(reckoning(*wide).graph, "input") == 255
    assert white(helper.make_graph([], "empty", [], []), "input") is None
