"""ONNX files of every kind become one graph, and those that cannot are refused in one sentence."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.helper import make_node, make_tensor_value_info
from onnx_backbones import SHAPES, SIDE, WIDTH, adopted, backbone, images, plain, pooled, saved

from breadcrumbs.models.head import IR_VERSION, parse_onnx
from breadcrumbs.training.adopt.config import BackboneConfig
from breadcrumbs.training.adopt.onnx_graph import check, open_onnx, operators
from breadcrumbs.training.adopt.opened import AdoptError, Opened

MEAN, STD = (0.1, 0.5, 0.8), (0.2, 0.3, 0.4)
FLOAT = BackboneConfig(mean=MEAN, std=STD)
NAMES = ["image", "feature", "input", "pixels", "scale", "backbone/image", "Bild für Ω", "n" * 60]


def refused(model: Any, folder: Path, wish: BackboneConfig = FLOAT) -> str:
    """The sentence that a model is refused with."""
    path = saved(model, folder)
    with pytest.raises(AdoptError) as error:
        open_onnx(path, wish)
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 800
    return text


def opened(model: Any, folder: Path, wish: BackboneConfig = FLOAT) -> Opened:
    """A model that was written and opened."""
    return open_onnx(saved(model, folder), wish)


@settings(max_examples=60)
@given(
    kind=st.sampled_from(sorted(SHAPES)),
    channels_first=st.booleans(),
    element=st.sampled_from(["float32", "float16", "uint8"]),
    batch=st.sampled_from(["batch", "", 1]),
    names=st.lists(st.sampled_from(NAMES), min_size=2, max_size=2, unique=True),
    opset=st.sampled_from([11, 13, 17, 18, 21]),
    count=st.integers(1, 5),
)
def test_every_kind_gives_what_the_original_gives(
    kind: str, channels_first: bool, element: str, batch: Any, names: list[str], opset: int, count: int
) -> None:
    """Layout, type, batch, output and names may be any: the composed graph gives the original's pooled features."""
    model = backbone(
        kind, channels_first=channels_first, element=element, batch=batch, given=names[0], output=names[1], opset=opset
    )
    wish = BackboneConfig() if element == "uint8" else FLOAT
    pixels = images(count)
    with tempfile.TemporaryDirectory() as folder:
        path = saved(model, Path(folder))
        found = open_onnx(path, wish)
        apart = check(found, path, wish, pixels)
    expected = pooled(kind, plain(model, pixels, MEAN, STD))
    features = adopted(found.model, pixels)

    assert features.dtype == np.float32
    assert features.shape == (count, WIDTH) == (count, found.feature_dim)
    assert np.abs(features - expected).max() <= 2e-3 * np.abs(expected).max()
    assert apart <= 1e-3
    onnx.checker.check_model(onnx.load_from_string(found.model), full_check=True)


