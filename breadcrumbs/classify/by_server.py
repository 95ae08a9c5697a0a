"""Predictions of a running server: as many images in a request as it takes, and one bad image does not stop the others.

It knows nothing of how predictions are shown.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from breadcrumbs.classify.conditions import NOTHING, Conditions
from breadcrumbs.classify.results import Prediction
from breadcrumbs.models.files import read_regular
from breadcrumbs.models.head import RankedClass
from breadcrumbs.models.lineages import SureNode
from breadcrumbs.serving.client.call import Call
from breadcrumbs.serving.client.client import Client, ServerError
from breadcrumbs.serving.http import schemas
from breadcrumbs.serving.http.schemas import HeadName, Ranked

ABOUT_THE_IMAGE = (413, 415, 422)
"""Statuses by which a server says that it cannot take an image, or not so many."""
BATCH = 32
"""Images in a request at most, however many the server takes."""
OVERHEAD = 1024
"""Bytes of a form around a file, at most."""


class _Limits(BaseModel):
    max_images: int = 1
    queue: int = 1
    max_image_bytes: int = 2**20
    max_body_bytes: int = 2**20


class _About(BaseModel):
    limits: _Limits = _Limits()


_ASK: Call[_About] = Call("GET", "/v2", _About.model_validate_json, repeatable=True)


@dataclass(frozen=True)
class _File:
    """An image's file, read; or why it cannot be."""

    path: Path
    data: bytes = b""
    error: str | None = None


class Asked:
    """Predictions as they are asked for, all by the head that answered the first.

    Args:
        client: of the server.
        top_k: classes of each image.
        asked: what else is asked of each.

    Attributes:
        head: which head answers; None until one has.
    """

    def __init__(self, client: Client, top_k: int, asked: Conditions = NOTHING) -> None:
        self._client, self._top_k, self._asked = client, top_k, asked
        self.head: HeadName | None = None

    def predict(self, images: Sequence[Path]) -> Iterator[Prediction]:
        """Yield the predictions of images, in order.

        Raises:
            ServerError: the server cannot be asked, or refuses for another reason than an image.
        """
        limits: _Limits | None = None
        part: list[_File] = []
        for path in images:
            if limits is None and path.exists():
                limits = self._client.send(_ASK).limits
            file = _read(path, 0 if limits is None else limits.max_image_bytes)
            if limits is not None and part and not _fits([*part, file], limits):
                yield from self._answers(part)
                part = []
            part.append(file)
        yield from self._answers(part)

    def _answers(self, part: Sequence[_File]) -> Iterator[Prediction]:
        """One request's answers; where the server refuses it, half of it is asked at a time."""
        good = [file for file in part if file.error is None]
        try:
            found = iter(self._ask(good) if good else ())
        except ServerError as error:
            if error.status not in ABOUT_THE_IMAGE or self._about_what_is_asked(error):
                raise
            if len(part) == 1:
                yield Prediction(part[0].path, error=str(error))
                return
            for half in (part[: len(part) // 2], part[len(part) // 2 :]):
                yield from self._answers(half)
            return
        for file in part:
            yield next(found) if file.error is None else Prediction(file.path, error=file.error)

    def _about_what_is_asked(self, error: ServerError) -> bool:
        """Whether every image would be refused: for a prior, a class or a confidence that cannot be."""
        return error.kind == "prior" or (error.kind == "bad_request" and self._asked != NOTHING)

    def _ask(self, files: Sequence[_File]) -> list[Prediction]:
        head = "active" if self.head is None else self.head.version
        asked = self._asked
        answer = self._client.predict(
            [file.data for file in files], self._top_k, head, prior=asked.prior, classes=asked.classes or None,
            confidence=asked.confidence, known=asked.known, explain=asked.explain, line=asked.line,
        )  # fmt: skip
        self.head = answer.head
        pairs = zip(files, answer.predictions, strict=True)
        return [
            Prediction(
                file.path, [_ranked(one) for one in given.classes], node=_node(given.node), known=given.known,
                nearest=given.nearest,
            )
            for file, given in pairs
        ]  # fmt: skip


def _ranked(one: Ranked) -> RankedClass:
    return {"class": one.name, "index": one.index, "probability": one.probability}


def _node(one: schemas.SureNode | None) -> SureNode | None:
    return None if one is None else SureNode(one.name, one.rank, one.probability)


def _read(path: Path, most: int) -> _File:
    try:
        size = path.stat().st_size
        if size > most:
            return _File(path, error=f"the file has {size} bytes; the server's limit is {most}")
        return _File(path, read_regular(path))
    except OSError as error:
        return _File(path, error=error.strerror or str(error))


def _fits(part: Sequence[_File], limits: _Limits) -> bool:
    size = sum(len(file.data) + OVERHEAD for file in part)
    return len(part) <= min(limits.max_images, limits.queue, BATCH) and size <= limits.max_body_bytes
