"""The labels of a request: from its JSON to what is kept, with the feature of each thing that is labelled.

A label names an answer, or brings an image or a feature. It knows nothing of how labels are kept.

Letters: D feature dimensions.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from fastapi import Request

from breadcrumbs.models.arrays import Floats
from breadcrumbs.serving.http.access_control import check_owner, check_right, key_of
from breadcrumbs.serving.http.base64_text import from_base64
from breadcrumbs.serving.http.disconnect import while_connected
from breadcrumbs.serving.http.examples.schemas import LabelBody
from breadcrumbs.serving.http.prediction.remembered import content_of
from breadcrumbs.serving.http.prediction.upload import check_takes_images
from breadcrumbs.serving.http.service import Service, line_of
from breadcrumbs.serving.learning.answer import Answer
from breadcrumbs.serving.learning.example import Label, Said, identity
from breadcrumbs.serving.learning.examples import Change
from breadcrumbs.serving.refusals import BadRequest, Forbidden, TooLarge
from breadcrumbs.training.data.class_names import plain

MOST = 10_000
"""Labels of a request, at most."""


class Known:
    """The classes of the live head, in whatever form of Unicode a client writes their names."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = classes

    def name(self, text: str) -> str:
        """Return the class's own name if it is one of these, else the text in composed form."""
        if text.isascii():  # which has one form only
            return text
        return self._forms.get(text) or self._forms.get(plain(text), plain(text))

    @cached_property
    def _forms(self) -> dict[str, str]:
        return {plain(name): name for name in self.classes} | {name: name for name in self.classes}


async def read(request: Request, service: Service, asked: Sequence[LabelBody]) -> list[Label]:
    """Return what a request wants to be kept, in order.

    Raises:
        TooLarge: there are more than `MOST`, or an image is too large.
        BadRequest: a label has none or several of answer, image and feature, or its class is none; the message says
            which label it is.
        NotFound, Expired: there is no such answer, or not any more.
        Forbidden: an answer is another key's, or a verified label takes another scope.
        ImageError: an image cannot be decoded; the message says which label it is of.
        Overloaded, EngineError: images cannot be computed now.
    """
    if len(asked) > MOST:
        raise TooLarge(f"the request has {len(asked)} labels; the limit is {MOST}: send them in several requests")
    for place, one in enumerate(asked):
        _check(one, _name(place))
    known = Known((await line_of(request, service)).head.head.classes)
    classes = [_class(known, one, place) for place, one in enumerate(asked)]
    if any(one.verified for one in asked):
        check_right(request, "refit", "a verified label")
    answers = await service.answers.find({one.answer for one in asked if one.answer is not None})
    for answer in answers.values():
        check_owner(request, () if answer.origin.owner is None else (answer.origin.owner,), f"answer {answer.id}")
    images = {place: _image(one.image, place, service) for place, one in enumerate(asked) if one.image is not None}
    computed = await _computed(request, service, images)
    labels = []
    for place, (name, one) in enumerate(zip(classes, asked, strict=True)):
        if one.answer is not None:
            labels.append(_of_answer(request, name, one, answers[one.answer]))
        elif one.image is not None:
            source = f"image:{content_of(images[place])}"
            labels.append(_of_content(request, service, name, one, source, computed[place]))
        else:
            feature = _feature(one.feature or [], place, service)
            labels.append(_of_content(request, service, name, one, f"feature:{content_of(feature)}", feature))
    await check_verified(request, service, labels)
    return labels


def _name(place: int) -> str:
    return f"label {place + 1}"


def _check(one: LabelBody, name: str) -> None:
    came = [word for word in ("answer", "image", "feature") if getattr(one, word) is not None]
    if len(came) != 1:
        raise BadRequest(f"{name}: expected one of answer, image and feature, got {' and '.join(came) or 'none'}")


def _image(text: str | None, place: int, service: Service) -> bytes:
    """The bytes of an image in base64."""
    check_takes_images(service)
    try:
        data = from_base64(text or "")
    except ValueError as error:
        raise BadRequest(f"{_name(place)}: its image is not base64: {error}") from error
    if not data:
        raise BadRequest(f"{_name(place)}: its image is empty")
    if len(data) > service.settings.max_image_bytes:
        limit = service.settings.max_image_bytes
        raise TooLarge(f"{_name(place)}: its image has {len(data)} bytes; the limit is {limit}")
    return data


