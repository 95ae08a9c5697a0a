"""The bytes of the Open Inference Protocol, without a server: what is read, what is refused, what is written."""

import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from infer_bytes import elements, read

from breadcrumbs.serving.http.open_inference.request import HEADER, InferRequest, Wanted, decode
from breadcrumbs.serving.http.open_inference.response import encode
from breadcrumbs.serving.http.open_inference.tensors import Declared, Malformed
from breadcrumbs.serving.refusals import TooLarge

OUTPUTS = ("feature", "logits", "probabilities")
MOST = 64
PIXELS = Declared("image", "UINT8", (-1, 2, 2, 3))
FILES = Declared("image", "BYTES", (-1,))
IMAGE = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)


def tensor(**change: Any) -> dict[str, Any]:
    """A good input, but for what is changed; a value of none takes a field away."""
    found = {"name": "image", "shape": [2, 2, 2, 3], "datatype": "UINT8", "data": IMAGE.ravel().tolist()} | change
    return {name: value for name, value in found.items() if value is not None}


def body(*inputs: dict[str, Any], raw: bytes = b"", **more: Any) -> tuple[bytes, str | None]:
    """The bytes of a request and its header; the header is only there with raw bytes."""
    text = json.dumps({"inputs": list(inputs or (tensor(),)), **more}).encode()
    return text + raw, str(len(text)) if raw else None


def binary(size: int = 24, raw: bytes = IMAGE.tobytes(), **change: Any) -> tuple[bytes, str | None]:
    """A request with the pixels behind the JSON."""
    return body(tensor(data=None, parameters={"binary_data_size": size}, **change), raw=raw)


@pytest.mark.parametrize("data", [IMAGE.tolist(), IMAGE.ravel().tolist(), IMAGE.reshape(4, 6).tolist()])
def test_pixels_in_json_may_be_nested_or_flat(data: list[Any]) -> None:
    """Row by row; all outputs are wanted where none is named."""
    asked = decode(*body(tensor(data=data), id="seven", parameters={"timeout": 2500}), PIXELS, OUTPUTS, MOST)

    np.testing.assert_array_equal(asked.values, IMAGE)
    assert asked.outputs == tuple(Wanted(name, binary=False) for name in OUTPUTS)
    assert (asked.id, asked.timeout) == ("seven", 0.0025)


def test_pixels_behind_the_json_are_not_copied() -> None:
    """The array is a view of the body."""
    data, header = binary()

    asked = decode(data, header, PIXELS, OUTPUTS, MOST)

    assert isinstance(asked.values, np.ndarray)
    np.testing.assert_array_equal(asked.values, IMAGE)
    assert not asked.values.flags.owndata


def test_image_files_come_as_elements_or_in_base64() -> None:
    """Two files, behind the JSON or in it."""
    given = {"name": "image", "shape": [2], "datatype": "BYTES"}
    raw = elements(b"one", b"")
    behind = body(given | {"parameters": {"binary_data_size": len(raw)}}, raw=raw)
    within = body(given | {"data": [base64.b64encode(b"one").decode(), ""]})

    assert [decode(*one, FILES, OUTPUTS, MOST).values for one in (behind, within)] == [[b"one", b""]] * 2


@pytest.mark.parametrize("count", [1, 2, 64])
@pytest.mark.parametrize("rest", [[], [1], [1, 1]])
def test_elements_may_come_as_a_column(count: int, rest: list[int]) -> None:
    """MLServer's codecs and models that batch write [N, 1]; nested or flat, in JSON or behind it, base64 in either."""
    given = {"name": "image", "shape": [count, *rest], "datatype": "BYTES"}
    items = [bytes([number]) for number in range(count)]
    words = [base64.b64encode(item) for item in items]
    texts = [word.decode() for word in words]
    named = {"content_type": "base64"}
    raw, coded = elements(*items), elements(*words)
    requests = [
        body(given | {"data": texts, "parameters": named}),
        body(given | {"data": [[text] for text in texts]}),
        body(given | {"parameters": {"binary_data_size": len(raw)}}, raw=raw),
        body(given | {"parameters": {"binary_data_size": len(coded), **named}}, raw=coded),
    ]

    for one in requests:
        assert decode(*one, FILES, OUTPUTS, MOST).values == items


