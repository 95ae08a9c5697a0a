"""The linear head: its two files, and what is refused."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, external_data_helper, helper, numpy_helper
from safetensors.numpy import save
from scipy import special
from tiny import CLASSES, tiny_backbone, tiny_head

from breadcrumbs.models import head as heads
from breadcrumbs.models import printable
from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.errors import FormatError
from breadcrumbs.models.head import FORMAT, WITH_PRIOR, HeadError, LinearHead, ranked, ranked_rows, softmax

FLOATS = st.floats(allow_nan=False, allow_infinity=False, width=32)
LETTERS = st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]).filter(lambda one: not printable.defect(one))
NAMES = st.lists(st.text(LETTERS, min_size=1), min_size=1, max_size=5, unique=True)


@st.composite
def any_head(draw: st.DrawFn) -> LinearHead:
    """Any head that may be."""
    names = draw(NAMES)
    shape = (len(names), draw(st.integers(1, 4)))
    weight = draw(arrays.arrays(np.float32, shape, elements=FLOATS))
    own = draw(st.none() | arrays.arrays(np.float32, shape[:1], elements=FLOATS))
    return LinearHead(weight, draw(arrays.arrays(np.float32, shape[:1], elements=FLOATS)), tuple(names), own)


@settings(max_examples=50)
@given(head=any_head())
def test_both_files_give_the_head_back(head: LinearHead, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A head read from safetensors or ONNX has the same numbers, names and digest."""
    path = tmp_path_factory.getbasetemp() / "round-trip.safetensors"
    path.write_bytes(heads.to_bytes(head))

    for found in (heads.read(path), heads.from_onnx(heads.to_onnx(head))):
        assert found.classes == head.classes
        assert np.array_equal(found.weight, head.weight)
        assert np.array_equal(found.bias, head.bias)
        assert found.digest == head.digest


def test_digest_tells_heads_apart() -> None:
    """Another weight, bias, name or order of names is another digest; a strided array is not."""
    head = tiny_head()
    other_weight, other_bias = head.weight.copy(), head.bias.copy()
    other_weight[2, 3] += 1e-6
    other_bias[0] = 1
    others = [
        LinearHead(other_weight, head.bias, CLASSES),
        LinearHead(head.weight, other_bias, CLASSES),
        LinearHead(head.weight, head.bias, CLASSES[::-1]),
        LinearHead(head.weight, head.bias, ("oak", "elm", "yew")),
    ]
    fortran = LinearHead(np.asfortranarray(head.weight), head.bias, CLASSES)

    assert len({head.digest, *(other.digest for other in others)}) == 5
    assert fortran.digest == head.digest


def session_of(head: LinearHead) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(heads.to_onnx(head), providers=["CPUExecutionProvider"])


def test_onnx_runtime_gives_the_same_logits() -> None:
    """The ONNX file, run as it is, answers with what `logits` computes, for any number of rows."""
    head = tiny_head()
    session = session_of(head)

    for rows in (1, 5):
        features = np.random.default_rng(rows).normal(size=(rows, 4)).astype(np.float32)
        (logits,) = session.run(["logits"], {"feature": features})

        assert logits.shape == (rows, 3)
        assert np.allclose(logits, head.logits(features), atol=1e-5)
        assert np.allclose(
            logits, [[w @ f + b for w, b in zip(head.weight, head.bias, strict=True)] for f in features], atol=1e-5
        )


def test_another_head_is_bound_to_the_same_session() -> None:
    """A head with more classes runs in a session made for another, as inputs."""
    session = session_of(tiny_head())
    grown = tiny_head(seed=5, classes=(*CLASSES, "yew", "ash"))
    features = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)

    (logits,) = session.run(["logits"], {"feature": features, "weight": grown.weight, "bias": grown.bias})

    assert logits.shape == (2, 5)
    assert np.allclose(logits, grown.logits(features), atol=1e-5)


def test_logits_of_half_precision_are_float32() -> None:
    """Features of f16 are widened before the product."""
    head = LinearHead(np.full((1, 2), 60_000, np.float32), np.zeros(1, np.float32), ("a",))

    logits = head.logits(np.float16([[2, 2]]))

    assert logits.dtype == np.float32
    assert logits.tolist() == [[240_000.0]]