async def _computed(request: Request, service: Service, images: Mapping[int, bytes]) -> dict[int, Floats]:
    """The features of images, by the place of their label; as many at once as a predict request may have."""
    places, found = list(images), dict[int, Floats]()
    most = min(service.settings.max_images, service.settings.queue)
    for start in range(0, len(places), most):
        some = places[start : start + most]
        names = [_name(place) for place in some]
        work = service.inference.run([images[place] for place in some], names=names)
        outcome = await while_connected(request, work)
        found |= {place: scores.feature for place, scores in zip(some, outcome.scores, strict=True)}
    return found


def _feature(values: Sequence[float], place: int, service: Service) -> Floats:
    """A feature (D,) as float32."""
    width = service.engine.feature_dim
    if len(values) != width:
        raise BadRequest(f"{_name(place)}: its feature has {len(values)} numbers; expected {width}")
    with np.errstate(over="ignore"):
        feature = np.array(values, np.float64).astype(np.float32)
    if not np.isfinite(feature).all():
        raise BadRequest(f"{_name(place)}: its feature is not finite as float32")
    return feature


def _of_answer(request: Request, name: str, one: LabelBody, answer: Answer) -> Label:
    origin = answer.origin
    said = Said(
        identity(origin.owner, origin.content), name, _author(request, one), one.verified,
        f"answer:{answer.id}", origin.content, one.ref or origin.ref, origin.backbone, origin.owner,
    )  # fmt: skip
    return Label(said, answer.feature)


def _of_content(request: Request, service: Service, name: str, one: LabelBody, source: str, feature: Floats) -> Label:
    key, content = key_of(request), source.partition(":")[2]
    owner = None if key is None else key.name
    said = Said(
        identity(owner, content), name, _author(request, one), one.verified, source, content,
        one.ref, service.bundle.backbone_digest, owner,
    )  # fmt: skip
    return Label(said, feature)


def of_image(request: Request, service: Service, known: Known, one: LabelBody, data: bytes, feature: Floats) -> Label:
    """Return what is kept of a label and of its image, which the request's key owns, with its feature (D,)."""
    return _of_content(request, service, _class(known, one, 0), one, f"image:{content_of(data)}", feature)


def may_verify(request: Request) -> bool:
    """Whether a request's labels may be verified ones."""
    key = key_of(request)
    return key is None or key.may("refit")


def _class(known: Known, one: LabelBody, place: int) -> str:
    """The name of a label's class; a number is an index into the known ones, of the live head."""
    if isinstance(one.cls, str):
        return known.name(one.cls)
    if not 0 <= one.cls < len(known.classes):
        raise BadRequest(f"{_name(place)}: class {one.cls}: expected 0 … {len(known.classes) - 1}, or a class name")
    return known.classes[one.cls]


def _author(request: Request, one: LabelBody) -> str:
    key = key_of(request)
    return one.by or ("" if key is None else key.name)


async def check_verified(request: Request, service: Service, labels: Sequence[Label]) -> None:
    """Refuse that a key without the scope `refit` replaces what somebody has verified."""
    if may_verify(request):
        return
    newest = await service.examples.newest()
    for place, label in enumerate(labels):
        known = newest.get(label.said.id)
        if known is not None and known.verified:
            raise Forbidden(f"{_name(place)}: its example {known.id} is verified; replacing it takes the scope refit")


async def keep(service: Service, labels: Sequence[Label]) -> list[Change]:
    """Store labels, count them, and return what each did.

    Raises:
        StoreError: the store cannot be read or written.
    """
    changes = await service.examples.add(labels)
    for label, change in zip(labels, changes, strict=True):
        service.metrics.labels.labels(change, "yes" if label.said.verified else "no").inc()
    return changes


async def unknown(request: Request, service: Service, labels: Sequence[Label]) -> list[str]:
    """Return the names among the labels that the live head does not know, in order."""
    known = set((await line_of(request, service)).head.head.classes)
    return list(dict.fromkeys(label.said.label for label in labels if label.said.label not in known))
