"""Rows that are still image files: decoded, then computed with the rest of their batch, by the thread that computes.

On a CPU decoding and computing take the same cores, so a thread of its own for each would only cost the way between
them. A file that cannot be decoded fails alone. It knows nothing of HTTP or queues.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from breadcrumbs.models.arrays import Pixels
from breadcrumbs.models.images import preprocess
from breadcrumbs.models.images.budget import Budget
from breadcrumbs.models.images.errors import ImageError
from breadcrumbs.models.images.preprocess import Preprocess
from breadcrumbs.serving.predict.engine import BoundHead, Row, Scores


@dataclass(frozen=True, eq=False)
class File:
    """One image to decode and compute.

    Attributes:
        data: the bytes of a JPEG, PNG or WebP file.
        head: as in `Row`.
        name: what an error calls it, where there are several.
    """

    data: bytes
    head: BoundHead | None = None
    name: str = ""


class Decoder:
    """Decodes what has to be.

    Args:
        transform: from an image file to the backbone's pixels; None: there is no backbone, and no image is taken.
        max_pixels: of one image.
        budget: memory to decode in.
        compute: takes rows, returns a result for each.
        observe: told the seconds of each image; called in the thread that decodes.
    """

    def __init__(
        self,
        transform: Preprocess | None,
        max_pixels: int,
        budget: Budget,
        compute: Callable[[Sequence[Row]], Sequence[Scores | Exception]],
        observe: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        self._transform = transform
        self._max_pixels = max_pixels
        self._budget = budget
        self._compute = compute
        self._observe = observe

    def decode(self, file: File) -> Pixels:
        """Decode one image.

        Raises:
            ImageError: it cannot be decoded, or is too large; the message says which one it is.
        """
        if self._transform is None:
            raise ImageError("there is no backbone that takes images; expected features")
        began = time.perf_counter()
        try:
            return preprocess.load(file.data, self._transform, self._max_pixels, budget=self._budget)
        except ImageError as error:
            raise type(error)(f"{file.name}: {error}" if file.name else str(error)) from error
        finally:
            self._observe(time.perf_counter() - began)

    def compute(self, items: Sequence[Row | File]) -> list[Scores | Exception]:
        """Compute a batch; the result of a file that cannot be decoded is its error.

        Raises:
            EngineError: the model failed.
        """
        ready = [self._ready(item) for item in items]
        rows = [item for item in ready if isinstance(item, Row)]
        scores = iter(self._compute(rows) if rows else ())
        return [next(scores) if isinstance(item, Row) else item for item in ready]

    def _ready(self, item: Row | File) -> Row | ImageError:
        if isinstance(item, Row):
            return item
        try:
            return Row(self.decode(item), item.head)
        except ImageError as error:
            return error
