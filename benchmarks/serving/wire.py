"""How each server is asked, and how its answer reads: photos to the bytes of requests, bodies to classes.

Each server has the form that its own documentation advises, with the raw photo as body where it takes one. It knows
nothing of sockets, time or what an answer should be.
"""

import base64
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from breadcrumbs.models.images.preprocess import Preprocess, load

BOUNDARY = "8f3c1d5ab2"

Classes = list[tuple[int, float]]
Read = tuple[int | None, Classes]
"""The version of the head that answered, where the server tells it; classes and probabilities, the best first."""
Body = tuple[dict[str, str], bytes]
"""Headers and body of a request."""


@dataclass(frozen=True)
class Form:
    """What one server takes and gives.

    Attributes:
        path: of the request; `{model}` stands for the model's name.
        build: from a photo and the transform to headers and body.
        read: from a body of status 200 to classes; raises ValueError, LookupError or TypeError at any other.
    """

    path: str
    build: Callable[[bytes, Preprocess], Body]
    read: Callable[[bytes], Read]


def request(form: Form, model: str, body: Body) -> bytes:
    """Return the bytes of a POST request on a connection that stays open."""
    headers, data = body
    lines = [
        f"POST {form.path.format(model=model)} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(data)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]  # fmt: skip
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def raw(photo: bytes, _: Preprocess) -> Body:
    """The photo itself."""
    return {"Content-Type": "image/jpeg"}, photo


def form_file(photo: bytes, _: Preprocess) -> Body:
    """A form with one file, `photos`."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="photos"; filename="photo.jpg"\r\n'
    head += "Content-Type: image/jpeg\r\n\r\n"
    return (
        {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"},
        head.encode() + photo + f"\r\n--{BOUNDARY}--\r\n".encode(),
    )


def v2_base64(photo: bytes, _: Preprocess) -> Body:
    """Open Inference Protocol, all JSON, the photo in base64."""
    tensor = {
        "name": "photo", "shape": [1, 1], "datatype": "BYTES", "parameters": {"content_type": "base64"},
        "data": [base64.b64encode(photo).decode()],
    }  # fmt: skip
    return {"Content-Type": "application/json"}, json.dumps({"inputs": [tensor]}).encode()


def v2_photo(photo: bytes, _: Preprocess) -> Body:
    """Open Inference Protocol, the photo as one binary string."""
    return _binary({"name": "photo", "shape": [1, 1], "datatype": "BYTES"}, struct.pack("<I", len(photo)) + photo)


def v2_pixels(photo: bytes, transform: Preprocess) -> Body:
    """Open Inference Protocol, the decoded pixels as a binary tensor, probabilities asked for in binary."""
    pixels = load(photo, transform)
    tensor = {"name": "image", "shape": [1, *pixels.shape], "datatype": "UINT8"}
    return _binary(tensor, pixels.tobytes(), [{"name": "probabilities", "parameters": {"binary_data": True}}])


def _binary(tensor: dict[str, Any], data: bytes, outputs: list[dict[str, Any]] | None = None) -> Body:
    asked: dict[str, Any] = {"inputs": [tensor | {"parameters": {"binary_data_size": len(data)}}]}
    if outputs:
        asked["outputs"] = outputs
    head = json.dumps(asked).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return headers, head + data


def ranked(body: bytes) -> Read:
    """A list of `index` and `probability`."""
    return None, _classes(json.loads(body))


def ranked_batch(body: bytes) -> Read:
    """A list of one such list."""
    (answer,) = json.loads(body)
    return None, _classes(answer)


def predictions(body: bytes) -> Read:
    """The answer of `POST /v1/predict`."""
    answer = json.loads(body)
    (prediction,) = answer["predictions"]
    return answer["head"]["version"], _classes(prediction["classes"])


def _classes(items: list[dict[str, Any]]) -> Classes:
    return [(item["index"], item["probability"]) for item in items]


def v2_ranked(body: bytes) -> Read:
    """Outputs `index` and `probability`, in JSON."""
    outputs = {output["name"]: output["data"] for output in json.loads(body)["outputs"]}
    return None, list(zip(outputs["index"], outputs["probability"], strict=True))


def v2_probabilities(body: bytes) -> Read:
    """One output, all probabilities in binary behind the JSON; the model's version is the head's."""
    head, end = json.JSONDecoder().raw_decode(body.decode("latin-1"))
    (output,) = head["outputs"]
    if output["parameters"]["binary_data_size"] != len(body) - end:
        raise ValueError(f"{len(body) - end} bytes behind the JSON; it says {output['parameters']['binary_data_size']}")
    values = struct.unpack(f"<{(len(body) - end) // 4}f", body[end:])
    return int(head["model_version"]), sorted(enumerate(values), key=lambda item: -item[1])


FORMS = {
    "ours": Form("/v1/predict", raw, predictions),
    "ours-v2": Form("/v2/models/{model}/infer", v2_pixels, v2_probabilities),
    "fastapi": Form("/predict", raw, ranked),
    "litserve": Form("/predict", raw, ranked),
    "mlserver": Form("/v2/models/model/infer", v2_base64, v2_ranked),
    "bentoml": Form("/predict", form_file, ranked_batch),
    "pytriton": Form("/v2/models/model/infer", v2_photo, v2_ranked),
}