@pytest.mark.parametrize("shape", [[], [1, 2], [2, 2], [1, 1, 2], [-1], [0], [0, 1]])
def test_elements_in_another_shape_are_refused(shape: list[int]) -> None:
    """With the shape that came."""
    given = {"name": "image", "shape": shape, "datatype": "BYTES", "data": ["AA==", "AA=="]}

    with pytest.raises(Malformed, match=r"expected shape|at least one image"):
        decode(*body(given), FILES, OUTPUTS, MOST)


@pytest.mark.parametrize("more", [{}, {"outputs": []}, {"outputs": None}])
def test_no_outputs_means_all(more: dict[str, Any]) -> None:
    """Clients that always send the list get what those get that leave it out."""
    asked = decode(*body(parameters={"binary_data_output": True}, **more), PIXELS, OUTPUTS, MOST)

    assert asked.outputs == tuple(Wanted(name, binary=True) for name in OUTPUTS)


def test_more_classes_than_there_are_are_refused() -> None:
    """Rather than fewer being sent than were asked for."""
    wanted = (Wanted("logits", binary=False, classes=4),)
    with pytest.raises(Malformed, match="output 'logits': classification asks for 4 classes; there are 3"):
        encode(InferRequest([], wanted), "m", "1", {"logits": np.zeros((1, 3), np.float32)}, ("a", "b", "c"))


def test_a_raw_request_is_one_image() -> None:
    """With a header of 0 there is no JSON; all outputs come back as bytes."""
    pixels = decode(IMAGE[:1].tobytes(), "0", PIXELS, OUTPUTS, MOST)
    file = decode(b"a file", "0", FILES, OUTPUTS, MOST)

    np.testing.assert_array_equal(pixels.values, IMAGE[:1])
    assert file.values == [b"a file"]
    assert pixels.outputs == file.outputs == tuple(Wanted(name, binary=True) for name in OUTPUTS)


def test_outputs_are_asked_for_by_name() -> None:
    """In the order of the request; the output's own parameter wins over the request's."""
    outputs = [
        {"name": "logits", "parameters": {"binary_data": False}},
        {"name": "probabilities", "parameters": {"classification": 2}},
    ]

    asked = decode(*body(outputs=outputs, parameters={"binary_data_output": True}), PIXELS, OUTPUTS, MOST)

    assert asked.outputs == (Wanted("logits", binary=False), Wanted("probabilities", binary=True, classes=2))