@pytest.mark.parametrize("element", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("kind", ["tokens", "class token"])
@pytest.mark.parametrize("batch", [1, "batch"])
def test_one_image_at_a_time_becomes_a_loop(kind: str, element: str, batch: Any, tmp_path: Path) -> None:
    """A graph that a constant inside fixes to one image runs in a Scan, also where it claims to take any number."""
    model = backbone(kind, batch=batch, element=element, fixed=True)
    wish = BackboneConfig() if element == "uint8" else FLOAT

    found = opened(model, tmp_path, wish)
    expected = pooled(kind, plain(model, images(3), MEAN, STD))

    assert operators(found.model)["Scan"] == 1
    assert np.abs(adopted(found.model, images(3)) - expected).max() <= 2e-3 * np.abs(expected).max()
    assert any("loop" in note for note in found.notes)


def test_a_batch_of_one_is_freed_where_that_is_the_same(tmp_path: Path) -> None:
    """No loop is made where the graph itself gives the same for several images."""
    found = opened(backbone(batch=1), tmp_path)

    assert "Scan" not in operators(found.model)
    assert any("made free" in note for note in found.notes)


def test_an_adopted_graph_can_be_adopted_again(tmp_path: Path) -> None:
    """The result is itself an ONNX backbone that takes uint8 pixels; no name clashes."""
    once = opened(backbone(), tmp_path)
    path = tmp_path / "again.onnx"
    path.write_bytes(once.model)
    twice = open_onnx(path, BackboneConfig())

    assert np.array_equal(adopted(once.model, images()), adopted(twice.model, images()))
    assert twice.preprocess.mean == (0, 0, 0)


@pytest.mark.parametrize("batch", [1, "batch"])
def test_subgraphs_see_the_names_around_them(batch: Any, tmp_path: Path) -> None:
    """An `If` whose branches read a value and a constant of the outer graph is composed with its names intact."""
    model = backbone("planes", batch=batch)
    branch = helper.make_graph(
        [make_node("Mul", ["relu", "two"], ["feature"])], "branch", [],
        [make_tensor_value_info("feature", TensorProto.FLOAT, None)],
    )  # fmt: skip
    del model.graph.node[-1]
    model.graph.node.append(make_node("If", ["yes"], ["output"], then_branch=branch, else_branch=branch))
    model.graph.initializer.append(numpy_helper.from_array(np.array(2, np.float32), "two"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    expected = plain(model, images(), MEAN, STD).mean((2, 3))

    found = opened(model, tmp_path)

    assert np.allclose(adopted(found.model, images()), expected, rtol=1e-4, atol=1e-5)


def test_weights_may_lie_beside_the_file(tmp_path: Path) -> None:
    """External data in the same folder are taken into the one file."""
    path = tmp_path / "backbone.onnx"
    onnx.save(backbone(), path, save_as_external_data=True, location="backbone.weights", size_threshold=0)
    found = open_onnx(path, FLOAT)

    parse_onnx(found.model)  # refuses numbers in other files
    assert np.allclose(adopted(found.model, images()), adopted(opened(backbone(), tmp_path / "b").model, images()))
    assert check(found, path, FLOAT, images()) <= 1e-6


@pytest.mark.parametrize("location", ["../weights", "/etc/hostname", "missing", "", "link", "a\0b", "\x1b[2J/../../x"])
def test_weights_elsewhere_are_refused(location: str, tmp_path: Path) -> None:
    """Other folders, links out of the folder and files that are missing are named, and not read."""
    (tmp_path / "weights").write_bytes(bytes(10_000))
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "weights")
    model = backbone()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)

    path = folder / "backbone.onnx"
    path.write_bytes(model.SerializeToString())
    said = "put that file beside it" if location == "missing" else "outside its folder"
    with pytest.raises(AdoptError, match=said) as error:
        open_onnx(path, FLOAT)

    assert "\n" not in str(error.value)
    assert "\x1b" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x0a" * 1000, None])
def test_files_that_are_no_models_are_refused(content: bytes | None, tmp_path: Path) -> None:
    """Empty, damaged and missing files, and folders, give one sentence."""
    path = tmp_path / "backbone.onnx"
    if content is not None:
        path.write_bytes(content)
    for wrong in (path, tmp_path):
        with pytest.raises(AdoptError, match=r"export|name a file") as error:
            open_onnx(wrong, BackboneConfig())

        assert "\n" not in str(error.value)


def test_a_file_of_no_bytes_is_named(tmp_path: Path) -> None:
    """Protobuf reads nothing as a model without anything; the sentence names the file, and speaks of no opset."""
    path = tmp_path / "nothing.onnx"
    path.touch()

    with pytest.raises(AdoptError, match=r"nothing\.onnx has no operator; expected an ONNX model"):
        open_onnx(path, BackboneConfig())


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    """Wherever a file ends early, the answer is a sentence."""
    data = backbone().SerializeToString()
    path = tmp_path / "backbone.onnx"
    for end in range(1, len(data) - 1, max(1, len(data) // 25)):
        path.write_bytes(data[:end])
        with pytest.raises(AdoptError) as error:
            open_onnx(path, FLOAT)

        assert "\n" not in str(error.value)


@settings(max_examples=40, derandomize=True)
@given(place=st.integers(0), byte=st.integers(0, 255), kind=st.sampled_from(sorted(SHAPES)))
def test_a_changed_byte_is_refused_or_harmless(place: int, byte: int, kind: str) -> None:
    """Wherever a file is damaged, it opens or is refused in one line."""
    data = bytearray(backbone(kind).SerializeToString())
    data[place % len(data)] = byte
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "backbone.onnx"
        path.write_bytes(bytes(data))
        try:
            told = open_onnx(path, FLOAT).notes
        except AdoptError as error:
            told = (str(error),)

    assert all(text.isprintable() for text in told)


def test_the_exporters_paths_are_forgotten(tmp_path: Path) -> None:
    """Stack traces that an exporter wrote do not come into the bundle."""
    model = backbone()
    model.graph.node[0].doc_string = model.doc_string = "/home/someone/model.py"
    model.graph.node[1].metadata_props.add(key="trace", value="/home/someone/model.py")

    assert b"someone" not in opened(model, tmp_path).model


@pytest.mark.parametrize("version", [3, 8, 10, 11])
def test_the_ir_version_is_ours_or_the_originals(version: int, tmp_path: Path) -> None:
    """An older graph becomes one of our version, a newer one keeps its own."""
    model = backbone()
    model.ir_version = version
    if version == 3:  # constants had to be inputs too
        for tensor in model.graph.initializer:
            model.graph.input.append(make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))

    assert parse_onnx(opened(model, tmp_path).model).ir_version == max(version, IR_VERSION)


def test_what_was_done_is_told(tmp_path: Path) -> None:
    """Notes have the input, the output and the pixels; of the graph's size `adopt` tells, whatever the backbone was."""
    found = opened(backbone("class token"), tmp_path)
    told = "; ".join(found.notes)

    for words in ("'input' float32 (batch, 3, 8, 8)", "'output' float32 (N, 17, 5)", "first token"):
        assert words in told
    assert found.name == "onnx:backbone.onnx"
    assert (found.preprocess.height, found.preprocess.width) == (SIDE, SIDE)


def test_wrong_numbers_are_found(tmp_path: Path) -> None:
    """`check` refuses a composed graph that gives other features than the file."""
    path = saved(backbone(), tmp_path)
    other = open_onnx(path, BackboneConfig(mean=MEAN, std=(1.0, 1.0, 1.0)))

    with pytest.raises(AdoptError, match="differ by"):
        check(other, path, FLOAT, images())
    with pytest.raises(AdoptError, match="expected uint8"):
        check(other, path, FLOAT, images(side=9))
    with pytest.raises(AdoptError, match="expected uint8"):
        check(other, path, FLOAT, images(0))


def with_nodes(*nodes: Any, **changes: Any) -> Any:
    """A backbone with more nodes between `conv` and `relu`; the last writes `relu`."""
    model = backbone(**changes)
    place = next(n for n, node in enumerate(model.graph.node) if node.op_type == "Relu")
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*rest[:place], *nodes, *rest[place + 1 :]])
    return model


