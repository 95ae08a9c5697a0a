"""PyTriton (NVIDIA's Triton, driven from Python) with its dynamic batching; photos come as binary tensors.

BUNDLE=folder PORT=8000 python triton_peer.py
"""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
from scorer import TOP, Scorer

scorer = Scorer(Path(os.environ["BUNDLE"]))


@batch
def predict(photo: NDArray[np.object_]) -> dict[str, NDArray[np.generic]]:
    rows = scorer.probabilities(np.stack([scorer.load(item) for item in photo[:, 0]]))
    order = np.argsort(-rows, axis=1)[:, :TOP]
    return {"index": order, "probability": np.take_along_axis(rows, order, 1)}


if __name__ == "__main__":
    port = int(os.environ["PORT"])
    config = TritonConfig(http_address="127.0.0.1", http_port=port, allow_grpc=False, allow_metrics=False)
    with Triton(config=config) as triton:
        triton.bind(
            model_name="model",
            infer_func=predict,
            inputs=[Tensor(name="photo", dtype=np.object_, shape=(1,))],
            outputs=[
                Tensor(name="index", dtype=np.int64, shape=(TOP,)),
                Tensor(name="probability", dtype=np.float32, shape=(TOP,)),
            ],
            config=ModelConfig(max_batch_size=32),
        )
        triton.serve()
