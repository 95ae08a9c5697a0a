"""The linear head: what turns a feature into a class, and its two forms on disk.

`head.safetensors` is what the store keeps and the server binds; `head.onnx` is the same numbers for other runtimes.
It knows nothing of how a head is fitted (`training.refit.refit`) or run (`serving.predict.engine`).

Letters: N rows, D feature dimensions, C classes.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np
from numpy.typing import NDArray

from breadcrumbs.models import printable, safetensor
from breadcrumbs.models.arrays import Floats
from breadcrumbs.models.errors import FormatError

if TYPE_CHECKING:  # loaded where a model is made or parsed: what reads snapshots or safetensors starts without it
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

FORMAT = "breadcrumbs.head/1"
WITH_PRIOR = "breadcrumbs.head/2"
"""Of a head with a prior of its own, which a reader of version 1 would not know to take back."""
OPSET = 18
IR_VERSION = 10


RankedClass = TypedDict("RankedClass", {"class": str, "index": int, "probability": float})
"""One class of an answer, as the HTTP interface and the command line give it."""


class HeadError(FormatError):
    """A head that is damaged, or whose parts do not fit together."""


@dataclass(frozen=True, eq=False)
class LinearHead:
    """logits = features · weightᵀ + bias.

    Attributes:
        weight: f32 (C, D).
        bias: f32 (C,).
        classes: C distinct names; a class's index is its place.
        log_prior: f32 (C,), the head's own prior: the log π that its bias includes, so that a request's prior can take
            its place. None means that the head takes all classes for equally frequent.

    Raises:
        HeadError: the shapes disagree, a value is not finite, or a name occurs twice.
    """

    weight: Floats
    bias: Floats
    classes: tuple[str, ...]
    log_prior: Floats | None = None

    def __post_init__(self) -> None:
        if self.weight.ndim != 2 or self.bias.shape != (len(self.weight),) or len(self.weight) != len(self.classes):
            raise HeadError(
                f"head: weight {self.weight.shape}, bias {self.bias.shape} and {len(self.classes)} classes do not fit; "
                "expected (C, D), (C,) and C"
            )
        if self.weight.dtype != np.float32 or self.bias.dtype != np.float32:
            raise HeadError(f"head: expected float32, got {self.weight.dtype} and {self.bias.dtype}")
        if not (np.isfinite(self.weight).all() and np.isfinite(self.bias).all()):
            raise HeadError("head: weight or bias has values that are not finite")
        if self.log_prior is not None:
            _check_prior(self.log_prior, len(self.classes))
        check_classes(self.classes)

    @property
    def feature_dim(self) -> int:
        """D."""
        return int(self.weight.shape[1])

    @cached_property
    def places(self) -> dict[str, int]:
        """The index of each class, by its name."""
        return {name: place for place, name in enumerate(self.classes)}

    @cached_property
    def digest(self) -> str:
        """The sha256 over classes, weight, bias and own prior: equal for equal heads, whatever their files."""
        state = hashlib.sha256(json.dumps(self.classes).encode())
        state.update(self.weight.astype("<f4").tobytes())
        state.update(self.bias.astype("<f4").tobytes())
        if self.log_prior is not None:
            state.update(self.log_prior.astype("<f4").tobytes())
        return state.hexdigest()

    def logits(self, features: NDArray[np.floating]) -> Floats:
        """Return the logits of features (N, D) as f32 (N, C)."""
        return np.asarray(features, np.float32) @ self.weight.T + self.bias


def _check_prior(log_prior: Floats, classes: int) -> None:
    if log_prior.shape != (classes,) or log_prior.dtype != np.float32 or not np.isfinite(log_prior).all():
        raise HeadError(
            f"head: log_prior is {log_prior.dtype} {log_prior.shape}; expected float32 ({classes},), all of it finite"
        )


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the probabilities of logits (…, C), in float64; NaN where a row's logits are not finite."""
    with np.errstate(invalid="ignore"):
        powers = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
        return np.asarray(powers / powers.sum(-1, keepdims=True))