def with_operator() -> Any:
    """A backbone with an operator of somebody's own."""
    model = with_nodes(make_node("Odd", ["conv"], ["relu"], domain="com.example"))
    model.opset_import.add(domain="com.example", version=1)
    return model


def with_second_input() -> Any:
    """A backbone that asks for words too, as CLIP does."""
    model = backbone()
    model.graph.input.append(make_tensor_value_info("input_ids", TensorProto.INT64, ["n", 77]))
    return model


def of_opset(version: int) -> Any:
    """A backbone that says another opset."""
    model = backbone()
    model.opset_import[0].version = version
    return model


def half_input(side: int = SIDE) -> Any:
    """A backbone whose numbers are float64."""
    model = backbone(side=side)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    return model


NOT_FINITE = [make_node("Log", ["conv"], ["log"]), make_node("Sqrt", ["log"], ["relu"])]
BESIDE = [
    make_node("ReduceMean", ["conv"], ["beside"], axes=[0], keepdims=1),
    make_node("Sub", ["conv", "beside"], ["relu"]),
]
ALL_SAME = [make_node("Sub", ["conv", "conv"], ["zero"]), make_node("Cos", ["zero"], ["relu"])]
CHANCE = [make_node("RandomNormalLike", ["conv"], ["relu"])]


@pytest.mark.parametrize(
    ("model", "wish", "said", "remedy"),
    [
        (backbone(batch=4), FLOAT, "exactly 4 images", "free batch"),
        (with_second_input(), FLOAT, "input_ids", "export only the part"),
        (half_input(), FLOAT, "float64", "export only the part"),
        (backbone(channels=1), FLOAT, "1 channels", "colour images"),
        (backbone(), BackboneConfig(size=9), "--size says 9 × 9", "--size 8"),
        (backbone(), BackboneConfig(output="other"), "'output' float32 (N, 5)", "--output"),
        (backbone(), BackboneConfig(pool="cls"), "needs tokens", "leave --pool out"),
        (backbone("planes"), BackboneConfig(pool="cls"), "needs tokens", "leave --pool out"),
        (backbone(extra=("other",)), FLOAT, "'other' float32 (N, 5)", "--output"),
        (backbone(element="uint8"), FLOAT, "pixels as they are", "leave --mean"),
        (with_operator(), FLOAT, "com.example.Odd", "without them"),
        (of_opset(5), FLOAT, "opset 5", "version_converter"),
        (of_opset(999), FLOAT, "cannot open", "export the backbone again"),
        (with_nodes(*NOT_FINITE), FLOAT, "not finite", "export the backbone in float32"),
        (with_nodes(*BESIDE), FLOAT, "beside it", "model.eval()"),
        (with_nodes(*CHANCE), FLOAT, "from run to run", "model.eval()"),
        (with_nodes(*ALL_SAME), FLOAT, "same features", "check --output"),
    ],
)
def test_what_cannot_be_adopted(model: Any, wish: BackboneConfig, said: str, remedy: str, tmp_path: Path) -> None:
    """One sentence says what came, and what to do."""
    text = refused(model, tmp_path, wish)

    assert said in text
    assert remedy in text


def test_a_quantised_graph_is_compared_fairly(tmp_path: Path) -> None:
    """Where a pixel's last bit decides how it is rounded, the file and the composed graph still round alike."""
    step, zero = numpy_helper.from_array(np.array(2 / 255, np.float32), "step"), np.array(0, np.uint8)
    model = backbone()
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    conv.input[0] = "rounded"
    model.graph.initializer.extend([step, numpy_helper.from_array(zero, "zero")])
    model.graph.node.insert(2, make_node("QuantizeLinear", ["cast", "step", "zero"], ["small"]))
    model.graph.node.insert(3, make_node("DequantizeLinear", ["small", "step", "zero"], ["rounded"]))
    path, wish = saved(model, tmp_path), BackboneConfig(mean=(0.0,) * 3, std=(1.0,) * 3)

    assert check(open_onnx(path, wish), path, wish, images(8)) <= 1e-6