def f32(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


@pytest.mark.parametrize(
    ("weight", "bias", "classes", "words"),
    [
        (
            f32(3, 2),
            f32(3),
            ("a", "b"),
            "weight (3, 2), bias (3,) and 2 classes do not fit; expected (C, D), (C,) and C",
        ),
        (f32(2, 2), f32(3), ("a", "b"), "weight (2, 2), bias (3,)"),
        (f32(2, 2), f32(2, 1), ("a", "b"), "bias (2, 1)"),
        (f32(2), f32(2), ("a", "b"), "weight (2,)"),
        (f32(2, 2).astype(float), f32(2), ("a", "b"), "expected float32, got float64 and float32"),
        (f32(2, 2), f32(2).astype(np.float16), ("a", "b"), "expected float32, got float32 and float16"),
        (np.float32([[1, np.nan], [1, 1]]), f32(2), ("a", "b"), "not finite"),
        (f32(2, 2), np.float32([0, np.inf]), ("a", "b"), "not finite"),
        (f32(2, 2), f32(2), ("a", "a"), "class 'a' is empty or occurs twice"),
        (f32(2, 2), f32(2), ("a", ""), "class '' is empty or occurs twice"),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    weight: np.ndarray, bias: np.ndarray, classes: tuple[str, ...], words: str
) -> None:
    """A head whose parts disagree, or whose numbers or names cannot be, is never made."""
    with pytest.raises(HeadError) as caught:
        LinearHead(weight, bias, classes)

    assert words in str(caught.value)


GOOD = {"format": FORMAT, "classes": '["a", "b"]'}
OWN = GOOD | {"format": WITH_PRIOR}


@pytest.mark.parametrize(
    ("arrays", "metadata", "words"),
    [
        ({"weight": f32(2, 2), "bias": f32(2)}, {}, "breadcrumbs.head/1 or breadcrumbs.head/2, got None"),
        ({"weight": f32(2, 2), "bias": f32(2)}, GOOD | {"format": "breadcrumbs.head/3"}, "got 'breadcrumbs.head/3'"),
        ({"weight": f32(2, 2)}, GOOD, "expected tensors weight and bias, got weight"),
        ({"weight": f32(2, 2), "bias": f32(2)}, OWN, "expected tensors weight, bias and log_prior, got"),
        ({"weight": f32(2, 2), "bias": f32(2), "log_prior": f32(3)}, OWN, "expected float32 (2,), all of it finite"),
        ({"weight": f32(2, 2), "bias": f32(2), "log_prior": f32(2) - np.inf}, OWN, "all of it finite"),
        ({"weight": f32(2, 2), "bias": f32(2), "log_prior": f32(2)}, GOOD, "expected tensors weight and bias, got"),
        ({}, GOOD, "expected tensors weight and bias, got none"),
        ({"weight": f32(2, 2).astype(np.float64), "bias": f32(2)}, GOOD, "expected dtype F32, got 'F64'"),
        ({"weight": f32(2, 2), "bias": f32(2), "ids": f32(1)}, GOOD, "unexpected tensor 'ids'"),
        ({"weight": f32(2, 2), "bias": f32(2)}, {"format": FORMAT}, "'classes': expected a JSON list of names"),
        ({"weight": f32(2, 2), "bias": f32(2)}, GOOD | {"classes": "{}"}, "'classes': expected a JSON list of names"),
        ({"weight": f32(2, 2), "bias": f32(2)}, GOOD | {"classes": "[1, 2]"}, "'classes': expected a JSON list"),
        ({"weight": f32(2, 2), "bias": f32(2)}, GOOD | {"classes": "[" * 90_000}, "'classes': expected a JSON list"),
        ({"weight": f32(2, 2), "bias": f32(2)}, GOOD | {"classes": '["a"]'}, "1 classes do not fit"),
        ({"weight": f32(2, 2) * np.nan, "bias": f32(2)}, GOOD, "not finite"),
    ],
)
def test_files_that_are_no_head_are_refused(
    arrays: dict[str, np.ndarray], metadata: dict[str, str], words: str, tmp_path: Path
) -> None:
    """A safetensors file that is no head is a HeadError that says why."""
    (tmp_path / "head.safetensors").write_bytes(save(arrays, metadata))

    with pytest.raises(HeadError) as caught:
        heads.read(tmp_path / "head.safetensors")

    assert words in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"not a model at all", tiny_backbone()])
def test_other_onnx_is_no_head(data: bytes) -> None:
    """Bytes that are no ONNX model, or a model of something else, are refused as a head."""
    with pytest.raises(FormatError, match=r"not an ONNX model|expected a breadcrumbs head"):
        heads.from_onnx(data)