GOOD = IMAGE.tobytes()
FILE = {"name": "image", "datatype": "BYTES", "data": None}
REFUSED: dict[str, tuple[tuple[bytes, str | None], Declared, str]] = {
    "header no number": ((GOOD, "x"), PIXELS, "'x': expected 0"),
    "header negative": ((GOOD, "-1"), PIXELS, "'-1': expected 0"),
    "header above the body": ((b"{}", "3"), PIXELS, "'3': expected 0 … 2"),
    "header above 2^31": ((GOOD, str(2**31)), PIXELS, "expected 0"),
    "header enormous": ((GOOD, "9" * 400), PIXELS, "expected 0"),
    "header not ASCII": ((GOOD, "²"), PIXELS, "expected 0"),
    "no JSON": ((b"{", None), PIXELS, "Invalid JSON"),
    "not UTF-8": ((b"\xff\xfe{}", None), PIXELS, "JSON"),
    "a list": ((b"[]", None), PIXELS, "JSON"),
    "nothing": ((b"", None), PIXELS, "JSON"),
    "no inputs": ((b'{"inputs": []}', None), PIXELS, "inputs"),
    "nested data": (body(tensor(data=json.loads("[" * 101 + "]" * 101))), PIXELS, "data|elements|integers"),
    "nested parameters": (body(parameters={"a": json.loads("[" * 101 + "]" * 101)}), PIXELS, "parameters"),
    "nested beyond parsing": ((b'{"inputs": ' + b"[" * 100_000, None), PIXELS, "JSON"),
    "two inputs of a name": (body(tensor(), tensor()), PIXELS, "expected one input, 'image', got 'image', 'image'"),
    "unknown input": (body(tensor(name="picture")), PIXELS, "got 'picture'"),
    "unknown datatype": (body(tensor(datatype="UINT9")), PIXELS, "'UINT9' is none of"),
    "datatype of another model": (body(tensor(datatype="FP16")), PIXELS, "expected datatype UINT8, got FP16"),
    "negative dimension": (body(tensor(shape=[-2, 2, 2, 3])), PIXELS, r"expected shape \[-1, 2, 2, 3\], got \[-2"),
    "no rows": (body(tensor(shape=[0, 2, 2, 3], data=[])), PIXELS, "expected at least one image"),
    "another shape": (body(tensor(shape=[2, 3, 2, 2])), PIXELS, "expected shape"),
    "shape of floats": (body(tensor(shape=[2.0, 2, 2, 3])), PIXELS, "shape"),
    "shape that overflows": (binary(24, shape=[2**62, 2, 2, 3]), PIXELS, f"expected {2**62 * 12} bytes"),
    "shape of many dimensions": (body(tensor(shape=[1] * 1000)), PIXELS, "shape"),
    "too few numbers": (body(tensor(data=[1] * 23)), PIXELS, "expected 24 elements"),
    "too many numbers": (body(tensor(data=[1] * 25)), PIXELS, "got 25"),
    "ragged": (body(tensor(data=[[1] * 12, [1] * 11])), PIXELS, "no regular array"),
    "number too large": (body(tensor(data=[256] + [1] * 23)), PIXELS, "got 1 … 256"),
    "number enormous": (body(tensor(data=[10**30] + [1] * 23)), PIXELS, "integers"),
    "number negative": (body(tensor(data=[-1] + [1] * 23)), PIXELS, "got -1 … 1"),
    "fraction": (body(tensor(data=[0.5] * 24)), PIXELS, "expected integers"),
    "truths": (body(tensor(data=[True] * 24)), PIXELS, "expected integers"),
    "words": (body(tensor(data=["1"] * 24)), PIXELS, "expected integers"),
    "data and size": (body(tensor(parameters={"binary_data_size": 24}), raw=GOOD), PIXELS, "got both"),
    "neither": (body(tensor(data=None)), PIXELS, "got neither"),
    "size below the shape's": (binary(12, GOOD[:12]), PIXELS, "expected 24 bytes .* got binary_data_size 12"),
    "size above what came": (binary(25), PIXELS, "binary_data_size is 25, but 24 bytes"),
    "trailing bytes": (binary(24, GOOD + b"x"), PIXELS, "but 25 bytes follow"),
    "bytes behind JSON data": (body(raw=b"x"), PIXELS, "1 unexpected additional bytes"),
    "size negative": (binary(-1), PIXELS, "expected an integer of 0"),
    "size true": (binary(True), PIXELS, "expected an integer"),
    "raw of the wrong size": ((GOOD, "0"), PIXELS, "expected 12 bytes, got 24"),
    "output unknown": (body(outputs=[{"name": "scores"}]), PIXELS, "'scores': expected one of feature"),
    "output twice": (body(outputs=[{"name": "logits"}] * 2), PIXELS, "asked for 2 times"),
    "binary_data no truth": (
        body(outputs=[{"name": "logits", "parameters": {"binary_data": "yes"}}]), PIXELS, "expected true or false"
    ),
    "binary_data_output no truth": (body(parameters={"binary_data_output": 1}), PIXELS, "expected true or false"),
    "classes of features": (
        body(outputs=[{"name": "feature", "parameters": {"classification": 1}}]), PIXELS, "has no classes"
    ),
    "classification no number": (
        body(outputs=[{"name": "logits", "parameters": {"classification": "3"}}]), PIXELS, "expected an integer"
    ),
    "element beyond the end": (
        body(FILE | {"shape": [1], "parameters": {"binary_data_size": 5}}, raw=b"\xff\xff\xff\xffx"), FILES, "element 0"
    ),
    "element without a length": (
        body(FILE | {"shape": [2], "parameters": {"binary_data_size": 5}}, raw=elements(b"x")), FILES, "element 1 ends"
    ),
    "elements left over": (
        body(FILE | {"shape": [1], "parameters": {"binary_data_size": 10}}, raw=elements(b"x", b"y")), FILES, "5 unex"
    ),
    "elements without end": (
        body(FILE | {"shape": [10**15], "parameters": {"binary_data_size": 4}}, raw=b"\0" * 4), FILES, "element 1 ends"
    ),
    "no base64": (body(FILE | {"shape": [1], "data": ["?"]}), FILES, "base64"),
    "no strings": (body(FILE | {"shape": [1], "data": [1]}), FILES, "expected 1 strings"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_malformed_is_refused_by_name(case: str) -> None:
    """One error, which says what was expected and what came."""
    (data, header), declared, message = REFUSED[case]

    with pytest.raises(Malformed, match=message):
        decode(data, header, declared, OUTPUTS, MOST)


@hypothesis_settings(max_examples=150)
@given(
    data=st.one_of(st.binary(max_size=200), st.sampled_from([body()[0], binary()[0]])),
    cut=st.integers(0, 400),
    flip=st.integers(0, 400),
    header=st.one_of(st.none(), st.integers(-5, 500).map(str), st.text(max_size=5), st.just(binary()[1])),
    declared=st.sampled_from([PIXELS, FILES]),
)
def test_whatever_comes_is_read_or_refused(
    data: bytes, cut: int, flip: int, header: str | None, declared: Declared
) -> None:
    """No other error, and what is read has the declared shape."""
    mutated = bytearray(data[: len(data) - cut % 7])
    if mutated:
        mutated[flip % len(mutated)] ^= 1 << flip % 8
    try:
        asked = decode(bytes(mutated), header, declared, OUTPUTS, MOST)
    except Malformed:
        return
    assert isinstance(asked, InferRequest)
    assert isinstance(asked.values, list) or asked.values.shape[1:] == (2, 2, 3)


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 20), st.integers(), st.floats(), st.text(max_size=3), st.just([]),
    st.lists(st.integers(-1, 300), max_size=13), st.just([[["AA=="]]]), st.just({}),
)  # fmt: skip
KEYS = ("binary_data_size", "binary_data", "binary_data_output", "classification", "timeout")


