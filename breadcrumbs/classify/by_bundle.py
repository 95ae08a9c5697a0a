"""Predictions without a server: a bundle's backbone and head, in this process, exactly as the server computes them."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

from breadcrumbs.classify.conditions import NOTHING, Conditions, OfBundle
from breadcrumbs.classify.results import Prediction
from breadcrumbs.models.bundle import read as read_bundle
from breadcrumbs.models.files import read_regular
from breadcrumbs.models.head import ranked
from breadcrumbs.models.images.budget import Budget
from breadcrumbs.models.images.decoding import MAX_PIXELS
from breadcrumbs.serving.predict.decoder import Decoder, File
from breadcrumbs.serving.predict.engine import Engine, Scores

BATCH = 16
"""Images that are read and computed together."""


def predict(
    bundle: Path, images: Sequence[Path], top_k: int, max_pixels: int = MAX_PIXELS, asked: Conditions = NOTHING
) -> tuple[str, Iterator[Prediction]]:
    """Return the head's digest, and the predictions of the images in their order, as they are computed.

    Raises:
        BundleError, EngineError: the bundle cannot be read or run.
        BreadcrumbsError: what is asked needs a server or a taxonomy, or is of a class that the head does not have.
    """
    opened = read_bundle(bundle)
    conditions = OfBundle(opened, asked)
    transform, head = opened.preprocess, opened.head()
    engine = Engine(partial(opened.backbone_path, "full"), head, 0, (transform.height, transform.width))
    decoder = Decoder(transform, max_pixels, Budget(), engine.compute)

    def predicted(path: Path, scores: Scores) -> Prediction:
        logits = conditions.applied(scores.logits)
        classes = ranked(logits, head.classes, top_k)
        return Prediction(path, classes, node=conditions.node(logits), known=conditions.known(scores.feature))

    def compute(paths: Sequence[Path]) -> list[Prediction]:
        files: dict[int, File] = {}
        found: dict[int, Prediction] = {}
        for place, path in enumerate(paths):
            try:
                files[place] = File(read_regular(path))
            except OSError as error:
                found[place] = Prediction(path, error=error.strerror or str(error))
        for place, scores in zip(files, decoder.compute(list(files.values())), strict=True):
            found[place] = (
                Prediction(paths[place], error=str(scores))
                if isinstance(scores, Exception)
                else predicted(paths[place], scores)
            )
        return [found[place] for place in range(len(paths))]

    return head.digest, _side_by_side(compute, images, engine.workers)


def _side_by_side(
    compute: Callable[[Sequence[Path]], list[Prediction]], images: Sequence[Path], workers: int
) -> Iterator[Prediction]:
    """Compute batches in as many threads as are fastest, a few of them ahead of what is taken."""
    with ThreadPoolExecutor(workers) as pool:
        running: deque[Future[list[Prediction]]] = deque()
        for start in range(0, len(images), BATCH):
            running.append(pool.submit(compute, images[start : start + BATCH]))
            if len(running) > 2 * workers:
                yield from running.popleft().result()
        while running:
            yield from running.popleft().result()