def ranked(logits: NDArray[np.floating], classes: Sequence[str], top_k: int) -> list[RankedClass]:
    """Return the top classes of one image's logits (C,), most probable first; ties keep the order of classes.

    A class whose logit is −inf cannot be, and is left out.
    """
    order = _largest(logits, top_k)
    order = order[~np.isneginf(logits[order])]
    places = zip(order.tolist(), softmax(logits)[order].tolist(), strict=True)
    return [{"class": classes[index], "index": index, "probability": probability} for index, probability in places]


def ranked_rows(
    logits: Floats, probabilities: NDArray[np.floating], classes: Sequence[str], top_k: int
) -> list[list[RankedClass]]:
    """Return what `ranked` returns for each row of logits (N, C), of which the probabilities (N, C) are the softmax.

    For a few top classes of many rows: one by one, they would cost several times as much.
    """
    left, rows = logits.copy(), np.arange(len(logits))
    found: list[list[RankedClass]] = [[] for _ in rows]
    for _ in range(min(top_k, len(classes))):
        best = left.argmax(1)  # of equal ones the first
        values = zip(found, best.tolist(), probabilities[rows, best].tolist(), left[rows, best].tolist(), strict=True)
        for own, index, probability, logit in values:
            if logit != -np.inf:
                own.append({"class": classes[index], "index": index, "probability": probability})
        left[rows, best] = -np.inf
    return found


def _largest(values: NDArray[np.floating], count: int) -> NDArray[np.intp]:
    """Return the indices of the largest values, the largest first; of equal ones the first. Only those are sorted."""
    if count >= len(values):
        return (-values).argsort(kind="stable")
    least = np.partition(values, -count)[-count]
    among = np.flatnonzero(values >= least)  # more than `count` where several are equal to the least
    return among[(-values[among]).argsort(kind="stable")[:count]]


def check_classes(classes: Sequence[str]) -> None:
    """Refuse class names that are empty, occur twice, or that a terminal cannot show safely.

    Raises:
        HeadError: naming the class.
    """
    seen = set[str]()
    for name in classes:
        if not name or name in seen:
            raise HeadError(f"class {name!r:.80} is empty or occurs twice")
        if why := printable.defect(name):
            raise HeadError(f"class {name!r:.80} {why}")
        seen.add(name)


def to_bytes(head: LinearHead) -> bytes:
    """Return the head as the bytes of `head.safetensors`."""
    tensors = {"weight": head.weight, "bias": head.bias}
    if head.log_prior is not None:
        tensors["log_prior"] = head.log_prior
    return safetensor.encode(tensors, {"format": _format(head), "classes": json.dumps(head.classes)})


def _format(head: LinearHead) -> str:
    return FORMAT if head.log_prior is None else WITH_PRIOR


def read(path: Path) -> LinearHead:
    """Read `head.safetensors`.

    Raises:
        HeadError: the file is not a head, or is damaged.
    """
    try:
        arrays, metadata = safetensor.read(path, {"weight": ("F32",), "bias": ("F32",), "log_prior": ("F32",)})
    except FormatError as error:
        raise HeadError(f"{path.name}: {error}") from error
    if metadata.get("format") not in (FORMAT, WITH_PRIOR):
        raise HeadError(f"{path.name}: expected format {FORMAT} or {WITH_PRIOR}, got {metadata.get('format')!r:.80}")
    expected = ["weight", "bias", *(["log_prior"] if metadata["format"] == WITH_PRIOR else [])]
    if set(arrays) != set(expected):
        names = f"{', '.join(expected[:-1])} and {expected[-1]}"
        raise HeadError(f"{path.name}: expected tensors {names}, got {', '.join(arrays) or 'none'}")
    weight, bias, *own = (np.array(arrays[name], np.float32) for name in expected)
    return LinearHead(weight, bias, parse_classes(metadata), *own)


def parse_classes(metadata: dict[str, str]) -> tuple[str, ...]:
    """Read the JSON list of class names out of a file's metadata.

    Raises:
        HeadError: it is missing, or no list of strings.
    """
    try:
        classes = json.loads(metadata.get("classes", ""))
    except (ValueError, RecursionError) as error:
        raise HeadError("metadata 'classes': expected a JSON list of names") from error
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise HeadError("metadata 'classes': expected a JSON list of names")
    return tuple(classes)