def mostly(*right: Any) -> st.SearchStrategy[Any]:
    """Values of which most are what the protocol asks for; `one_of` would count each kind of odd one as much."""
    return st.sampled_from([st.sampled_from(right)] * 19 + [ODD]).flatmap(lambda chosen: chosen)


PARAMETERS = st.dictionaries(st.sampled_from(KEYS), mostly(12, 0, True, False), max_size=2)
OUTPUT = st.fixed_dictionaries({"name": mostly(*OUTPUTS)}, optional={"parameters": PARAMETERS})
WHOLE = [
    (PIXELS, {"shape": [1, 2, 2, 3], "datatype": "UINT8", "data": [7] * 12}, b""),
    (PIXELS, {"shape": [1, 2, 2, 3], "datatype": "UINT8", "data": [[[[7] * 3] * 2] * 2]}, b""),
    (PIXELS, {"shape": [1, 2, 2, 3], "datatype": "UINT8", "parameters": {"binary_data_size": 12}}, bytes(12)),
    (FILES, {"shape": [2], "datatype": "BYTES", "data": ["AA==", ""]}, b""),
    (FILES, {"shape": [3], "datatype": "BYTES", "parameters": {"binary_data_size": 12}}, bytes(12)),
]
"""An input that is right, and the bytes behind the JSON."""


