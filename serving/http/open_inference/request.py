"""An inference request of the Open Inference Protocol, from its bytes to checked tensors.

    body = JSON, then the raw bytes of each binary input; the header says how long the JSON is; 0: all is raw

It knows nothing of HTTP beyond that header, and nothing of what the tensors mean.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    TypeAdapter,
    ValidationError,
)

from breadcrumbs.models.printable import Printable
from breadcrumbs.serving.http.bodies import check_json
from breadcrumbs.serving.http.open_inference import tensors
from breadcrumbs.serving.http.open_inference.tensors import Declared, Malformed, Numbers
from breadcrumbs.serving.http.shares import SMALL_BODY
from breadcrumbs.serving.refusals import tell

HEADER = "Inference-Header-Content-Length"

BASE64 = "base64"
"""An input's `content_type`, as MLServer's codec names it: its elements are base64 behind the JSON too."""

REF: TypeAdapter[str] = TypeAdapter(Annotated[Printable, Field(max_length=200, strict=True)])
"""What `ref` may be, as in `/v1/predict`."""

Parameters = dict[str, StrictStr | StrictBool | StrictInt | StrictFloat]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class _Input(_Part):
    name: StrictStr
    shape: Annotated[list[StrictInt], Field(max_length=8)]
    datatype: StrictStr
    parameters: Parameters = {}
    data: list[Any] | None = None


class _Output(_Part):
    name: StrictStr
    parameters: Parameters = {}


class _Body(_Part):
    id: StrictStr | None = None
    parameters: Parameters = {}
    inputs: Annotated[list[_Input], Field(min_length=1)]
    outputs: list[_Output] | None = None


@dataclass(frozen=True)
class Wanted:
    """An output that is asked for: its name, whether as raw bytes, and how many classes of it, 0 for the numbers."""

    name: str
    binary: bool
    classes: int = 0


@dataclass(frozen=True)
class InferRequest:
    """What is asked.

    Attributes:
        values: pixels uint8 (N, H, W, 3), features f32 (N, D), or the bytes of N image files.
        outputs: in the order in which they are asked for.
        id: to be sent back; or none.
        timeout: seconds that it may take; or none.
        prior: name of a stored prior; or none.
        classes: the classes that can be; or none.
        confidence: of the node to name; or none.
        known: whether it is to be told how well each image or feature is known.
        explain: nearest stored rows to name of each; 0: none.
        ref: the sender's own name for what it asks about; may be empty.
    """

    values: Numbers | list[bytes]
    outputs: tuple[Wanted, ...]
    id: str | None = None
    timeout: float | None = None
    prior: str | None = None
    classes: tuple[str, ...] | None = None
    confidence: float | None = None
    known: bool = False
    explain: int = 0
    ref: str = ""


def decode(
    body: bytes, header: str | None, declared: Declared, outputs: Sequence[str], most: int, neighbours: int = 0
) -> InferRequest:  # fmt: skip
    """Read a request for a model with one input.

    Args:
        body: all of it.
        header: the value of `Inference-Header-Content-Length`; or none.
        declared: the input.
        outputs: names of the outputs that there are.
        most: files that are read at most.
        neighbours: rows that may be asked for at most.

    Raises:
        Malformed: it is not what the protocol, or the model's metadata, says.
        TooLarge: its JSON has too many values, or it has more than `most` files.
    """
    size = _json_size(header, len(body))
    if size == 0 and header is not None:
        return InferRequest(_raw(body, declared), tuple(Wanted(name, binary=True) for name in outputs))
    check_json(body[:size], "request")
    try:
        asked = _Body.model_validate_json(body[:size])
    except ValidationError as error:
        raise Malformed(f"JSON: {tell(error)}") from error
    if len(asked.inputs) != 1 or asked.inputs[0].name != declared.name:
        names = ", ".join(f"'{one.name:.40}'" for one in asked.inputs[:5])
        raise Malformed(f"expected one input, '{declared.name}', got {names}")
    values = _values(asked.inputs[0], memoryview(body)[size:], declared, most)
    timeout = _number(asked.parameters, "timeout", 0)
    return InferRequest(
        values, _wanted(asked, outputs), asked.id, timeout / 1e6 if timeout else None,
        _text(asked.parameters, "prior"), _names(asked.parameters), _confidence(asked.parameters),
        _flag(asked.parameters, "known", default=False), _explain(asked.parameters, neighbours),
        _ref(asked.parameters),
    )  # fmt: skip


def _json_size(header: str | None, size: int) -> int:
    if header is None:
        return size
    if not (header.isascii() and header.isdecimal() and len(header) < 11 and int(header) <= size):
        raise Malformed(f"{HEADER} {header!r:.40}: expected 0 … {size}, the bytes of the body")
    return int(header)


def _raw(body: bytes, declared: Declared) -> Numbers | list[bytes]:
    """A body that is nothing but the one input of one image or feature."""
    if declared.datatype == "BYTES":
        return [body]
    shape = [1, *declared.shape[1:]]
    expected = declared.size(declared.check(declared.datatype, shape))
    if len(body) != expected:
        raise Malformed(f"raw input '{declared.name}': expected {expected} bytes, got {len(body)}")
    return declared.from_bytes(memoryview(body), shape)


def _values(given: _Input, rest: memoryview, declared: Declared, most: int) -> Numbers | list[bytes]:
    count = declared.check(given.datatype, given.shape)
    size = _number(given.parameters, "binary_data_size", None)
    if (size is None) == (given.data is None):
        came = "neither" if size is None else "both"
        raise Malformed(f"input '{given.name}': expected either data or binary_data_size, got {came}")
    if given.data is not None:
        if len(rest):
            raise Malformed(f"{len(rest)} unexpected additional bytes after the JSON")
        if declared.datatype == "BYTES":
            return tensors.elements_from_json(given.name, given.data, count)
        return declared.from_json(given.data, given.shape)
    if size != len(rest):
        raise Malformed(f"input '{given.name}': binary_data_size is {size}, but {len(rest)} bytes follow the JSON")
    if declared.datatype == "BYTES":
        elements = tensors.elements_from_bytes(given.name, rest, count, most)
        if given.parameters.get("content_type") == BASE64:
            return tensors.elements_from_json(given.name, [item.decode("latin-1") for item in elements], count)
        return elements
    expected = declared.size(count)
    if size != expected:
        raise Malformed(
            f"input '{given.name}': expected {expected} bytes for shape {given.shape}, got binary_data_size {size}"
        )
    return declared.from_bytes(rest, given.shape)


def _wanted(asked: _Body, known: Sequence[str]) -> tuple[Wanted, ...]:
    all_binary = _flag(asked.parameters, "binary_data_output", default=False)
    if not asked.outputs:  # many clients always send the list
        return tuple(Wanted(name, all_binary) for name in known)
    names = [one.name for one in asked.outputs]
    for name in names:
        if name not in known:
            raise Malformed(f"output {name!r:.40}: expected one of {', '.join(known)}")
        if names.count(name) > 1:
            raise Malformed(f"output '{name}' is asked for {names.count(name)} times")
    return tuple(
        Wanted(one.name, _flag(one.parameters, "binary_data", default=all_binary), _classes(one))
        for one in asked.outputs
    )


def _classes(one: _Output) -> int:
    count = _number(one.parameters, "classification", 0)
    if count and one.name == "feature":
        raise Malformed("output 'feature' has no classes")
    return count or 0


def _flag(parameters: Parameters, name: str, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise Malformed(f"parameter '{name}': expected true or false, got {value!r:.40}")
    return value


def _number(parameters: Parameters, name: str, default: int | None) -> int | None:
    value = parameters.get(name, default)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31):
        raise Malformed(f"parameter '{name}': expected an integer of 0 … {2**31 - 1}, got {value!r:.40}")
    return value


def _text(parameters: Parameters, name: str) -> str | None:
    value = parameters.get(name)
    if value is not None and not (isinstance(value, str) and value):
        raise Malformed(f"parameter '{name}': expected a name, got {value!r:.40}")
    return value


def _names(parameters: Parameters) -> tuple[str, ...] | None:
    """The parameter `classes`: names with commas between them, or a JSON list of names, which may have commas."""
    text = _text(parameters, "classes")
    if text is not None and len(text) > SMALL_BODY:
        raise Malformed(f"parameter 'classes' has {len(text)} characters; the limit is {SMALL_BODY}; store a prior")
    if text is None or not text.lstrip().startswith("["):
        return None if text is None else (text,)
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        return (text,)  # a name may begin so
    if not all(isinstance(name, str) for name in names):
        raise Malformed(f"parameter 'classes': expected names, got {text!r:.40}")
    return tuple(names)


def _ref(parameters: Parameters) -> str:
    try:
        return REF.validate_python(parameters.get("ref", ""))
    except ValidationError as error:
        raise Malformed(f"parameter 'ref': {tell(error)}") from error


def _confidence(parameters: Parameters) -> float | None:
    value = parameters.get("confidence")
    if value is not None and (isinstance(value, bool | str) or not 0 < value <= 1):
        raise Malformed(f"parameter 'confidence': expected a number over 0, 1 at most, got {value!r:.40}")
    return value


def _explain(parameters: Parameters, most: int) -> int:
    count = _number(parameters, "explain", 0) or 0
    if count > most:
        raise Malformed(f"parameter 'explain': expected 0 … {most} rows, got {count}")
    return count
