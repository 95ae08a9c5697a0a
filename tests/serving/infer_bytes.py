"""Bytes of the Open Inference Protocol as a client writes and reads them."""

import json
import struct
from typing import Any

import numpy as np

from breadcrumbs.serving.http.open_inference.request import HEADER


def elements(*items: bytes) -> bytes:
    """BYTES elements as they are sent."""
    return b"".join(struct.pack("<I", len(item)) + item for item in items)


def read(data: bytes, headers: dict[str, str]) -> dict[str, Any]:
    """An answer as a client reads it: each output's values, by its name."""
    size = int(headers.get(HEADER.lower(), len(data)))
    said, place, found = json.loads(data[:size]), size, {}
    for output in said["outputs"]:
        count = output.get("parameters", {}).get("binary_data_size")
        raw = data[place : place + (count or 0)]
        place += count or 0
        if output["datatype"] == "FP32":
            values = np.array(output["data"], np.float32) if count is None else np.frombuffer(raw, "<f4")
            found[output["name"]] = values.reshape(output["shape"])
        else:
            found[output["name"]] = output["data"] if count is None else raw
    assert place == len(data)
    return said | {"found": found}
