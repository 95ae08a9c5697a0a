"""`breadcrumbs predict`: images in, classes out, by a server or by a bundle, in one form."""

import sys
from pathlib import Path

from breadcrumbs.commands.server import LOCAL, Key, Line, Server
from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.images.decoding import MAX_PIXELS
from breadcrumbs.training.terminal.refit_events import Json


def predict(
    *images: Path,
    server: Server = LOCAL,
    bundle: Path | None = None,
    top_k: int = 3,
    prior: str | None = None,
    classes: tuple[str, ...] = (),
    confidence: float | None = None,
    known: bool = False,
    explain: int = 0,
    line: Line = None,
    max_pixels: int = MAX_PIXELS,
    out: Path | None = None,
    json: Json = False,
    key: Key = None,
) -> None:
    """Classify images, with a running server or, without one, with a bundle.

    An image that cannot be read does not stop the others; the exit status is then 2.

    Example: `breadcrumbs predict cat.jpg dog.png`

    Args:
        images: JPEG, PNG or WebP files, and folders with such files at any depth.
        bundle: Folder of a bundle, to compute here instead of asking a server.
        max_pixels: Largest number of pixels in one image, where they are computed here.
        top_k: Number of classes to show for each image.
        prior: Name of a prior in the server's store.
        classes: The classes that can be there; repeat for each. Default: all.
        confidence: Probability that a group of the taxonomy must reach to be named. Default: the server's; here 0.9.
        known: Tell how near each image is to what the head was fitted to, 0 to 1.
        explain: Number of nearest stored rows to name for each image, by a server. Default: none.
        out: File for the result instead of printing it: `.csv`, `.jsonl` or `.parquet` (extra `parquet`).
        json: Print one JSON object: the head that answered, each image's classes as in the API, and errors.
    """
    if not images:
        raise BreadcrumbsError("predict: name at least one image")
    if top_k < 1:
        raise BreadcrumbsError(f"--top-k {top_k}: expected at least 1")
    from breadcrumbs.classify.classify import Source, classify, show, told
    from breadcrumbs.classify.conditions import Conditions

    asked = Conditions(prior, classes, confidence, known, explain, line)
    found = classify(images, Source(bundle, server, key, max_pixels), top_k, out, asked)
    show(found, as_json=json)
    if found.failed:
        print(f"breadcrumbs: {told(found.failed, found.count)}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
