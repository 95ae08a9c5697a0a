"""What every server here does with a photo: bytes -> pixels -> feature -> logits -> the five most probable classes.

The peers run in an environment of their own, so this needs ONNX Runtime and `models.images.preprocess` only. The right
answers and the ceiling come from here too. The head's session has one thread: a second pool of threads would halve the
speed of a single request. It knows nothing of HTTP or of batches that form themselves.

Letters: N images, C classes.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from breadcrumbs.models.arrays import Floats, Pixels
from breadcrumbs.models.images import preprocess
from breadcrumbs.models.images.preprocess import Preprocess

TOP = 5

Answer = list[dict[str, Any]]


class Scorer:
    """A bundle's backbone and head.

    Args:
        bundle: its folder.
        threads: of the backbone; 0: ONNX Runtime's choice, one a core.
        device: `cpu` or `cuda`.
    """

    def __init__(self, bundle: Path, threads: int = 0, device: str = "cpu") -> None:
        manifest = json.loads((bundle / "manifest.json").read_text())
        self.classes: list[str] = manifest["classes"]
        self.transform = Preprocess.model_validate(manifest["preprocess"])
        self._backbone = _session(bundle / "backbone.onnx", threads, device)
        self._head = _session(bundle / "head.onnx", 1, device)

    def load(self, photo: bytes) -> Pixels:
        """Decode one photo: uint8 (H, W, 3)."""
        return preprocess.load(photo, self.transform)

    def probabilities(self, images: Pixels) -> Floats:
        """Return the probabilities (N, C) of images (N, H, W, 3)."""
        feature = self._backbone.run(["feature"], {"image": images})[0]
        logits = self._head.run(["logits"], {"feature": feature})[0]
        powers = np.exp(logits - logits.max(1, keepdims=True))
        return np.asarray(powers / powers.sum(1, keepdims=True))

    def answers(self, photos: Sequence[bytes]) -> list[Answer]:
        """Return the most probable classes of each photo, computed as one batch."""
        return [self.top(row) for row in self.probabilities(np.stack([self.load(photo) for photo in photos]))]

    def top(self, probabilities: Floats) -> Answer:
        """Return the most probable classes of one image, of its probabilities (C,)."""
        order = np.argsort(-probabilities)[:TOP]
        return [{"class": self.classes[i], "index": int(i), "probability": float(probabilities[i])} for i in order]


def _session(model: Path, threads: int, device: str) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3  # it warns that the head's weight is also an input, which is the point of it
    options.intra_op_num_threads = threads
    if device == "cpu":
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    ort.preload_dlls()
    session = ort.InferenceSession(
        model, options, providers=[("CUDAExecutionProvider", {"cudnn_conv_algo_search": "HEURISTIC"})]
    )
    if session.get_providers()[0] != "CUDAExecutionProvider":
        raise RuntimeError("device cuda was asked for, but ONNX Runtime fell back to the CPU")
    return session
