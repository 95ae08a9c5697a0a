"""A plain FastAPI endpoint, as its tutorial has it: a `def` endpoint, run in the thread pool; one ONNX run a request.

BUNDLE=folder uvicorn plain:app
"""

import os
from pathlib import Path
from typing import Annotated

from fastapi import Body, FastAPI
from scorer import Answer, Scorer

app = FastAPI()
scorer = Scorer(Path(os.environ["BUNDLE"]))


@app.get("/ready")
def ready() -> str:
    return "ready"


@app.post("/predict")
def predict(photo: Annotated[bytes, Body(media_type="image/jpeg")]) -> Answer:
    return scorer.answers([photo])[0]
