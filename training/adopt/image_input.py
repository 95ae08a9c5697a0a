"""Which input of an ONNX graph takes the images, and how they lie in it. It knows nothing of outputs or of pixels."""

from dataclasses import dataclass
from typing import Literal

from onnx import ModelProto, TensorProto, ValueInfoProto
from onnx.helper import tensor_dtype_to_np_dtype

from breadcrumbs.models.printable import escaped, listed
from breadcrumbs.training.adopt.opened import AdoptError

Element = Literal["float32", "float16", "uint8"]
ELEMENTS: dict[int, Element] = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.UINT8: "uint8",
}
REMEDY = "export only the part of the network that turns images into features"


@dataclass(frozen=True)
class ImageInput:
    """The input that takes the images.

    Attributes:
        name: in the graph.
        element: the type of its numbers.
        channels_first: (N, 3, H, W), else (N, H, W, 3).
        single: whether it takes one image at a time.
        height, width: in pixels; None: free.
        told: the input in words.
    """

    name: str
    element: Element
    channels_first: bool
    single: bool
    height: int | None
    width: int | None
    told: str


def find(model: ModelProto) -> ImageInput:
    """Find the one input that takes the images.

    Raises:
        AdoptError: there is none or several, one of another kind, or a fixed number of images other than 1.
    """
    defaults = {tensor.name for tensor in model.graph.initializer}
    defaults |= {tensor.values.name for tensor in model.graph.sparse_initializer}
    inputs = [value for value in model.graph.input if value.name not in defaults]
    images = [value for value in inputs if _is_image(value)]
    if len(inputs) != 1 or len(images) != 1:
        names = listed([_told(value) for value in inputs]) or "none"
        raise AdoptError(
            f"the inputs of the graph are {names}; expected one, for images, float32, float16 or uint8 in four "
            f"dimensions; {REMEDY}"
        )
    return _described(images[0])


def _is_image(value: ValueInfoProto) -> bool:
    kind = value.type.tensor_type
    return kind.elem_type in ELEMENTS and len(kind.shape.dim) == 4


def _described(value: ValueInfoProto) -> ImageInput:
    batch, *rest = _sizes(value)
    told = _told(value)
    if batch not in (None, 1):
        raise AdoptError(
            f"input {told} takes exactly {batch} images; expected any number or 1: export the backbone with a free "
            "batch"
        )
    first = _channels_first(value)
    channels, height, width = rest if first else (rest[2], rest[0], rest[1])
    if channels not in (None, 3):
        raise AdoptError(
            f"input {told} has {channels} channels; expected 3, red, green and blue: adopt a backbone for colour images"
        )
    element = ELEMENTS[value.type.tensor_type.elem_type]
    return ImageInput(value.name, element, first, batch == 1, height, width, told)


def _sizes(value: ValueInfoProto) -> list[int | None]:
    """The dimensions of an input; None: free."""
    dimensions = value.type.tensor_type.shape.dim
    return [
        dim.dim_value if dim.WhichOneof("value") == "dim_value" and dim.dim_value > 0 else None for dim in dimensions
    ]


def _channels_first(value: ValueInfoProto) -> bool:
    """Whether the channels come before height and width: three of them, or else as they are named."""
    _, first, _, last = _sizes(value)
    if first == 3 or last == 3:
        return first == 3
    named_last = "channel" in value.type.tensor_type.shape.dim[3].dim_param.lower()
    small_last = first is not None and last is not None and last < first
    return not (named_last or small_last)


def _told(value: ValueInfoProto) -> str:
    kind = value.type.tensor_type
    try:
        element = tensor_dtype_to_np_dtype(kind.elem_type).name
    except (KeyError, ValueError):  # a sequence, a map, or a type that numpy has not
        element = "of another type"
    dims = [str(dim.dim_value) if dim.dim_value else dim.dim_param or "?" for dim in kind.shape.dim]
    return escaped(f"'{value.name[:80]}' {element} ({', '.join(dim[:40] for dim in dims)})")
