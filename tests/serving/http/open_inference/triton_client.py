"""What Triton's HTTP client sees of a server of ours; prints JSON. Run by `test_open_inference.py`."""

import base64
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as triton

sys.path.insert(0, str(Path(__file__).parents[3]))
sys.path.insert(0, str(Path(__file__).parents[4]))

from tiny import SIDE, picture, png

client = triton.InferenceServerClient(sys.argv[1])
assert client.is_server_live()
assert client.is_server_ready()
assert client.is_model_ready("tiny")
assert client.is_model_ready("tiny", "1")
assert client.get_server_metadata()["name"] == "breadcrumbs"
assert client.get_model_metadata("tiny")["platform"] == "onnx_onnxv1"
assert [one["name"] for one in client.get_model_repository_index()] == [
    "tiny",
    "tiny-files",
    "tiny-probabilities",
    "tiny-features",
]

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

for way in ("gzip", "deflate"):
    for binary in (False, True):
        given.set_data_from_numpy(image, binary_data=binary)
        answer = client.infer(
            "tiny", [given], request_compression_algorithm=way, response_compression_algorithm=way,
            headers={"Accept-Encoding": way},
        )  # fmt: skip
        np.testing.assert_allclose(answer.as_numpy("probabilities"), found[0], atol=1e-6)
column = triton.InferInput("image", [2, 1], "BYTES")
for binary in (False, True):
    text = [base64.b64encode(png(picture(5)))] * 2 if not binary else [png(picture(5))] * 2
    column.set_data_from_numpy(np.array(text, object).reshape(2, 1), binary_data=binary)
    answer = client.infer("tiny-files", [column]).as_numpy("probabilities")
    np.testing.assert_allclose(answer, np.repeat(found[0], 2, axis=0), atol=1e-6)

best = triton.InferRequestedOutput("probabilities", class_count=1)
value, index, _ = client.infer("tiny", [given], outputs=[best]).as_numpy("probabilities").ravel()[0].decode().split(":")
assert int(index) == int(found[0].argmax())
assert abs(float(value) - float(found[0].max())) < 1e-5

with pytest.raises(triton.InferenceServerException, match=r"\[400\].*expected shape"):
    client.infer("tiny", [triton.InferInput("image", [1, 2, 2, 3], "UINT8").set_data_from_numpy(image[:, :2, :2])])
# What Triton's image_client.py asks of a model before it sends images.
metadata, config = client.get_model_metadata("tiny-probabilities"), client.get_model_config("tiny-probabilities")
assert len(metadata["inputs"]) == len(metadata["outputs"]) == len(config["input"]) == len(config["output"]) == 1
assert metadata["outputs"][0]["datatype"] == "FP32"
assert (config["input"][0]["format"], config["max_batch_size"] > 0) == ("FORMAT_NHWC", True)
assert metadata["inputs"][0]["shape"][1:] == config["input"][0]["dims"] == [SIDE, SIDE, 3]
assert metadata["outputs"][0]["shape"][1:] == config["output"][0]["dims"] == [3]
assert len([size for size in metadata["outputs"][0]["shape"][1:] if size > 1]) == 1
pixels = triton.InferInput(metadata["inputs"][0]["name"], [1, SIDE, SIDE, 3], metadata["inputs"][0]["datatype"])
pixels.set_data_from_numpy(image)
wanted = [triton.InferRequestedOutput(metadata["outputs"][0]["name"], class_count=3)]
classes = client.infer("tiny-probabilities", [pixels], outputs=wanted).as_numpy("probabilities")
assert classes.shape == (1, 3)
with pytest.raises(triton.InferenceServerException, match=r"classification asks for 4 classes; there are 3"):
    client.infer("tiny", [given], outputs=[triton.InferRequestedOutput("logits", class_count=4)])

# What is asked of an answer, as parameters of the types that this client can send.
answer = client.infer("tiny", [given], parameters={"prior": "some", "classes": "oak,Wollemia nobilis", "explain": 2})
assert answer.as_numpy("probabilities")[0].tolist() == [1, 0, 0]
assert json.loads(answer.get_response()["parameters"]["nearest"]) == [[]]
for parameters, words in (
    ({"known": True}, r"\[409\].*carries no points"),
    ({"confidence": 0.5}, r"\[400\].*leave it out, or make a bundle with --taxonomy"),
    ({"prior": "soma"}, r"\[404\].*did you mean 'some'"),
    ({"classes": "oka"}, r"\[400\].*did you mean 'oak'"),
    ({"explain": 21}, r"\[400\].*expected 0 … 20 rows, got 21"),
):
    with pytest.raises(triton.InferenceServerException, match=words):
        client.infer("tiny", [given], parameters=parameters)

# What perf_analyzer reads: counters that grow by what was asked.
before = client.get_inference_statistics("tiny", "1")["model_stats"][0]
client.infer("tiny", [given])
after = client.get_inference_statistics("tiny")["model_stats"][0]
assert after["inference_count"] - before["inference_count"] == 1
assert after["execution_count"] - before["execution_count"] == 1
for span in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
    assert after["inference_stats"][span]["count"] - before["inference_stats"][span]["count"] == 1
    assert after["inference_stats"][span]["ns"] >= before["inference_stats"][span]["ns"]
assert {one["name"] for one in client.get_inference_statistics()["model_stats"]} == {
    "tiny", "tiny-files", "tiny-probabilities", "tiny-features",
}  # fmt: skip
sys.stdout.write(json.dumps({"classes": float(found[0].max()), "requests": len(found) + 1}))
