"""The models that a bundle appears as, as the protocol's metadata and Triton's model configuration describe them.

    NAME                 pixels in, every output
    NAME-files           image files in, every output
    NAME-probabilities   pixels in, one output, for clients that take models with a single output only

It knows nothing of requests, HTTP or heads.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from breadcrumbs.serving.http.open_inference.tensors import Declared
from breadcrumbs.serving.state.store import NotFound

OUTPUTS = ("feature", "logits", "probabilities")
FILES, PROBABILITIES = "-files", "-probabilities"
SUFFIXES = ("", FILES, PROBABILITIES)
PLATFORM, BACKEND = "onnx_onnxv1", "onnxruntime"


@dataclass(frozen=True)
class Model:
    """One of the models.

    Attributes:
        name: of the model.
        image: its input.
        outputs: names of its outputs.
    """

    name: str
    image: Declared
    outputs: tuple[str, ...]


def names(bundle: str) -> list[str]:
    """Return the names of the models of a bundle."""
    return [bundle + suffix for suffix in SUFFIXES]


def find(name: str, bundle: str, size: tuple[int, int]) -> Model:
    """Return a model by its name.

    Args:
        name: of the model.
        bundle: its name.
        size: height and width of the backbone's images.

    Raises:
        NotFound: there is no such model.
    """
    if name not in names(bundle):
        *most, last = names(bundle)
        raise NotFound(f"there is no model {name!r:.80}; there are {', '.join(most)} and {last}")
    suffix = name.removeprefix(bundle)
    image = Declared("image", "BYTES", (-1,)) if suffix == FILES else Declared("image", "UINT8", (-1, *size, 3))
    return Model(name, image, ("probabilities",) if suffix == PROBABILITIES else OUTPUTS)


def metadata(model: Model, versions: list[str], widths: Mapping[str, int]) -> dict[str, Any]:
    """Return a model's metadata, as the protocol has it.

    Args:
        model: which.
        versions: that there are.
        widths: D or C of each output.
    """
    return {
        "name": model.name,
        "versions": versions,
        "platform": PLATFORM,
        "inputs": [model.image.as_dict()],
        "outputs": [Declared(name, "FP32", (-1, widths[name])).as_dict() for name in model.outputs],
    }


def configuration(model: Model, widths: Mapping[str, int], most: int) -> dict[str, Any]:
    """Return a model's configuration, as Triton's clients read it.

    Image files have no dimensions of their own, so that model says that it does not batch along the first one; its
    requests take as many elements all the same.

    Args:
        model: which.
        widths: D or C of each output.
        most: images in a request.
    """
    batched = model.image.datatype != "BYTES"
    free: tuple[int, ...] = () if batched else (-1,)
    dims = model.image.shape[1:] if batched else model.image.shape
    layout: Literal["FORMAT_NHWC", "FORMAT_NONE"] = "FORMAT_NHWC" if batched else "FORMAT_NONE"
    datatype = "TYPE_UINT8" if batched else "TYPE_STRING"
    return {
        "name": model.name,
        "platform": PLATFORM,
        "backend": BACKEND,
        "version_policy": {"all": {}},
        "max_batch_size": most if batched else 0,
        "input": [{"name": model.image.name, "data_type": datatype, "format": layout, "dims": list(dims)}],
        "output": [
            {"name": name, "data_type": "TYPE_FP32", "dims": [*free, widths[name]], "label_filename": ""}
            for name in model.outputs
        ],
        "dynamic_batching": {"preferred_batch_size": [], "max_queue_delay_microseconds": 0},
        "model_transaction_policy": {"decoupled": False},
        "instance_group": [],
        "parameters": {},
    }
