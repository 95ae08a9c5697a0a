"""Small pictures inside a page: data URIs, so many and of so many bytes at most.

A picture that cannot be read any more, or comes after the last that a page may have, is None; the page shows its name
then. It knows nothing of what the pictures are shown for.
"""

import base64
import io

from PIL import Image

from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.training.data.split import Split

SIDE = 96  # pixels of the longer side
MOST = 60  # pictures of a page
BYTES = 4800  # of one picture: with base64, 60 of them are below 400 kB
QUALITIES = (80, 60, 40, 20, 5)  # of WebP, the first that is small enough


class Thumbnails:
    """The pictures of one page. `left` is how many it may still have."""

    def __init__(self, most: int = MOST) -> None:
        self.left = most

    def of(self, images: Split, row: int) -> str | None:
        """Return an image as a data URI; None: there is room for no more, or it cannot be read."""
        if not self.left:
            return None
        try:
            picture = Image.fromarray(images.image(row))
        except BreadcrumbsError:
            return None
        data = _encoded(picture)
        if data is None:
            return None
        self.left -= 1
        return f"data:image/webp;base64,{base64.b64encode(data).decode()}"


def _encoded(picture: Image.Image) -> bytes | None:
    """The picture as WebP within `SIDE` and `BYTES`, its shape kept; None: no quality is small enough."""
    picture.thumbnail((SIDE, SIDE))
    for quality in QUALITIES:
        file = io.BytesIO()
        picture.save(file, "WEBP", quality=quality)
        if file.tell() <= BYTES:
            return file.getvalue()
    return None