def to_onnx(head: LinearHead) -> bytes:
    """Return the head as an ONNX model: `feature` (N, D) -> `logits` (N, C).

    `weight` and `bias` are initialisers that are also graph inputs: the model runs as it is, and a runtime can bind
    another head's arrays, with another C, to the same session.
    """
    from onnx import TensorProto, helper, numpy_helper

    float32 = TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["feature", "weight", "bias"], ["logits"], transB=1)],
        "head",
        [
            helper.make_tensor_value_info("feature", float32, ["N", "D"]),
            helper.make_tensor_value_info("weight", float32, ["C", "D"]),
            helper.make_tensor_value_info("bias", float32, ["C"]),
        ],
        [helper.make_tensor_value_info("logits", float32, ["N", "C"])],
        [numpy_helper.from_array(head.weight, "weight"), numpy_helper.from_array(head.bias, "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="breadcrumbs")
    model.ir_version = IR_VERSION
    metadata = {"format": _format(head), "classes": json.dumps(head.classes)}
    if head.log_prior is not None:
        metadata["log_prior"] = json.dumps(head.log_prior.tolist())
    helper.set_model_props(model, metadata)
    return bytes(model.SerializeToString())


def from_onnx(data: bytes) -> LinearHead:
    """Read back what `to_onnx` made.

    Raises:
        HeadError: the model is not one that `to_onnx` writes.
    """
    from onnx import numpy_helper

    model = parse_onnx(data)
    metadata = {prop.key: prop.value for prop in model.metadata_props}
    arrays = {item.name: item for item in model.graph.initializer}
    if metadata.get("format") not in (FORMAT, WITH_PRIOR) or set(arrays) != {"weight", "bias"}:
        raise HeadError("head.onnx: expected a breadcrumbs head with initialisers weight and bias")
    try:
        weight, bias = (np.array(numpy_helper.to_array(arrays[name])) for name in ("weight", "bias"))
    except Exception as error:  # onnx raises what numpy and its own tables of types raise
        raise HeadError(f"head.onnx: weight or bias is damaged: {error}") from error
    own = None if metadata["format"] == FORMAT else _parse_prior(metadata)
    return LinearHead(weight, bias, parse_classes(metadata), own)


def _parse_prior(metadata: dict[str, str]) -> Floats:
    """Read log π (C,) out of the metadata of `head.onnx`."""
    try:
        return np.array(json.loads(metadata.get("log_prior", "")), np.float32)
    except (ValueError, TypeError, RecursionError) as error:
        raise HeadError("head.onnx: metadata 'log_prior': expected a JSON list of numbers") from error


def parse_onnx(data: bytes, *, external: bool = False) -> "ModelProto":
    """Parse an ONNX model that keeps all of its numbers in the one file, unless `external` allows other files.

    Raises:
        FormatError: it is no ONNX model, or it names other files (external data).
    """
    import onnx

    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's DecodeError has no stable place to import it from
        raise FormatError(f"not an ONNX model: {error}") from error
    for item in tensors(model):
        if item.data_location == onnx.TensorProto.EXTERNAL and not external:
            raise FormatError(f"ONNX tensor '{item.name[:80]}' is kept in another file; expected one single file")
    return model


def tensors(model: "ModelProto") -> "Iterator[TensorProto]":
    """Every tensor that a model carries, in its subgraphs and functions too."""
    yield from _tensors(model.graph)
    for function in model.functions:
        yield from _tensors_of(function.node)


def _tensors(graph: "GraphProto") -> "Iterator[TensorProto]":
    """Every tensor that a graph carries, in its nodes and their subgraphs too."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _tensors_of(graph.node)


def _tensors_of(nodes: "Iterable[NodeProto]") -> "Iterator[TensorProto]":
    for attribute in (attribute for node in nodes for attribute in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield from (sparse.values, sparse.indices)
        for graph in (attribute.g, *attribute.graphs):
            yield from _tensors(graph)
