"""What Triton's HTTP client sees of a server of ours; prints JSON. Run by `test_open_inference.py`."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as triton

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

from tiny import SIDE, picture, png

client = triton.InferenceServerClient(sys.argv[1])
assert client.is_server_live()
assert client.is_server_ready()
assert client.is_model_ready("tiny")
assert client.is_model_ready("tiny", "1")
assert client.get_server_metadata()["name"] == "breadcrumbs"
assert client.get_model_metadata("tiny")["platform"] == "onnx_onnxv1"
assert [one["name"] for one in client.get_model_repository_index()] == ["tiny", "tiny-files", "tiny-probabilities"]

image = picture(5)[None]
found = []
for binary_in in (False, True):
    for binary_out in (False, True):
        given = triton.InferInput("image", [1, SIDE, SIDE, 3], "UINT8")
        given.set_data_from_numpy(image, binary_data=binary_in)
        wanted = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in ("feature", "probabilities")]
        answer = client.infer("tiny", [given], outputs=wanted, request_id="seven")
        assert answer.get_response()["id"] == "seven"
        assert answer.as_numpy("feature").shape == (1, 4)
        found.append(answer.as_numpy("probabilities"))
file = triton.InferInput("image", [1], "BYTES")
file.set_data_from_numpy(np.array([png(picture(5))], object))
found.append(client.infer("tiny-files", [file], model_version="1").as_numpy("probabilities"))
for other in found[1:]:
    np.testing.assert_allclose(other, found[0], atol=1e-6)

best = triton.InferRequestedOutput("probabilities", class_count=1)
value, index, _ = client.infer("tiny", [given], outputs=[best]).as_numpy("probabilities").ravel()[0].decode().split(":")
assert int(index) == int(found[0].argmax())
assert abs(float(value) - float(found[0].max())) < 1e-5

with pytest.raises(triton.InferenceServerException, match=r"\[400\].*expected shape"):
    client.infer("tiny", [triton.InferInput("image", [1, 2, 2, 3], "UINT8").set_data_from_numpy(image[:, :2, :2])])
sys.stdout.write(json.dumps({"classes": float(found[0].max()), "requests": len(found) + 1}))