def changed_onnx(change: str) -> bytes:
    """The ONNX file of the tiny head with one thing wrong."""
    model = onnx.load_model_from_string(heads.to_onnx(tiny_head()))
    if change == "external weight":
        model.graph.initializer[0].data_location = TensorProto.EXTERNAL
        external_data_helper.set_external_data(model.graph.initializer[0], "../../etc/passwd")
    if change == "external constant":
        constant = helper.make_node("Constant", [], ["x"], value=numpy_helper.from_array(f32(1), "hidden"))
        constant.attribute[0].t.data_location = TensorProto.EXTERNAL
        branch = helper.make_graph([constant], "branch", [], [])
        model.graph.node.append(helper.make_node("If", ["x"], [], then_branch=branch, else_branch=branch))
    if change == "no bias":
        del model.graph.initializer[1]
    if change == "double weight":
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((3, 4)), "weight"))
    if change == "half of the weight":
        model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:24]
    if change == "unknown type":
        model.graph.initializer[0].data_type = 99
    if change == "not finite":
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(f32(3, 4) * np.nan, "weight"))
    if change == "no names":
        helper.set_model_props(model, {"format": FORMAT})
    if change == "another format":
        helper.set_model_props(model, {"format": "x", "classes": "[]"})
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("external weight", "ONNX tensor 'weight' is kept in another file; expected one single file"),
        ("external constant", "ONNX tensor 'hidden' is kept in another file; expected one single file"),
        ("no bias", "expected a breadcrumbs head with initialisers weight and bias"),
        ("double weight", "expected float32, got float64"),
        ("half of the weight", "head.onnx: weight or bias is damaged"),
        ("unknown type", "head.onnx: weight or bias is damaged"),
        ("not finite", "not finite"),
        ("no names", "'classes': expected a JSON list of names"),
        ("another format", "expected a breadcrumbs head"),
    ],
)
def test_a_changed_onnx_head_is_refused(change: str, words: str) -> None:
    """An ONNX head that keeps its numbers elsewhere, or lacks or bends some, is refused in its own words."""
    with pytest.raises(FormatError) as caught:
        heads.from_onnx(changed_onnx(change))

    assert words in str(caught.value)


SOUND = heads.to_onnx(tiny_head())


@given(place=st.integers(0, len(SOUND) - 1), byte=st.integers(0, 255))
def test_a_changed_byte_of_onnx_is_refused_or_read(place: int, byte: int) -> None:
    """Whatever byte of an ONNX head changes, reading gives a head or a FormatError, and nothing else."""
    changed = bytearray(SOUND)
    changed[place] = byte

    try:
        head = heads.from_onnx(bytes(changed))
    except FormatError:
        return

    assert len(head.classes) == len(head.weight)


def test_softmax_of_large_logits_is_finite() -> None:
    """No overflow, whatever the size of the logits."""
    found = softmax(np.array([[1e30, 0.0], [-1e30, 0.0], [1000.0, 1000.0]]))

    assert found.tolist() == [[1, 0], [0, 1], [0.5, 0.5]]


def test_softmax_is_that_of_scipy() -> None:
    """In float64, over the last axis, also of one row."""
    logits = np.random.default_rng(0).normal(0, 30, (5, 7)).astype(np.float32)

    assert np.allclose(softmax(logits), special.softmax(logits.astype(np.float64), 1), rtol=1e-12)
    assert np.array_equal(softmax(logits)[2], softmax(logits[2]))


@given(
    values=st.lists(st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 0.5, 3.0]), min_size=1, max_size=60).filter(
        lambda values: max(values) > -np.inf
    ),
    top_k=st.integers(1, 70),
)
def test_equal_logits_keep_the_order_of_the_classes(values: list[float], top_k: int) -> None:
    """As if all classes were sorted, however many are equal at the end of the list."""
    logits = np.array(values, np.float32)
    whole = sorted((-value, place) for place, value in enumerate(values) if value > -np.inf)[:top_k]

    found = ranked(logits, [f"class {place}" for place in range(len(values))], top_k)

    assert [one["index"] for one in found] == [place for _, place in whole]


@given(
    logits=arrays.arrays(
        np.float32, st.tuples(st.integers(1, 6), st.integers(1, 30)),
        elements=st.sampled_from([-np.inf, -1e30, -2.0, 0.0, 0.5, 1e30]) | st.floats(-50, 50, width=32),
    ),
    top_k=st.integers(1, 40),
)  # fmt: skip
def test_many_rows_are_ranked_as_each_alone(logits: Floats, top_k: int) -> None:
    """Ties and classes that cannot be, too."""
    logits[:, 0] = np.maximum(logits[:, 0], -1e30)  # some class can be
    classes = [f"class {place}" for place in range(logits.shape[1])]
    before = logits.copy()
    found = ranked_rows(logits, softmax(logits), classes, top_k)

    assert found == [ranked(row, classes, top_k) for row in logits]
    assert np.array_equal(logits, before)


def test_the_top_classes_are_ranked_as_the_interface_gives_them() -> None:
    """The most probable first, of equals the first; at most as many as there are."""
    logits = np.log(np.array([0.2, 0.4, 0.2, 0.2], np.float32))

    found = ranked(logits, ("a", "b", "c", "d"), 3)
    assert [(one["class"], one["index"]) for one in found] == [("b", 1), ("a", 0), ("c", 2)]
    assert [one["probability"] for one in found] == pytest.approx([0.4, 0.2, 0.2])
    assert len(ranked(logits, ("a", "b", "c", "d"), 99)) == 4
