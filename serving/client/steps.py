"""What a client does in several requests: many images or features, in as many parts as the server's limits ask for.

Each is a generator: it yields a call, gets the answer or the error, and returns what all answers say together; both
clients drive it. It knows nothing of connections.
"""

import base64
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ValidationError

from breadcrumbs.serving.client import answers, calls, example_calls
from breadcrumbs.serving.client.answers import Features
from breadcrumbs.serving.client.call import Call
from breadcrumbs.serving.client.feature_rows import rows_of
from breadcrumbs.serving.client.images import File, Image, Images, InputError, files
from breadcrumbs.serving.client.retries import ServerError
from breadcrumbs.serving.http.examples.schemas import LabelBody, LabelsResponse
from breadcrumbs.serving.http.schemas import PredictResponse
from breadcrumbs.serving.refusals import tell

Answer = TypeVar("Answer")
Steps = Generator[Call[Any], Any, Answer]
Labels = str | int | None | Sequence[str | int | None] | np.ndarray[Any, Any]
OVERHEAD = 1024
"""Bytes of a form around a file, at most."""


@dataclass(frozen=True)
class Done(Generic[Answer]):
    """What the last step returned."""

    answer: Answer


def advance(steps: Steps[Answer], answer: Any = None, error: ServerError | None = None) -> Call[Any] | Done[Answer]:
    """Return the next call, or what all of them came to; `answer` or `error` is what became of the last one."""
    try:
        return steps.send(answer) if error is None else steps.throw(error)
    except StopIteration as end:
        return Done(end.value)


class _Limits(BaseModel):
    max_images: int
    queue: int
    max_body_bytes: int


class _About(BaseModel):
    limits: _Limits


@dataclass(frozen=True)
class Bounds:
    """Of one request: images, and bytes with what is around them."""

    images: int
    size: int


USUAL = Bounds(64, 2**25)
"""What is sent without asking for the server's limits."""


def _bounds(data: bytes) -> Bounds:
    limits = _About.model_validate_json(data).limits
    return Bounds(min(limits.max_images, limits.queue), limits.max_body_bytes)


ASK: Call[Bounds] = Call("GET", "/v2", _bounds, repeatable=True)


def predict(
    images: Images, top_k: int = 5, head: str | int = "active", ref: str = "", *, prior: str | None = None,
    classes: Sequence[str] | None = None, confidence: float | None = None, known: bool = False, explain: int = 0,
    line: str | Sequence[str] | None = None,
) -> Steps[PredictResponse]:  # fmt: skip
    """Classify one image or several.

    More images than the server takes at once go in several requests, all answered by the head that answered the first.

    Args:
        images: a path, bytes, an open binary file, a PIL image, a uint8 array (H × W, H × W × 3, H × W × 4, or a batch
            N × H × W × 3), or several of these.
        top_k: classes per image.
        head: `active`, or a version.
        ref: your own name for them, remembered with the answers.
        prior: name of a stored prior, whose log is added to the logits.
        classes: names of the classes that can be there.
        confidence: probability of the deepest node to name; None: the server's.
        known: also tell how well each image is known.
        explain: nearest stored rows to name of each image; 0: none.
        line: that answers, or several, whose answers are in `lines`. None means the first one of the key, or the
            default one.

    Raises:
        InputError: an image is none of these, or cannot be read.
    """

    def ask(part: list[File], before: Sequence[PredictResponse]) -> Call[PredictResponse]:
        return calls.predict(part, {**asked, "head": _head(before, head)})

    asked = _parameters(top_k, ref, prior, classes, confidence, known=known, explain=explain, line=line)
    return answers.joined_predictions((yield from _asked(files(images), ask)))


def predict_features(
    features: ArrayLike, top_k: int = 5, head: str | int = "active", ref: str = "", *, prior: str | None = None,
    classes: Sequence[str] | None = None, confidence: float | None = None, known: bool = False, explain: int = 0,
    line: str | Sequence[str] | None = None,
) -> Steps[PredictResponse]:  # fmt: skip
    """Classify features that were computed elsewhere by the server's backbone: an array (N, D), or one vector (D,).

    More than the server takes at once go in several requests, as for `predict`.

    Args:
        features: what numpy can make an array of, a torch tensor on the CPU among it.
        top_k: classes per feature.
        head: `active`, or a version.
        ref, prior, classes, confidence, known, explain, line: as for `predict`.

    Raises:
        InputError: they are no array (N, D) of finite numbers.
    """
    array = rows_of(features)

    def ask(part: list[File], before: Sequence[PredictResponse]) -> Call[PredictResponse]:
        own = np.frombuffer(b"".join(data for _, data in part), np.float32).reshape(len(part), -1)
        return calls.predict_features(own, {**asked, "head": _head(before, head)})

    asked = _parameters(top_k, ref, prior, classes, confidence, known=known, explain=explain, line=line)
    rows = (("feature", row.tobytes()) for row in array)
    return answers.joined_predictions((yield from _asked(rows, ask)))


def _head(before: Sequence[PredictResponse], head: str | int) -> str | int:
    """The head that answers the next part: the one that answered the first; of several lines each has its own."""
    return before[0].head.version if before and before[0].lines is None else head


