"""Predictions without a server: a bundle's backbone and head, in this process, exactly as the server computes them."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from models import bundle as bundles
from models import preprocess
from serving.engine import Engine, Row


def predict(bundle: Path, images: Sequence[Path], top_k: int) -> list[list[tuple[str, float]]]:
    """Return the top classes of each image with their probabilities, the most probable first.

    Raises:
        BundleError, EngineError: the bundle cannot be read or run.
        ImageError: an image cannot be decoded.
    """
    opened = bundles.read(bundle)
    transform, head = opened.manifest.preprocess, opened.head()
    engine = Engine(partial(opened.backbone_path, "full"), head, 0, (transform.height, transform.width))
    found = []
    for path in images:
        (scores,) = engine.compute([Row(preprocess.load(path.read_bytes(), transform))])
        powers = np.exp(scores.logits.astype(np.float64) - scores.logits.max())
        order = np.argsort(-scores.logits, kind="stable")[:top_k]
        found.append([(head.classes[index], float(powers[index] / powers.sum())) for index in order])
    return found
