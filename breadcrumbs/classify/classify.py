"""Many images, classified: found in folders, asked about here or at a server, and shown or written to a file.

One that cannot be classified does not stop the others. It knows nothing of flags.
"""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from breadcrumbs.classify.by_server import Asked
from breadcrumbs.classify.conditions import NOTHING, Conditions
from breadcrumbs.classify.results import Prediction, Write, writing
from breadcrumbs.models.errors import BreadcrumbsError
from breadcrumbs.models.images.decoding import MAX_PIXELS
from breadcrumbs.models.printable import escaped
from breadcrumbs.serving.client.client import Client
from breadcrumbs.training.data.image_files import Unused, walk
from breadcrumbs.training.terminal.bars import track
from breadcrumbs.training.terminal.refit_events import tell_json

SHOWN = 20  # errors told; `--json` and `--out` have all
ROW = ("source", "row", "image", "ref", "by")  # of a near row, as it is shown; `--json` and `--out` have all


@dataclass(frozen=True)
class Source:
    """Who classifies: a bundle, here, images of at most so many pixels; or a server, with a key."""

    bundle: Path | None
    server: str
    key: str | None
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True)
class Classified:
    """What came of images.

    Attributes:
        head: version and digest of the head that answered.
        source: the same for a reader.
        kept: the predictions; none where they were written to a file.
        failed: those with an error.
        count: images.
        out: the file.
    """

    head: dict[str, Any]
    source: str
    kept: Sequence[Prediction]
    failed: Sequence[Prediction]
    count: int
    out: Path | None


def classify(
    images: Sequence[Path], source: Source, top_k: int, out: Path | None, asked: Conditions = NOTHING
) -> Classified:
    """Classify images, and those in folders.

    Args:
        images: files and folders.
        source: who classifies.
        top_k: classes of each image.
        out: file for all predictions, whole or absent.
        asked: what else is asked of each image.

    Raises:
        BreadcrumbsError: none of them can be classified, or the file cannot be written; or what is asked cannot be.
    """
    asked.check()
    with contextlib.ExitStack() as stack:
        write = None if out is None else stack.enter_context(writing(out))
        files = _files(images)
        if source.bundle is not None:
            from breadcrumbs.classify.by_bundle import predict

            digest, coming = predict(source.bundle, files, top_k, source.max_pixels, asked)
            kept, failed = _collect(coming, len(files), write)
            head, words = {"version": None, "digest": digest}, str(source.bundle)
        else:
            server = Asked(stack.enter_context(Client(source.server, key=source.key)), top_k, asked)
            kept, failed = _collect(server.predict(files), len(files), write)
            head = {} if server.head is None else server.head.model_dump()
            words = f"head {head.get('version')}"
        if len(failed) == len(files):
            raise BreadcrumbsError(told(failed, len(files)))
    return Classified(head, words, kept, failed, len(files), out)


def _files(images: Sequence[Path]) -> list[Path]:
    """The images that are named, and those in folders that are named, in order of their paths."""
    found: list[Path] = []
    for path in images:
        if not path.is_dir():
            found.append(path)
            continue
        unused = Unused()
        own = sorted(walk(path, unused))
        for words in unused.sentences():
            print(f"{path}: {words}", file=sys.stderr)  # noqa: T201
        if not own:
            raise BreadcrumbsError(f"there is no image in {path}; expected JPEG, PNG or WebP files, at any depth")
        found += own
    return found


def _collect(
    coming: Iterator[Prediction], count: int, write: Write | None
) -> tuple[list[Prediction], list[Prediction]]:
    """Those with classes, unless they are written, and those with errors."""
    kept: list[Prediction] = []
    failed: list[Prediction] = []
    for one in track(coming, count, "images classified"):
        if write is not None:
            write(one)
        if one.error is not None:
            failed.append(one)
        elif write is None:
            kept.append(one)
    return kept, failed


def show(found: Classified, *, as_json: bool) -> None:
    """Print what was found: a line for each image, or where it was written."""
    done = found.count - len(found.failed)
    if as_json:
        result: dict[str, Any] = {"head": found.head, "errors": [one.as_dict() for one in found.failed]}
        if found.out is None:
            result["predictions"] = [one.as_dict() for one in found.kept]
        else:
            result |= {"out": str(found.out), "images": done}
        tell_json(result)
        return
    if found.out is not None:
        print(f"{found.out}: {done} image{'s' if done > 1 else ''} classified ({found.source})")  # noqa: T201
    for one in found.kept:
        words = "  ".join(f"{ranked['class']} {ranked['probability']:.3f}" for ranked in one.classes)
        sure = "" if one.node is None else f"  {one.node.rank}: {one.node.name} {one.node.probability:.3f}"
        known = "" if one.known is None else f"  known {one.known:.2f}"
        print(escaped(f"{one.name}  {words}{sure}{known}  ({found.source})"))  # noqa: T201
        for row in one.nearest or ():
            named = "  ".join(f"{name} {row[name]}" for name in ROW if row.get(name) not in {None, ""})
            print(escaped(f"    {row['distance']:.3f}  {row['class']}  {named}"))  # noqa: T201


def told(failed: Sequence[Prediction], count: int) -> str:
    """Which images have no classes, and why."""
    lines = [escaped(f"{one.name}: {one.error}") for one in failed[:SHOWN]]
    if count == 1:
        return lines[0]
    more = [f"… and {len(failed) - SHOWN} more"] if len(failed) > SHOWN else []
    return "\n".join([f"{len(failed)} of {count} images cannot be classified:", *lines, *more])