def _parameters(
    top_k: int,
    ref: str,
    prior: str | None,
    classes: Sequence[str] | None,
    confidence: float | None,
    *,
    known: bool,
    explain: int,
    line: str | Sequence[str] | None,
) -> dict[str, Any]:
    """The parameters of a predict request, those that are given."""
    if isinstance(classes, str):
        raise InputError(f"classes={classes!r:.80}: expected a list of names, got one text")
    names = None if classes is None else [*classes] or ""
    given = {"ref": ref or None, "prior": prior, "classes": names, "confidence": confidence}
    given |= {"known": known or None, "explain": explain or None}
    given |= {"line": line if line is None or isinstance(line, str) else [*line]}
    return {"top_k": top_k, **{name: value for name, value in given.items() if value is not None}}


def label(
    cls: str | int, answer: str | None = None, image: Image | None = None, feature: ArrayLike | None = None,
    by: str = "", verified: bool = False, ref: str = "",
) -> Steps[LabelsResponse]:  # fmt: skip
    """Say the class of an answer, of an image or of a feature, for later refits. `labels` sends many at once.

    Args:
        cls: class name, or index of a class of the live head.
        answer: id of a remembered answer; or
        image: one, as `predict` takes it; or
        feature: D numbers.
        by: who says so.
        verified: whether you vouch for it.
        ref: your own name for it.

    Raises:
        InputError: the image or the feature cannot be taken, or not one of the three is given.
    """
    if sum(one is not None for one in (answer, image, feature)) != 1:
        raise InputError("a label takes one of answer, image and feature")
    told: dict[str, Any] = {"class": cls, "by": by, "verified": verified, "ref": ref, "answer": answer}
    if image is not None:
        told["image"] = base64.b64encode(next(files(image))[1]).decode()
    if feature is not None:
        told["feature"] = rows_of(feature)[0].tolist()
    found: LabelsResponse = yield example_calls.labels([_body(told)])
    return found


def _body(told: dict[str, Any]) -> LabelBody:
    try:
        return LabelBody.model_validate(told)
    except ValidationError as error:
        raise InputError(f"a label: {tell(error)}") from error


def features(images: Images) -> Steps[Features]:
    """Return the features of one image or several, as `predict` takes them: an array float32 (N, D).

    Raises:
        InputError: as `predict`.
    """
    found = yield from _asked(files(images), lambda part, _: calls.features(part))
    backbones = {one.backbone for one in found}
    if len(backbones) > 1:
        raise ServerError("the server's backbone changed between two requests; ask again", kind="changed")
    return answers.joined_features(found)


def snapshot(
    images: Images, labels: Labels, epoch: int, ids: Sequence[int] | None = None, dataset: str = ""
) -> Steps[bytes]:
    """Return the bytes of a snapshot of images.

    Args:
        images: as for `predict`.
        labels: class names or indices, one an image; None for an image without a label.
        epoch: of the snapshot; larger is newer.
        ids: numbers of the images in their data set, one an image.
        dataset: sha256 of that data set; ids match only within one.

    Raises:
        InputError: as `predict`; or there are not as many labels or ids as images.
    """
    words, done = _words(labels), 0
    if ids is not None and len(ids) != len(words):
        raise InputError(f"{len(ids)} ids came for {len(words)} labels; expected one for each image")

    def ask(part: list[File], before: Sequence[bytes]) -> Call[bytes]:
        nonlocal done
        done = done + len(part) if before else len(part)
        if done > len(words):
            raise InputError(f"{len(words)} labels came for more images; expected one each")
        own = slice(done - len(part), done)
        return calls.snapshot(part, words[own], epoch, None if ids is None else [int(one) for one in ids[own]], dataset)

    found = yield from _asked(files(images), ask)
    if done < len(words):
        raise InputError(f"{len(words)} labels came for {done} images; expected one each")
    return answers.joined_snapshots(found)


def _words(labels: Labels) -> list[str | int | None]:
    """Labels as JSON takes them, numpy's numbers too."""
    if labels is None or isinstance(labels, (str, int, np.generic)):
        labels = [labels]  # of the one image
    return [label.item() if isinstance(label, np.generic) else label for label in labels]


def _asked(
    parts: Iterator[File], ask: Callable[[list[File], Sequence[Answer]], Call[Answer]]
) -> Generator[Call[Any], Any, list[Answer]]:
    """Ask about all files, in one request where that is possible; `ask` gets a part and the answers before it."""
    coming = _Coming(parts)
    part = coming.part(USUAL)
    refusal = None
    if not coming.files:
        try:
            return [(yield ask(part, []))]
        except ServerError as error:
            if error.status != 413 or len(part) == 1:
                raise
            refusal = error
    coming.put_back(part)
    bounds = yield ASK
    if refusal is not None and len(part) <= bounds.images and _size(part) <= bounds.size:
        raise refusal  # what is too large is not their number
    found: list[Answer] = []
    while coming.files:
        found.append((yield ask(coming.part(bounds), found)))
    return found


class _Coming:
    """The files that are still to be sent; the first of them are here already, so that their end is known."""

    def __init__(self, source: Iterator[File]) -> None:
        self._source = source
        self.files = deque(islice(source, 1))

    def part(self, bounds: Bounds) -> list[File]:
        """Take the next files that go in one request, at least one."""
        taken: list[File] = []
        size = 0
        while self.files:
            size += _size([self.files[0]])
            if taken and (len(taken) == bounds.images or size > bounds.size):
                break
            taken.append(self.files.popleft())
            if not self.files:
                self.files.extend(islice(self._source, 1))
        return taken

    def put_back(self, part: list[File]) -> None:
        """Take a part's files again, first."""
        self.files.extendleft(reversed(part))


def _size(part: list[File]) -> int:
    return sum(len(name.encode()) + len(data) + OVERHEAD for name, data in part)
