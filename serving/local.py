"""Predictions without a server: a bundle's backbone and head, in this process, exactly as the server computes them."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from models import bundle as bundles
from models import preprocess
from models.head import RankedClass, ranked
from models.image_errors import ImageError
from serving.engine import Engine, Row


def predict(bundle: Path, images: Iterable[Path], top_k: int) -> tuple[str, list[list[RankedClass]]]:
    """Return the head's digest and the top classes of each image, the most probable first.

    Raises:
        BundleError, EngineError: the bundle cannot be read or run.
        ImageError: an image cannot be decoded.
    """
    opened = bundles.read(bundle)
    transform, head = opened.manifest.preprocess, opened.head()
    engine = Engine(partial(opened.backbone_path, "full"), head, 0, (transform.height, transform.width))
    found = []
    for path in images:
        try:
            image = preprocess.load(path.read_bytes(), transform)
        except ImageError as error:
            raise type(error)(f"{path}: {error}") from error
        (scores,) = engine.compute([Row(image)])
        found.append(ranked(scores.logits, head.classes, top_k))
    return head.digest, found
