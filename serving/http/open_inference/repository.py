"""The models that a bundle appears as, as the protocol's metadata and Triton's model configuration describe them.

    NAME                 pixels in, every output
    NAME-files           image files in, every output
    NAME-probabilities   pixels in, one output, for clients that take models with a single output only
    NAME-features        features of the backbone in, every output; of a bundle without a backbone the only model

It knows nothing of requests, HTTP or heads.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from breadcrumbs.serving.http.open_inference.tensors import Declared
from breadcrumbs.serving.state.store import NotFound

OUTPUTS = ("feature", "logits", "probabilities")
FILES, PROBABILITIES, FEATURES = "-files", "-probabilities", "-features"
PLATFORM, BACKEND = "onnx_onnxv1", "onnxruntime"


@dataclass(frozen=True)
class Model:
    """One of the models.

    Attributes:
        name: of the model.
        input: what it takes.
        outputs: names of its outputs.
    """

    name: str
    input: Declared
    outputs: tuple[str, ...]


def models(bundle: str, size: tuple[int, int] | None, feature_dim: int) -> dict[str, Model]:
    """Return the models of a bundle, by name.

    Args:
        bundle: its name.
        size: height and width of the backbone's images. None means that there is no backbone.
        feature_dim: D.
    """
    features = Model(bundle + FEATURES, Declared("features", "FP32", (-1, feature_dim)), OUTPUTS)
    if size is None:
        return {features.name: features}
    pixels, file = Declared("image", "UINT8", (-1, *size, 3)), Declared("image", "BYTES", (-1,))
    found = (
        Model(bundle, pixels, OUTPUTS), Model(bundle + FILES, file, OUTPUTS),
        Model(bundle + PROBABILITIES, pixels, ("probabilities",)), features,
    )  # fmt: skip
    return {model.name: model for model in found}


def find(name: str, known: Mapping[str, Model]) -> Model:
    """Return a model by its name.

    Raises:
        NotFound: there is no such model.
    """
    if name not in known:
        *most, last = known
        there = f"there are {', '.join(most)} and {last}" if most else f"there is only {last}"
        raise NotFound(f"there is no model {name!r:.80}; {there}")
    return known[name]


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
        "inputs": [model.input.as_dict()],
        "outputs": [Declared(name, "FP32", (-1, widths[name])).as_dict() for name in model.outputs],
    }


def configuration(model: Model, widths: Mapping[str, int], most: int) -> dict[str, Any]:
    """Return a model's configuration, as Triton's clients read it.

    Image files have no dimensions of their own, so that model says that it does not batch along the first one; its
    requests take as many elements all the same.

    Args:
        model: which.
        widths: D or C of each output.
        most: images or features in a request.
    """
    taken = model.input
    batched = taken.datatype != "BYTES"
    free: tuple[int, ...] = () if batched else (-1,)
    dims = taken.shape[1:] if batched else taken.shape
    layout: Literal["FORMAT_NHWC", "FORMAT_NONE"] = "FORMAT_NHWC" if taken.datatype == "UINT8" else "FORMAT_NONE"
    datatype = f"TYPE_{taken.datatype}" if batched else "TYPE_STRING"
    return {
        "name": model.name,
        "platform": PLATFORM,
        "backend": BACKEND,
        "version_policy": {"all": {}},
        "max_batch_size": most if batched else 0,
        "input": [{"name": taken.name, "data_type": datatype, "format": layout, "dims": list(dims)}],
        "output": [
            {"name": name, "data_type": "TYPE_FP32", "dims": [*free, widths[name]], "label_filename": ""}
            for name in model.outputs
        ],
        "dynamic_batching": {"preferred_batch_size": [], "max_queue_delay_microseconds": 0},
        "model_transaction_policy": {"decoupled": False},
        "instance_group": [],
        "parameters": {},
    }
