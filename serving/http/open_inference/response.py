"""The answer of the Open Inference Protocol, from numbers to bytes: JSON, then the raw bytes of each binary output.

It knows nothing of HTTP beyond the header that says how long the JSON is.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from breadcrumbs.models.arrays import Floats
from breadcrumbs.serving.http.open_inference import tensors
from breadcrumbs.serving.http.open_inference.request import HEADER, InferRequest
from breadcrumbs.serving.http.open_inference.tensors import Malformed


def encode(
    request: InferRequest, model: str, version: str, found: Mapping[str, Floats], classes: Sequence[str],
    possible: int | None = None, parameters: Mapping[str, str] | None = None,
) -> tuple[bytes, dict[str, str]]:  # fmt: skip
    """Return the body of an answer, and the headers that go with it.

    Args:
        request: what was asked.
        model, version: what answered.
        found: (N, …) of each output that was asked for.
        classes: names, for the classification extension.
        possible: how many of them can be, where the request leaves others out; None: all.
        parameters: of the answer; None: there are none.

    Raises:
        Malformed: more classes of an output are asked for than there are.
    """
    outputs: list[dict[str, Any]] = []
    raw: list[bytes] = []
    most = len(classes) if possible is None else possible
    for wanted in request.outputs:
        values = found[wanted.name]
        if wanted.classes > most:
            raise Malformed(
                f"output '{wanted.name}': classification asks for {wanted.classes} classes; there are {most}"
            )
        chosen = tensors.classified(values, classes, wanted.classes) if wanted.classes else values
        shape = [len(values), wanted.classes] if wanted.classes else list(values.shape)
        output: dict[str, Any] = {
            "name": wanted.name, "datatype": "BYTES" if wanted.classes else "FP32", "shape": shape,
        }  # fmt: skip
        if wanted.binary:
            raw.append(tensors.to_bytes(chosen))
            output["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            output["data"] = (
                [item.decode() for row in chosen for item in row]
                if isinstance(chosen, list)
                else chosen.ravel().tolist()
            )
        outputs.append(output)
    said = {"model_name": model, "model_version": version, **({} if request.id is None else {"id": request.id})}
    more = {"parameters": dict(parameters)} if parameters else {}
    text = json.dumps({**said, **more, "outputs": outputs}).encode()
    if not raw:
        return text, {"content-type": "application/json"}
    return text + b"".join(raw), {"content-type": "application/octet-stream", HEADER.lower(): str(len(text))}
