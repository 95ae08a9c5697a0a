"""LitServe with its batching.

BUNDLE=folder PORT=8000 python lit.py
"""

import os
from pathlib import Path
from typing import Annotated

import litserve
import numpy as np
from fastapi import Body
from scorer import Answer, Floats, Scorer

from breadcrumbs.models.arrays import Pixels


class Classifier(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.scorer = Scorer(Path(os.environ["BUNDLE"]))

    def decode_request(self, request: Annotated[bytes, Body(media_type="image/jpeg")]) -> Pixels:
        return self.scorer.load(request)

    def predict(self, images: Pixels) -> Floats:
        return self.scorer.probabilities(images)

    def encode_response(self, output: Floats) -> Answer:
        return self.scorer.top(np.asarray(output))


if __name__ == "__main__":
    api = Classifier(max_batch_size=32, batch_timeout=0.005)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning", generate_client_file=False)
