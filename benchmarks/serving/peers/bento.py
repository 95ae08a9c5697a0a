"""BentoML with its adaptive batching; a photo is a file of a form, as its documentation has files.

BUNDLE=folder bentoml serve bento:Classifier
"""

import os
from pathlib import Path

import bentoml
from scorer import Answer, Scorer


@bentoml.service(traffic={"timeout": 60})
class Classifier:
    def __init__(self) -> None:
        self.scorer = Scorer(Path(os.environ["BUNDLE"]))

    @bentoml.api(batchable=True, max_batch_size=32, max_latency_ms=60_000)
    def predict(self, photos: list[Path]) -> list[Answer]:
        return self.scorer.answers([photo.read_bytes() for photo in photos])