def around(given: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Requests with that input, once or not, whose every value is seldom another."""
    one = st.fixed_dictionaries({name: mostly(value) for name, value in given.items()} | {"name": mostly("image")})
    inputs = st.sampled_from([1] * 9 + [0, 2]).flatmap(lambda count: st.lists(one, min_size=count, max_size=count))
    more = {"id": mostly("a"), "parameters": PARAMETERS, "outputs": st.lists(OUTPUT, max_size=3)}
    return st.fixed_dictionaries({"inputs": inputs}, optional=more)


@hypothesis_settings(max_examples=300)
@given(data=st.data(), whole=st.sampled_from(WHOLE), exact=mostly(True, False))
def test_whatever_is_asked_in_json_is_read_or_refused(
    data: st.DataObject, whole: tuple[Declared, dict[str, Any], bytes], exact: object
) -> None:
    """Every key that there is, with right values and odd ones; what is read is within the shape and the outputs."""
    declared, given_input, tail = whole
    text = json.dumps(data.draw(around(given_input))).encode()
    try:
        found = decode(text + tail, str(len(text)) if exact else None, declared, OUTPUTS, MOST)
    except (Malformed, TooLarge):
        return

    assert 1 <= len(found.values) <= MOST
    assert isinstance(found.values, list) == (declared is FILES)
    assert {wanted.name for wanted in found.outputs} <= set(OUTPUTS)


@hypothesis_settings(max_examples=50)
@given(
    values=st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=6, max_size=6),
    flags=st.tuples(st.booleans(), st.booleans()),
)
def test_an_answer_reads_back(values: list[float], flags: tuple[bool, bool]) -> None:
    """Numbers in JSON and as bytes are the same numbers; the header is there when there are bytes."""
    numbers = np.array(values, np.float32).reshape(2, 3)
    wanted = tuple(Wanted(name, binary) for name, binary in zip(("feature", "logits"), flags, strict=True))

    data, headers = encode(
        InferRequest([], wanted, "an id"), "model", "3", {"feature": numbers, "logits": -numbers}, ("a", "b", "c")
    )

    answer = read(data, headers)
    np.testing.assert_array_equal(answer["found"]["feature"], numbers)
    np.testing.assert_array_equal(answer["found"]["logits"], -numbers)
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("model", "3", "an id")
    assert (HEADER.lower() in headers) == any(flags)


def test_classes_are_named() -> None:
    """The largest first, as value:index:name, in JSON and as bytes; more than there are are refused."""
    numbers = np.array([[0.25, 0.5, 0.125]], np.float32)
    wanted = (Wanted("logits", binary=False, classes=2), Wanted("probabilities", binary=True, classes=3))

    data, headers = encode(
        InferRequest([], wanted), "model", "1", {"logits": numbers, "probabilities": numbers}, ("a", "b", "ü")
    )

    answer = read(data, headers)
    assert answer["found"]["logits"] == ["0.500000:1:b", "0.250000:0:a"]
    assert answer["found"]["probabilities"] == elements(b"0.500000:1:b", b"0.250000:0:a", "0.125000:2:ü".encode())
    assert [output["shape"] for output in answer["outputs"]] == [[1, 2], [1, 3]]


def test_files_beyond_the_limit_are_not_read() -> None:
    """A body of 64 MiB has room for 16 million empty ones."""
    for count in (MOST + 1, 10**15):
        asked = {"name": "image", "shape": [count], "datatype": "BYTES", "parameters": {"binary_data_size": 40_000}}
        text = json.dumps({"inputs": [asked]}).encode()

        with pytest.raises(TooLarge, match=f"{count} images came; the limit is 64"):
            decode(text + bytes(40_000), str(len(text)), FILES, OUTPUTS, MOST)
