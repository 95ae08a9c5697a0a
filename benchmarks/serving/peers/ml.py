"""MLServer: a custom runtime with adaptive batching; photos in base64, which is its JSON form of bytes.

    BUNDLE=folder mlserver start FOLDER

FOLDER holds `settings.json` and `model-settings.json` with `"implementation": "ml.Runtime"`, as `servers.py` writes
them.
"""

import os
from pathlib import Path

import numpy as np
from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from scorer import TOP, Scorer


class Runtime(MLModel):
    async def load(self) -> bool:
        self.scorer = Scorer(Path(os.environ["BUNDLE"]))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        photos = Base64Codec.decode_input(payload.inputs[0])
        rows = self.scorer.probabilities(np.stack([self.scorer.load(photo) for photo in photos]))
        order = np.argsort(-rows, axis=1)[:, :TOP]
        outputs = {"index": order, "probability": np.take_along_axis(rows, order, 1)}
        return InferenceResponse(
            model_name=self.name,
            outputs=[NumpyCodec.encode_output(name, values) for name, values in outputs.items()],
        )
